"""Files of ours with random bytes flipped, cut out or put in: each is read, or refused in one sentence.

`python -m tests.soak` tries 2,000 of each kind.
"""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.stores.mapped import ImageStore
from tests.conftest import toy_options, train_here, write_images
from tests.test_option_mutations import refusal
from utils.evaluation.evaluate import ImageResult
from utils.options.load import load
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.report.tasks import Task
from utils.runs import checkpoints
from utils.runs.history import changes
from utils.runs.journal import Image, Journal

PARTS = {"G": b"weights", "E": b"average", "state": b"state"}
PIXELS = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)


@dataclass
class Target:
    """A file, its content, and what reads it: that returns, or raises a `UserError`."""

    path: Path
    content: bytes
    read: Callable[[], object]


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three changes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randint(0, len(data)), rng.choice([1, 1, 1, 2, 10, len(content)])
        kind = rng.choice(["flip", "flip", "cut", "insert"])
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = rng.randbytes(min(length, 10)) if rng.random() < 0.5 else content[:length]
    return bytes(data)


def write_metrics(task: Path) -> Journal:
    """Lines of each kind."""
    image = {"L_path": "a.png", "H_path": "b.png", "psnr": 30.0, "ssim": 0.9, "psnr_y": 31.0, "ssim_y": 0.91}
    journal = Journal(task / "metrics.jsonl")
    for step in range(1, 4):
        journal.write({"kind": "train", "epoch": 0, "iter": step, "lr": 1e-3, "l_g_L1": 0.25, "G_loss": 0.25})
        journal.write({"kind": "skipped", "epoch": 0, "iter": step, "crops": ["a.png[0:32, 0:32]"]})
        test = {"kind": "test", "iter": step, "dataset": "toy_test", "weights": "E", **image, "images": [image]}
        journal.write({key: value for key, value in test.items() if not key.endswith("_path")})
    return journal


def targets(folder: Path) -> dict[str, Target]:
    """One file of each kind, of a toy task."""
    raw = toy_options(write_images(folder / "HR"), root=folder / "runs")
    options = Options.model_validate(raw)
    task = options.task_folder
    task.mkdir(parents=True)
    option_file = folder / "toy.json"
    option_file.write_text(json.dumps(raw))
    options.save(task / "options.json")
    journal = write_metrics(task)
    checkpoints.save(options.models_folder, 5, PARTS)
    checkpoints.save(options.models_folder, 10, PARTS)
    store = folder / "store.u8"
    ImageStore(store, [PIXELS[0].shape] * 2).build(PIXELS.__getitem__, threads=1, title="toy")

    def refuse() -> None:
        if message := refusal(option_file):
            raise UserError(message.removeprefix("error: ").rstrip("\n"))

    def report_and_go_on(path: Path) -> None:
        with suppress(UserError):
            changes(path, options, step=5)
        load(path)

    def report() -> None:
        read = Task.read(task)
        assert read.iterations >= 0
        assert all(validation.results for validation in read.validations)

    def newest() -> None:
        step = checkpoints.newest(options.models_folder)
        assert step in {5, 10}
        assert all(
            checkpoints.part_path(options.models_folder, step or 0, part).read_bytes() == PARTS[part] for part in PARTS
        )

    def pixels() -> None:
        again = ImageStore(store, [PIXELS[0].shape] * 2)
        again.build(PIXELS.__getitem__, threads=1, title="toy")
        assert [again[index].shape for index in range(2)] == [PIXELS[0].shape] * 2
        assert store.stat().st_size == PIXELS.size

    reading: dict[str, tuple[Path, Callable[[], object]]] = {
        "option file": (option_file, refuse),
        "options.json": (task / "options.json", lambda: report_and_go_on(task / "options.json")),
        "metrics.jsonl": (journal.path, report),
        "manifest of a checkpoint": (checkpoints.manifest_path(options.models_folder, 10), newest),
        "store of pixels": (store, pixels),
    }
    return {kind: Target(path, path.read_bytes(), read) for kind, (path, read) in reading.items()}


KINDS = ["option file", "options.json", "metrics.jsonl", "manifest of a checkpoint", "store of pixels"]


def faults_of_reading(folder: Path, kind: str, *, count: int, seed: int) -> list[str]:
    """Spoil a file of one kind again and again; where it was neither read nor refused in one sentence, and why."""
    target, rng, found = targets(folder)[kind], random.Random(seed), []
    for _ in range(count):
        content = spoilt(target.content, rng)
        target.path.write_bytes(content)
        try:
            target.read()
        except UserError as error:
            first, *problems = "\n".join(map(str, error.args)).splitlines()
            if len(first) > 2000 or not all(line.startswith("  ") and len(line) < 1000 for line in problems):
                found.append(f"{kind}: {content[:300]!r}: {error}")
        except Exception as error:
            found.append(f"{kind}: {content[:300]!r}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_spoilt_bytes_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    assert faults_of_reading(tmp_path, kind, count=50, seed=0) == []


def test_a_store_of_another_size_is_made_again(tmp_path: Path) -> None:
    store = targets(tmp_path)["store of pixels"]
    store.path.write_bytes(store.content[:-1])
    store.read()
    assert store.path.read_bytes() == store.content


def test_lines_of_images_have_the_figures_of_results() -> None:
    assert set(Image.model_fields) == {field.name for field in fields(ImageResult)}


DAMAGE: dict[str, tuple[str, str]] = {
    "options.json": ("[1]", "damaged; without it the task goes on"),
    "metrics.jsonl": ('{"kind": "train"}\n', "line 1 is damaged; without that line the task goes on"),
    "timing.jsonl": ('{"iter": 1}\n', "line 1 is damaged; without that line the task goes on"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGE)
def test_a_task_with_a_damaged_record_names_it(
    name: str, raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw_options))
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=1", "train.checkpoint_save=1")
    content, sentence = DAMAGE[name]
    damaged = tmp_path / "runs" / "toy" / name
    damaged.write_text(content)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        train_here(monkeypatch, "--opt", file)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == f"error: {damaged}: {sentence}"
