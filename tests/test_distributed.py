"""Several processes under torchrun on one machine: the losses of one, and faults of one that all of them survive."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from models.select_network import define_G
from tests.conftest import make_image
from tests.golden.fill import fill_
from tests.runs import Run, rank_pid, wait_until
from utils.imaging.io import write_image
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import LostProcessError
from utils.runs import checkpoints

pytestmark = pytest.mark.slow


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]], *, tolerance: float) -> None:
    assert [record["iter"] for record in found] == [record["iter"] for record in expected]
    for record, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            if isinstance(value, float):
                assert record[name] == pytest.approx(value, rel=tolerance), (record["iter"], name)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose losses do not depend on the number of processes."""
    delayed = {"start_feature_iter": 3, "end_feature_iter": 17, "G_optimizer_clipgrad": 0.5}
    options = {"balance_losses": True, "zoomed_inputs": True, "G_optimizer_lr": 1e-4}
    return Run(tmp_path, netG={"drop_path_rate": 0.0}, train={"total_iter": 20, **delayed, **options})


def test_two_processes_stopped_and_four_that_go_on_give_the_losses_of_one(run: Run) -> None:
    run.finish()
    expected = {kind: run.records(kind) for kind in ("train", "test")}
    run.reset()
    two = run.torchrun(2)
    assert wait_until(lambda: len(run.records("train")) >= 2, two)
    two.send_signal(signal.SIGTERM)  # torchrun hands it on to every process
    assert two.wait() == 1
    output = run.output.read_text()
    (saved,) = checkpoints.complete(run.models)[-1:]
    assert saved < 20, "stopped too late to show anything"
    assert f"stopped after iteration {saved} of toy, which is saved" in output
    assert [record["iter"] for record in run.records("train")] == list(range(1, saved + 1))
    four = run.torchrun(4)
    assert four.wait() == 0, run.output.read_text()
    assert_close(run.records("train"), expected["train"], tolerance=1e-5)
    assert_close(run.records("test"), expected["test"], tolerance=1e-3)


def test_features_alone_teach_two_processes_as_one(run: Run) -> None:
    """No loss uses the student's image, so its last layers have no gradient on any process."""
    off = ["G_lossfn_weight=0", "distill_lossfn_weight=0", "zoomed_inputs=false", "balance_losses=false"]
    always = ["start_feature_iter=0", "end_feature_iter=null", "total_iter=4"]
    alone = [f"train.{override}" for override in off + always]
    run.finish(*alone)
    expected = run.records("train")
    assert list(expected[0])[4:] == ["l_g_feature", "G_loss"]
    run.reset()
    assert run.torchrun(2, *alone).wait() == 0, run.output.read_text()
    assert_close(run.records("train"), expected, tolerance=1e-5)


def test_a_killed_rank_ends_all_and_torchrun_goes_on_from_the_last_checkpoint(run: Run) -> None:
    run.finish()
    expected = run.records("train")
    run.reset()
    torchrun = run.torchrun(2, restarts=2)
    for checkpoint in (5, 10):
        assert wait_until((run.models / f"{checkpoint}_checkpoint.json").exists, torchrun)
        assert wait_until(lambda: rank_pid(torchrun, 1), torchrun)
        pid = rank_pid(torchrun, 1)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert torchrun.wait() == 0
    output = run.output.read_text()
    assert "continuing after iteration" in output
    assert "process 0 does not reach the others; if one has ended" in output
    assert re.search(r"failed \(exitcode: (-9\) local_rank: 1|2\) local_rank: 0)", output)  # torchrun tells the first
    assert_close(run.records("train"), expected, tolerance=1e-5)


def test_a_fault_of_nccl_itself_is_not_taken_for_a_lost_process() -> None:
    fault = "NCCL error in: NCCLUtils.cpp:93, unhandled cuda error\nLast error:\nFailed to CUDA calloc async 4 bytes"
    for message, kind in ((fault, RuntimeError), ("Connection closed by peer", LostProcessError)):
        with pytest.raises(kind) as caught, dist.processes():
            raise RuntimeError(message)
        assert type(caught.value) is kind


def test_a_rank_that_sees_other_files_is_found_at_the_start(run: Run, tmp_path: Path) -> None:
    for rank, count in enumerate((6, 5)):
        for index in range(count):
            write_image(tmp_path / f"HR{rank}" / f"{index:04d}.png", make_image(48, 64, seed=index))
    torchrun = run.torchrun(2, f"datasets.train.dataroot_H={tmp_path}/HR{{rank}}")
    assert torchrun.wait() != 0
    output = run.output.read_text()
    assert "error: toy_train: process 0 sees 6 images (fingerprint " in output
    assert "but process 1 sees 5 images (fingerprint " in output
    assert not run.task.exists()


def test_all_begin_with_the_weights_of_the_main_process(run: Run, tmp_path: Path) -> None:
    options = Options.model_validate(json.loads(run.options.read_text()))
    for rank in range(2):
        torch.save(fill_(define_G(options), rank).state_dict(), tmp_path / f"G{rank}.pth")
    few = ("train.start_feature_iter=0", "train.total_iter=3")  # such weights amplify rounding
    run.finish(*few, f"path.pretrained_netG={tmp_path}/G0.pth")
    expected = run.records("train")
    run.reset()
    assert run.torchrun(2, *few, f"path.pretrained_netG={tmp_path}/G{{rank}}.pth").wait() == 0, run.output.read_text()
    assert_close(run.records("train"), expected, tolerance=1e-4)


def test_a_loss_that_is_nan_on_one_rank_is_skipped_by_all(run: Run, tmp_path: Path) -> None:
    raw = json.loads(run.options.read_text())
    raw["train"] |= {"start_distill_iter": 2, "max_bad_steps": 3, "checkpoint_save": 3}
    run.options.write_text(json.dumps(raw))
    (tmp_path / "teacher.pth").rename(tmp_path / "teacher0.pth")
    spoil(tmp_path / "teacher0.pth", tmp_path / "teacher1.pth")
    torchrun = run.torchrun(2, f"path.pretrained_netTeacher={tmp_path}/teacher{{rank}}.pth")
    assert torchrun.wait() != 0
    output = run.output.read_text()
    assert output.count("error: iteration 6: loss or gradient was infinite or NaN in 4 iterations in a row") == 1
    assert [record["iter"] for record in run.records("train")] == [1, 2]
    assert [(record["iter"], len(record["crops"])) for record in run.records("skipped")] == [
        (3, 4), (4, 4), (5, 4), (6, 4)
    ]  # fmt: skip
    assert all(weight.isfinite().all() for weight in run.results().parts["3_G.pth"].values())


def spoil(path: Path, target: Path) -> None:
    """Write weights whose images are so far from all others that the loss is infinite."""
    weights = torch.load(path)
    weights["upsample.0.bias"].fill_(3e38)
    torch.save(weights, target)
