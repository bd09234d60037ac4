"""Help and mistakes do not wait for PyTorch, and commands that moved still work under their old names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, toy_options, write_images

FOR_SOME_TASKS = {"timm", "torchvision", "spandrel", "matplotlib", "onnx", "huggingface_hub", "scipy", "pandas"}
SLOW_LIBRARIES = FOR_SOME_TASKS | {"torch", "tensorboard"}


def run(*arguments: str, folder: Path) -> tuple[int, set[str], str]:
    """Exit status of a command, the slow libraries that it imported, and all that it printed, in order."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, imported(done.stdout) & SLOW_LIBRARIES, done.stdout


def imported(said: str) -> set[str]:
    """The modules that `-X importtime` tells of."""
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def modules_with_a_command() -> list[str]:
    """All that `python -m` runs; commands that moved have a test of their own."""
    files = [
        path for top in ("benchmarks", "data", "model_zoo", "models", "utils") for path in (ROOT / top).rglob("*.py")
    ]
    texts = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8") for path in files}
    commands = [name for name, text in texts.items() if "__main__" in text and "argparse" in text]
    return sorted(name.removesuffix(".__main__") for name in commands)


@pytest.mark.parametrize(
    "command",
    [
        [str(ROOT / "main_train_student.py")],
        [str(ROOT / "main_test_swinir.py")],
        *(["-m", module] for module in modules_with_a_command()),
    ],
    ids=lambda command: command[-1].rpartition("/")[2],
)
def test_help_imports_nothing_slow_and_writes_nothing(command: list[str], tmp_path: Path) -> None:
    status, slow, said = run(*command, "-h", folder=tmp_path)
    assert status == 0, said
    assert "usage:" in said
    assert slow == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["main_train_student.py", "--opt", "options/demo/train_swinir_student.json", "--set", "tsak=x"], "tsak"),
        (["main_train_student.py", "--opt", "missing.json"], "missing.json"),
        (["main_test_swinir.py", "--folder_lq", "missing"], "missing"),
    ],
)
def test_mistakes_are_told_before_anything_slow_is_imported(arguments: list[str], message: str) -> None:
    status, slow, said = run(*arguments, folder=ROOT)
    assert status == 2
    assert message in next(line for line in said.splitlines() if line.startswith("error: "))
    assert slow == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("utils.export", "models.export"),
        ("utils.option_reference", "utils.options.reference"),
        ("models.summary", "models.inspect.summary"),
        ("models.translator_study", "models.inspect.translator_study"),
    ],
)
def test_commands_that_moved_say_where_they_went_and_work(old: str, new: str, tmp_path: Path) -> None:
    status, _, said = run("-m", old, "-h", folder=tmp_path)
    assert status == 0, said
    assert f"this command is now python -m {new}\n" in said
    assert f"usage: python -m {new} " in said


@pytest.mark.slow
def test_training_begins_without_libraries_that_it_does_not_need(tmp_path: Path) -> None:
    raw = toy_options(write_images(tmp_path / "HR"), root=tmp_path)
    raw["netG"]["drop_path_rate"] = 0
    raw["train"] |= {"distillation_type": "none", "total_iter": 2, "checkpoint_test": 2}
    (tmp_path / "toy.json").write_text(json.dumps(raw))
    status, _, said = run(str(ROOT / "main_train_student.py"), "--opt", "toy.json", folder=tmp_path)
    assert status == 0, said
    assert imported(said) >= {"torch", "models.training"}
    assert imported(said) & FOR_SOME_TASKS == set()
