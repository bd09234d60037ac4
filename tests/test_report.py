"""The report of finished tasks, and the summary of an option file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main_train_student
from tests.conftest import ROOT, make_image
from utils import report
from utils.evaluate import bicubic
from utils.images import read_image, to_image, to_tensor, unit_range
from utils.metrics import luma, psnr


def train(raw: dict[str, Any], file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps(raw))
    monkeypatch.setattr(sys, "argv", ["main_train_student.py", "--opt", str(file)])
    main_train_student.main()


def test_a_report_holds_every_task_and_the_bicubic_baseline(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("first", "second"):
        train(raw_options | {"task": task}, tmp_path / f"{task}.json", monkeypatch)
    capsys.readouterr()
    folders = [str(tmp_path / "runs" / task) for task in ("first", "second")]
    monkeypatch.setattr(sys, "argv", ["report", *folders, "--out", str(tmp_path / "report")])
    report.main()
    table = (tmp_path / "report" / "table.md").read_text()
    assert table in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["test set", "method", "PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "iterations", "seconds"]
    assert [row[1] for row in rows[2:]] == ["bicubic", "first", "second"]
    last = [json.loads(line) for line in (tmp_path / "runs" / "first" / "metrics.jsonl").read_text().splitlines()][-1]
    assert rows[3][4] == f"{last['psnr_y']:.2f}"
    assert rows[2][4] == f"{bicubic_psnr_y(Path(raw_options['datasets']['test']['dataroot_H'])):.2f}"
    for picture in ("curves.png", "comparison.png"):
        assert read_image(tmp_path / "report" / picture, channels=3).std() > 10


def bicubic_psnr_y(folder_H: Path) -> float:
    """The baseline, worked out once more from the images."""
    values = []
    for path in folder_H.iterdir():
        lr = read_image(folder_H.parent / "HR_LR_bicubic" / "X4" / f"{path.stem}x4.png", channels=3)
        image = to_image(bicubic(4)(unit_range(to_tensor(lr))[None])[0])
        values.append(psnr(luma(image), luma(read_image(path, channels=3)), border=4))
    return float(np.mean(values))


def test_the_window_is_where_the_images_differ_most() -> None:
    first = make_image(200, 300, seed=0)
    second = first.copy()
    second[120:180, 210:290] //= 2
    rows, columns = report.most_different_window([first, second])
    assert (rows.stop - rows.start, columns.stop - columns.start) == (96, 96)
    assert rows.start <= 120
    assert rows.stop >= 180
    assert columns.start <= 210
    assert columns.stop >= 290


def test_a_folder_without_records_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_code:
        report.main()
    assert exit_code.value.code == 2
    assert f"error: {tmp_path}: there is no metrics.jsonl with a validation" in capsys.readouterr().err


def test_the_summary_shows_the_counts_of_the_option_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models.summary", "--opt", "options/train_swinir_student.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    student, teacher = done.stdout.splitlines()[1:]
    assert student.split()[:3] == ["student", "988,959", "8.31%"]
    assert teacher.split()[:3] == ["teacher", "11,900,199", "100.00%"]
    assert float(student.split()[3]) == pytest.approx(12.67, abs=0.02)
