"""What a run says and measures before its first iteration: its plan, its start, its teacher, and what looks wrong."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from models.select_network import define_G, define_teacher
from tests.conftest import ROOT, make_image, train_here
from tests.golden.fill import fill_
from tests.reports import make_report, plain, tables
from tests.runs import Run, wait_until
from utils.imaging.io import write_image
from utils.options.schema import Options

pytestmark = pytest.mark.slow

SHIPPED = ROOT / "model_zoo/swinir_student_x4/swinir_student_x4.safetensors"


@pytest.fixture
def student(raw_options: dict[str, Any], tmp_path: Path) -> str:
    """Weights of the toy student."""
    path = tmp_path / "student.pth"
    torch.save(define_G(Options.model_validate(raw_options)).state_dict(), path)
    return str(path)


def run(raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **train: Any) -> tuple[Path, str]:
    """The folder and the log of a task."""
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw | {"train": raw["train"] | train}))
    train_here(monkeypatch, "--opt", file)
    folder = Path(raw["path"]["root"]) / raw["task"]
    return folder, (folder / "train.log").read_text()


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_start_and_its_teacher_are_validated_and_are_rows_of_the_report(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The student is its own teacher, so that both have to come to the same figures.
    raw_options["path"] |= {"pretrained_netG": str(SHIPPED), "pretrained_netTeacher": str(SHIPPED)}
    raw_options["netG"] = {"net_type": "swinir_student", "img_size": 48, "mlp_ratio": 2, "upsampler": "pixelshuffle"}
    del raw_options["netTeacher"]
    spoilt = {"G_optimizer_lr": 1.0, "E_decay": 0.0, "checkpoint_test": 10}  # so that it is worse in the end
    folder, log = run(raw_options, tmp_path, monkeypatch, distillation_type="response", **spoilt)
    teacher, start_G, start_E, *_ = records(folder)
    assert [(r["kind"], r["iter"]) for r in (teacher, start_G, start_E)] == [("teacher", 0), ("test", 0), ("test", 0)]
    assert teacher["images"] == start_G["images"] == start_E["images"]
    assert len(teacher["images"]) == 6
    assert f"toy_test: the teacher has {teacher['psnr']:.2f} dB, on Y {teacher['psnr_y']:.2f} dB" in log
    assert "may lose by learning" not in log
    page, table = make_report(tmp_path / "report", folder)
    assert "averaged weights" not in table  # which here are the student itself
    assert table.split("\n")[0].endswith(f" of training. The start has more, {teacher['psnr_y']:.2f} dB.")
    rows = {row["method"]: row for row in tables(table)[0]}
    assert list(rows) == ["bicubic", "start", "toy", "teacher"]
    assert plain(rows["start"]["PSNR_Y"]) == rows["teacher"]["PSNR_Y"] == f"{teacher['psnr_y']:.2f}"
    assert [rows[name]["iterations"] for name in rows] == ["-", "0", "10", "-"]
    assert ">start<" in page


def test_a_teacher_that_is_worse_than_the_start_is_told(
    raw_options: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = define_teacher(Options.model_validate(raw_options))
    torch.save(fill_(teacher, 1).state_dict(), tmp_path / "teacher.pth")  # which makes noise
    raw_options["path"] |= {"pretrained_netG": student, "pretrained_netTeacher": str(tmp_path / "teacher.pth")}
    write_image(tmp_path / "Small" / "0.png", make_image(48, 64, seed=9))
    raw_options["datasets"]["test_small"] = {"name": "small", "dataroot_H": str(tmp_path / "Small")}
    folder, log = run(raw_options, tmp_path, monkeypatch, distillation_type="response", total_iter=1)
    taught, *_, start = [record for record in records(folder) if record["iter"] == 0]
    assert taught["dataset"] == start["dataset"] == "small"  # not the first test set, which is larger
    sentence = (
        f"the student starts with {start['psnr_y']:.2f} dB (Y) and its teacher has only {taught['psnr_y']:.2f} dB"
    )
    assert log.count(f"on small, {sentence}: the student may lose by learning from it") == 1


def test_weights_from_chance_are_not_validated_and_a_teacher_that_is_not_used_is_told(
    raw_options: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_options["path"]["pretrained_netTeacher"] = student
    folder, log = run(raw_options, tmp_path, monkeypatch)
    assert records(folder)[0]["iter"] == 1
    assert f"teacher : none: train.distillation_type is 'none', so {student} is not used" in log


def test_a_run_that_was_killed_before_its_first_checkpoint_judges_its_start_once(tmp_path: Path) -> None:
    killed = Run(tmp_path, train={"total_iter": 10**6, "checkpoint_save": 10**6, "checkpoint_test": 10**6})
    student = tmp_path / "student.pth"
    torch.save(define_G(Options.model_validate(json.loads(killed.options.read_text()))).state_dict(), student)
    start = f"path.pretrained_netG={student}"
    process = killed.start(start)
    assert wait_until(lambda: len(killed.records("train")) >= 3, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    killed.finish(start, "train.total_iter=2")
    assert len(killed.records("teacher")) == 1
    assert [(r["iter"], r["weights"]) for r in killed.records("test")] == [(0, "G"), (0, "E"), (2, "G"), (2, "E")]
    assert (killed.task / "train.log").read_text().count("iter:       0, Average PSNR") == 1


@pytest.mark.parametrize(("decay", "told"), [(0.9, True), (0.7, False), (0, False)])
def test_an_average_that_is_mostly_the_start_is_told(
    decay: float, told: bool, raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, log = run(raw_options, tmp_path, monkeypatch, E_decay=decay)
    sentence = (
        "train.E_decay: after 10 iterations, an average with a decay of 0.9 is still 35% the start; for so few, 0.7411"
    )
    assert log.count("train.E_decay: ") == log.count(sentence) == int(told)
    caution = "toy: after 10 iterations with train.E_decay 0.9, 35% of the averaged weights are still the start."
    assert (caution in make_report(tmp_path / "report", folder)[1]) == told


@pytest.mark.parametrize("balance", [False, True])
def test_a_loss_that_drowns_the_ground_truth_is_told_once(
    balance: bool, raw_options: dict[str, Any], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_options["path"]["pretrained_netTeacher"] = student
    raw_options["netTeacher"] = raw_options["netG"]
    weights = {"distill_lossfn_weight": 0.0, "feature_lossfn_weight": 1e4, "feature_pairs": [[0, 0], [1, 1]]}
    settings: dict[str, Any] = {"distillation_type": "feature", "balance_losses": balance, **weights}
    folder, log = run(raw_options, tmp_path, monkeypatch, **settings)
    first = next(record for record in records(folder) if record["kind"] == "train")
    times = f"{1e4 * first['l_g_feature'] / first['l_g_L1']:,.0f}"
    sentence = f"l_g_feature counts {times} times as much as l_g_L1: lower its weight, or set train.balance_losses"
    assert log.count("times as much as l_g_L1") == log.count(sentence) == int(not balance)
