"""What a report compares and what it keeps apart: methods, test sets, results of the test script, options."""

import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main_test_swinir
from tests.conftest import train_here
from tests.reports import TASKS, change_options, last_psnr_y, make_report, other_image, plain, runs, tables, whole

pytestmark = pytest.mark.slow

__all__ = ["runs", "whole"]  # the fixtures


def test_the_page_begins_with_its_conclusion_and_marks_the_best(runs: Path, whole: Path) -> None:
    text = (whole / "table.md").read_text()
    means = {"feature": np.mean(last_psnr_y(runs / "feature"))}
    means["alone_seed*"] = np.mean([last_psnr_y(runs / task) for task in TASKS[:2]])
    (best, value), (other, second) = sorted(means.items(), key=lambda of_method: -of_method[1])
    start = f"{best} has the best PSNR_Y, {value:.2f} dB on toy_test: {value - second:.3f} dB above {other}, the next"
    assert text.startswith(start)
    assert re.search(r"after 10 iterations in \d+ s of training", text.splitlines()[0])
    page = (whole / "index.html").read_text()
    assert page.index(start) < page.index("<h2>")
    figures = tables(text)[0]
    assert list(figures[0])[:3] == ["test set", "method", "PSNR_Y"]
    for column in ("PSNR_Y", "SSIM_Y", "PSNR", "SSIM"):
        numbers = [float(plain(row[column]).split()[0]) for row in figures]
        assert [row[column].startswith("**") for row in figures] == [number == max(numbers) for number in numbers]
        assert all(f"<strong>{plain(row[column])}</strong>" in page for row in figures if "**" in row[column])


def of_degradation(runs: Path, target: Path, **test: Any) -> Path:
    """A copy of a task that says to have been judged on other degradations of the same images, at scale 1."""
    shutil.copytree(runs / "alone_seed0", target)

    def change(raw: dict[str, Any]) -> None:
        raw |= {"task": target.name, "scale": 1}
        for network in ("netG", "netTeacher"):
            raw[network] |= {"upsampler": "", "upscale": 1}
        raw["datasets"]["train"] |= test
        raw["datasets"]["test"] |= test

    change_options(target, change)
    return target


def test_what_was_measured_otherwise_stands_in_tables_of_its_own(runs: Path, tmp_path: Path) -> None:
    weak = of_degradation(runs, tmp_path / "weak", dataset_type="dncnn", sigma=5)
    strong = of_degradation(runs, tmp_path / "strong", dataset_type="dncnn", sigma=50)
    jpeg = of_degradation(runs, tmp_path / "jpeg", dataset_type="jpeg", quality_factor=10)
    page, text = make_report(tmp_path / "report", runs / "alone_seed0", weak, strong, jpeg)
    of_sr, of_weak, of_strong, of_jpeg, *_ = tables(text)
    assert [row["method"] for row in of_sr] == ["bicubic", "alone_seed0"]
    for rows, task in ((of_weak, "weak"), (of_strong, "strong"), (of_jpeg, "jpeg")):
        assert [row["method"] for row in rows] == ["degraded image", task]
    noise = {name: float(plain(rows[0]["PSNR"])) for name, rows in (("weak", of_weak), ("strong", of_strong))}
    assert noise["weak"] == pytest.approx(20 * np.log10(255 / 5), abs=0.5)
    assert noise["strong"] < 16
    assert "Difference to" not in text
    for title in (
        "x4, LR images made by bicubic, RGB, 4 pixels",
        "noise of 50 grey levels, RGB, no",
        "JPEG of quality 10",
    ):
        assert f"<h2>Results: {title}" in page


def rename(raw: dict[str, Any], *, task: str, dataset: str) -> None:
    """Give an option file's task and its test set other names."""
    raw["task"] = task
    raw["datasets"]["test"]["name"] = dataset


def test_a_set_is_known_by_its_images_and_not_by_its_name_and_folder(runs: Path, tmp_path: Path) -> None:
    folder_H = runs.parent / "HR"
    moved, other = (tmp_path / name for name in ("moved", "other"))
    for task in (moved, other):
        shutil.copytree(runs / "alone_seed0", task)
    shutil.copytree(folder_H, tmp_path / "elsewhere")
    for path in folder_H.iterdir():
        other_image(str(path), tmp_path / "changed")
    for task, folder, name in ((moved, "elsewhere", "same"), (other, "changed", "toy_test")):
        text = (task / "metrics.jsonl").read_text().replace(f"{folder_H}/", f"{tmp_path / folder}/")
        (task / "metrics.jsonl").write_text(text.replace("toy_test", name))
        change_options(task, partial(rename, task=task.name, dataset=name))
    _, text = make_report(tmp_path / "report", runs / "alone_seed0", moved, other)
    joined, differences, apart, *_ = tables(text)
    assert [row["method"] for row in joined] == ["bicubic", "alone_seed0", "moved"]
    assert {row["test set"] for row in joined} == {"toy_test"}
    assert [row["method"] for row in differences] == ["moved"]
    assert plain(differences[0]["PSNR_Y"]) == "+0.000", "nothing varies, so there is no interval"
    assert [row["method"] for row in apart] == ["bicubic", "other"]
    assert f"; images of {tmp_path / 'changed'}:" in text


def test_few_images_are_told_to_have_no_interval(runs: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("alone_seed0", "feature"):
        folders.append(tmp_path / name)
        shutil.copytree(runs / name, folders[-1])
        records = [json.loads(line) for line in (folders[-1] / "metrics.jsonl").read_text().splitlines()]
        few = [record | ({"images": record["images"][:3]} if "images" in record else {}) for record in records]
        (folders[-1] / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in few))
    _, text = make_report(tmp_path / "report", *folders)
    assert "(3 images, one run: no interval)" in text.splitlines()[0]
    (row,) = tables(text)[1]
    assert row["over"] == "3 images, one run: no interval"
    assert re.fullmatch(r"[+-]\d\.\d{3}", row["PSNR_Y"])


