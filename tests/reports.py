"""Three finished tasks and their report, for the tests of reports."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import main_train_student
from models.select_network import define_teacher
from tests.conftest import toy_options, write_images
from tests.golden.fill import fill_
from utils.imaging.io import read_image, write_image
from utils.options.schema import Options
from utils.report import __main__ as report

TASKS = ("alone_seed0", "alone_seed1", "feature")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three finished tasks: two seeds of one method, and feature distillation."""
    folder = tmp_path_factory.mktemp("report")
    raw = toy_options(write_images(folder / "HR"), root=folder / "runs")
    raw["path"]["pretrained_netTeacher"] = str(folder / "teacher.pth")
    torch.save(fill_(define_teacher(Options.model_validate(raw)), 1).state_dict(), folder / "teacher.pth")
    changes: list[dict[str, Any]] = [{}, {"manual_seed": 1}, {"distillation_type": "feature"}]
    with pytest.MonkeyPatch.context() as patch:
        for task, change in zip(TASKS, changes, strict=True):
            file = folder / f"{task}.json"
            file.write_text(json.dumps(raw | {"task": task, "train": raw["train"] | change}))
            patch.setattr(sys, "argv", ["main_train_student.py", "--opt", str(file)])
            main_train_student.main()
    return folder / "runs"


def make_report(out: Path, *folders: Path) -> tuple[str, str]:
    """The page and the Markdown of a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["report", *map(str, folders), "--out", str(out)])
        report.main()
    return (out / "index.html").read_text(), (out / "table.md").read_text()


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a text, each row by column."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    cells = [[[cell.strip() for cell in line.strip("|").split("|")] for line in lines] for lines in blocks]
    return [[dict(zip(lines[0], line, strict=True)) for line in lines[2:]] for lines in cells]


def plain(cell: str) -> str:
    """A cell without the bold of the best."""
    return cell.strip("*")


def last_psnr_y(folder: Path) -> list[float]:
    """PSNR on Y by image at the last validation of E."""
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["weights"] == "E"
    return [image["psnr_y"] for image in last["images"]]


def other_image(path: str, folder: Path) -> str:
    """The path of a copy in another folder whose first pixel is another."""
    image = read_image(Path(path), channels=3)
    image[0, 0, 0] ^= 1
    write_image(folder / Path(path).name, image)
    return str(folder / Path(path).name)


def change_options(task: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the option file of a task."""
    raw = json.loads((task / "options.json").read_text())
    change(raw)
    (task / "options.json").write_text(json.dumps(raw))


@pytest.fixture(scope="module")
def whole(runs: Path) -> Path:
    """The folder of the report of all three tasks."""
    make_report(runs.parent / "report", *(runs / task for task in TASKS))
    return runs.parent / "report"
