"""Sets of checkpoint files: whole or nothing, checked when they are read, and kept or deleted as asked."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tests.runs import Disk, Run
from tests.soak import damage
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.weights import serialized

PARTS = {
    "G": serialized({"w": torch.arange(6.0)}),
    "E": serialized({"w": torch.ones(6)}),
    "state": serialized({"bad_steps": 0}),
}


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoints.save(folder, step, PARTS)


def test_a_new_folder_has_none(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "models") is None


def test_the_newest_is_found_by_number_and_leaves_no_other_files(tmp_path: Path) -> None:
    (tmp_path / "5_G.pth.partial").write_bytes(b"of a save that was killed")
    save(tmp_path, 9, 10)
    assert checkpoints.newest(tmp_path) == 10
    assert sorted(path.name for path in tmp_path.glob("9*")) == [
        "9_E.pth", "9_G.pth", "9_checkpoint.json", "9_state.pth"
    ]  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("missing", ["10_G.pth", "10_state.pth", "10_checkpoint.json"])
def test_a_set_that_lacks_a_file_is_passed_over_and_reported(
    missing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5, 10)
    (tmp_path / missing).unlink()
    assert checkpoints.newest(tmp_path) == 5
    assert "passing over the checkpoint of iteration 10: " in caplog.text
    assert missing in caplog.text


def test_any_damaged_byte_and_any_truncation_is_noticed(tmp_path: Path) -> None:
    outcome = damage(tmp_path, count=60, seed=0)
    assert (outcome.injected, outcome.lost) == (60, [])


def test_only_a_first_save_that_was_cut_off_lets_a_task_start_anew(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "5_checkpoint.json").unlink()
    (tmp_path / "best_G.pth").touch()
    (tmp_path / "10_G.pth").touch()
    with pytest.raises(UserError, match="no checkpoint is complete and intact"):
        checkpoints.newest(tmp_path)
    (tmp_path / "10_G.pth").unlink()
    assert checkpoints.newest(tmp_path) is None
    save(tmp_path, 5)
    (tmp_path / "5_G.pth").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint is complete and intact"):
        checkpoints.newest(tmp_path)


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_was_saved(tmp_path: Path) -> None:
    run = Run(tmp_path, path={"root": str(tmp_path / "disk")}, train={"total_iter": 20})
    run.finish()
    expected = run.results()
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(Disk(tmp_path / "disk", kilobytes=5 * run.checkpoint_size() // 2000))
        except OSError as error:
            pytest.skip(f"a small disk cannot be mounted: {error}")
        process = run.start()
        process.join()
        assert process.exitcode == 2
        message = run.output.read_text().splitlines()[-1]
        assert re.match(r"error: .*cannot be written \(.*No space left on device\)", message), message
        assert checkpoints.newest(run.models) in {5, 10}
        assert sorted({int(path.name.partition("_")[0]) for path in run.models.iterdir()}) in ([5], [5, 10])
        disk.enlarge()
        run.finish()
        assert expected.differences(run.results()) == []


@pytest.mark.slow
def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    too_fast = {"G_optimizer_lr": 0.02, "E_decay": 0.0}
    kept = {"checkpoint_save": 4, "checkpoint_test": 3, "checkpoint_keep_last": 1, "checkpoint_keep_best": "psnr_y"}
    run = Run(tmp_path, train={"total_iter": 12, **kept, **too_fast})
    run.finish()
    validated = {record["iter"]: record["psnr_y"] for record in run.records("test") if record["weights"] == "E"}
    best = max(validated, key=lambda step: validated[step])
    assert best in {3, 6, 9}, "at which there is no regular checkpoint"
    assert checkpoints.complete(run.models) == [best, 12]
    assert len(list(run.models.iterdir())) == 10


def test_what_a_first_save_left_is_set_aside_when_the_run_starts_anew(tmp_path: Path) -> None:
    for step in (3, 5):  # each killed before its manifest was written
        save(tmp_path, step)
        checkpoints.manifest_path(tmp_path, step).unlink()
        assert checkpoints.newest(tmp_path) is None  # and the next one to be cut off does not look like damage
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{step}_{part}.pth.cut_off" for step in (3, 5) for part in PARTS
    }


@pytest.mark.parametrize("kept", [["E"], ["E", "state"], ["G", "state"]])
def test_weights_that_someone_kept_are_no_first_save(kept: list[str], tmp_path: Path) -> None:
    save(tmp_path, 5)
    for part in {"checkpoint.json", *(f"{part}.pth" for part in PARTS.keys() - set(kept))}:
        (tmp_path / f"5_{part}").unlink()
    with pytest.raises(UserError, match="no checkpoint is complete and intact"):
        checkpoints.newest(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"5_{part}.pth" for part in kept}