def test_options_that_a_resumed_run_changed_are_told(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = json.loads((runs / "alone_seed0" / "options.json").read_text()) | {"task": "changed"}
    raw["train"] |= {"total_iter": 5}
    (tmp_path / "changed.json").write_text(json.dumps(raw))
    train_here(monkeypatch, "--opt", tmp_path / "changed.json")
    longer = ("train.total_iter=10", "train.G_optimizer_lr=0.0001")
    train_here(monkeypatch, "--opt", tmp_path / "changed.json", "--set", *longer)
    page, text = make_report(tmp_path / "report", runs / "alone_seed0", runs / "changed")
    differs = {row["option"]: row["changed"] for row in tables(text)[2]}
    assert differs["train.total_iter"] == "5 until iteration 5, then 10"
    assert differs["train.G_optimizer_lr"] == "0.001 until iteration 5, then 0.0001"
    assert "after iteration 5: <code>train.G_optimizer_lr</code>: 0.001, then 0.0001" in page
    _, text = make_report(tmp_path / "report", runs / "changed")
    assert {row["option"] for row in tables(text)[1]} == {"train.total_iter", "train.G_optimizer_lr"}


@pytest.fixture
def tested(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what the test script finds of the first task's weights on its own images."""
    model = runs / "alone_seed0" / "models" / "10_E.pth"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test", "--model_path", str(model), "--folder_gt", str(runs.parent / "HR")])
    main_test_swinir.main()
    return tmp_path / "results" / "alone_seed0_10_E_lightweight_sr_x4"


def test_results_of_the_test_script_are_rows(runs: Path, tested: Path, tmp_path: Path) -> None:
    (file,) = tested.glob("*/results.json")
    for path in (tested, file.parent, file):
        page, text = make_report(tmp_path / "report", runs / "alone_seed0", path)
        figures, differences, *_ = tables(text)
        assert [row["method"] for row in figures] == ["bicubic", "alone_seed0", tested.name]
        assert figures[1]["PSNR_Y"] == figures[2]["PSNR_Y"]
        assert (differences[0]["method"], differences[0]["PSNR_Y"]) == (tested.name, "+0.000")
        assert f"<summary>{tested.name}: results of the test script</summary>" in page
    assert len(list((tmp_path / "report" / "figures").glob(f"*_{tested.name}.png"))) == 3
    _, text = make_report(tmp_path / "alone", tested)
    assert [row["method"] for row in tables(text)[0]] == ["bicubic", tested.name]


def test_older_results_are_read_and_stand_alone(
    runs: Path, tested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = tested.glob("*/results.json")
    content = json.loads(file.read_text())
    old = {key: value for key, value in content.items() if key not in {"border", "folder_lq", "folder_gt", "seconds"}}
    images = {
        name: {key: value for key, value in figures.items() if not key.endswith("path")}
        for name, figures in content["images"].items()
    }
    file.write_text(json.dumps(old | {"images": images}))
    _, text = make_report(tmp_path / "report", runs / "alone_seed0", tested)
    _, alone, *_ = tables(text)
    assert [row["method"] for row in alone] == [tested.name]
    assert "x4, LR images of unknown origin, RGB, 4 pixels of border left out:" in text
    file.write_text(json.dumps(old | {"images": {}, "average": {}}))
    with pytest.raises(SystemExit):
        make_report(tmp_path / "report", tested)
    assert f"error: {file}: it holds no figures" in capsys.readouterr().err


def with_second_set(task: Path, target: Path, *, gain: float) -> Path:
    """A copy of a task that was judged on a second test set as well, where each PSNR on Y was `gain` dB higher.

    Its images differ from the first's in one pixel.
    """
    shutil.copytree(task, target)
    records = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    for record in [record for record in records if "dataset" in record]:
        images = [
            image | {"psnr_y": image["psnr_y"] + gain, "H_path": other_image(image["H_path"], target.parent / "HR_2")}
            for image in record["images"]
        ]
        records.append(record | {"dataset": "second_test", "images": images})
    (target / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    change_options(target, lambda raw: raw["datasets"].update(test_2=raw["datasets"]["test"] | {"name": "second_test"}))
    return target


def test_several_test_sets_have_a_mean(runs: Path, tmp_path: Path) -> None:
    first = with_second_set(runs / "alone_seed0", tmp_path / "first", gain=0)
    other = with_second_set(runs / "feature", tmp_path / "other", gain=3)
    _, text = make_report(tmp_path / "report", first, other)
    figures, differences, *_ = tables(text)
    last = "mean of 2 sets"
    assert [row["test set"] for row in figures] == [*["toy_test"] * 4, *["second_test"] * 4, *[last] * 4]
    assert figures[-4]["PSNR_Y"] == figures[0]["PSNR_Y"]
    assert plain(figures[-2]["PSNR_Y"]) == f"{np.mean(last_psnr_y(runs / 'feature')) + 1.5:.2f}"
    assert [(row["test set"], row["over"]) for row in differences] == [
        ("toy_test", "6 images, one run"), ("second_test", "6 images, one run"), (last, "12 images, one run"),
    ]  # fmt: skip
    alone, _, mean = (float(row["PSNR_Y"].split()[0]) for row in differences)
    assert mean == pytest.approx(alone + 1.5, abs=2e-3)
    shutil.rmtree(other)
    shutil.copytree(runs / "feature", other)
    figures, *_ = tables(make_report(tmp_path / "report", first, other)[1])
    assert [row["method"] for row in figures if row["test set"] == last] == ["bicubic", "alone_seed0"]
