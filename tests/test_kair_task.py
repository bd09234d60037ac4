"""A task folder that KAIR wrote is gone on with, and KAIR's files stay as they are."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.runs import Run, equal, errors, wait_until
from utils.runs import checkpoints

pytestmark = pytest.mark.slow

TYPE_NONE = {"train": {"distillation_type": "none", "checkpoint_save": 10}}


def kair_optimizer(state: Mapping[str, Any], *, reverse: bool) -> dict[str, Any]:
    """Adam's state as the PyTorch of KAIR's time wrote it: steps are integers; perhaps with parameters reversed."""
    numbers = sorted(state["state"], reverse=reverse)
    moments = {i: {**state["state"][n], "step": int(state["state"][n]["step"])} for i, n in enumerate(numbers)}
    return {"state": moments, "param_groups": [{"lr": 2e-4, "params": list(range(len(numbers)))}]}


def reversed_parameters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(reversed(list(weights.items())))


def as_kair(run: Run, *, steps: tuple[int, ...], reverse: bool = False) -> dict[str, bytes]:
    """Make a task's checkpoints KAIR's, and forget all else but its log; returns the files."""
    models, kept = run.models, run.models.with_name("kept")
    shutil.copytree(models, kept)
    log = (run.task / "train.log").read_bytes()
    shutil.rmtree(models)
    for path in run.task.iterdir():
        if path != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run.task / "train.log").write_bytes(log)
    (run.task / "options").mkdir()
    (run.task / "options" / "toy.json").write_text("{}")
    models.mkdir()
    for step in steps:
        for part in ("G", "E"):
            weights = torch.load(kept / f"{step}_{part}.pth", weights_only=True)
            torch.save(reversed_parameters(weights) if reverse else weights, models / f"{step}_{part}.pth")
        state = torch.load(kept / f"{step}_state.pth", weights_only=True)
        torch.save(kair_optimizer(state["optimizer"], reverse=reverse), models / f"{step}_optimizerG.pth")
    shutil.rmtree(kept)
    return contents(models)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_unchanged(models: Path, files: Mapping[str, bytes]) -> None:
    now = contents(models)
    assert {name: now.get(name) for name in files} == files


@pytest.mark.parametrize("reverse", [False, True])
def test_weights_average_and_adams_state_go_on_as_if_the_run_had_been_ours(reverse: bool, tmp_path: Path) -> None:
    run = Run(tmp_path, **TYPE_NONE)
    run.finish("train.total_iter=40")
    expected = run.results().parts
    files = as_kair(run, steps=(10, 20), reverse=reverse)
    run.finish("train.total_iter=40", "train.checkpoint_keep_last=1")
    output = run.output.read_text()
    assert "KAIR's checkpoint of iteration 20: weights, average, Adam's state; this resume is not exact" in output
    assert "continuing after iteration 20" in output
    assert equal(run.results().parts, expected)
    assert checkpoints.complete(run.models) == [40]
    assert_unchanged(run.models, files)
    assert not list(run.models.glob("*.cut_off"))


def test_a_run_that_is_killed_before_its_first_checkpoint_still_finds_kairs(tmp_path: Path) -> None:
    run = Run(tmp_path, **TYPE_NONE)
    run.finish("train.total_iter=20")
    files = as_kair(run, steps=(20,))  # one set, as our first save leaves it when it is killed
    process = run.start("train.total_iter=100000", "train.checkpoint_save=100000", "train.checkpoint_test=100000")
    assert wait_until(lambda: any(record["iter"] > 22 for record in run.records("train")), process)
    process.kill()
    process.join()
    assert_unchanged(run.models, files)
    run.finish("train.total_iter=30")
    assert "KAIR's checkpoint of iteration 20" in run.output.read_text()
    run.finish("train.total_iter=31")  # from our own now
    assert "KAIR" not in run.output.read_text()
    assert "continuing after iteration 30" in run.output.read_text()
    assert_unchanged(run.models, files)


def test_what_kair_did_not_keep_or_does_not_fit_begins_anew_and_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"distillation_type": "feature", "checkpoint_save": 10})
    run.finish("train.total_iter=20")
    as_kair(run, steps=(20,))
    (run.models / "20_E.pth").unlink()
    state = torch.load(run.models / "20_optimizerG.pth", weights_only=True)
    del state["state"][0], state["param_groups"][0]["params"][0]
    torch.save(state, run.models / "20_optimizerG.pth")
    run.finish("train.total_iter=21")
    assert "iteration 20: weights (anew: average, translators, Adam's state); " in run.output.read_text()
    assert {f"21_{part}.pth" for part in ("G", "E", "P", "state")} <= contents(run.models).keys()


def test_a_damaged_file_of_kair_ends_in_a_sentence(tmp_path: Path) -> None:
    run = Run(tmp_path, **TYPE_NONE)
    run.finish("train.total_iter=20")
    files = as_kair(run, steps=(10, 20))
    torn = run.models / "20_G.pth"
    torn.write_bytes(files["20_G.pth"][:1000])
    process = run.start("train.total_iter=30")
    process.join()
    assert process.exitcode == 2
    (error,) = errors(run)
    assert error.startswith(f"error: {torn}: not a readable checkpoint")
    assert "moved elsewhere" in error
    for path in run.models.glob("20_*"):
        path.rename(tmp_path / path.name)
    run.finish("train.total_iter=30")
    assert "KAIR's checkpoint of iteration 10" in run.output.read_text()
