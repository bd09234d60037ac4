"""A run that is killed again and again ends as if it had been left alone."""

from pathlib import Path

import pytest

from tests.runs import Run, kair_lines
from tests.soak import kill, poison, train_poisoned
from utils.runs.journal import Journal

pytestmark = pytest.mark.slow


def test_kills_change_nothing(tmp_path: Path) -> None:
    """At least one in a save, one while a store is built and one elsewhere; `make soak` kills 200 times."""
    outcome = kill(tmp_path, count=6, seed=0, iterations=20)
    assert outcome.lost == []
    assert outcome.injected >= 6


def test_a_run_resumes_from_the_last_checkpoint_that_is_intact(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 15})
    run.finish()
    expected = run.results()
    (run.models / "15_G.pth").write_bytes((run.models / "15_G.pth").read_bytes()[:-1])
    (run.models / "10_checkpoint.json").unlink()
    run.finish()
    assert expected.differences(run.results()) == []
    output = run.output.read_text()
    assert "passing over the checkpoint of iteration 15: 15_G.pth is damaged" in output
    assert "continuing after iteration 5" in output


def test_a_log_cut_off_in_a_validation_is_mended(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 10, "checkpoint_test": 10})
    run.finish()
    expected = run.results()
    whole = (run.task / "metrics.jsonl").read_text()
    (run.task / "metrics.jsonl").write_text(whole[: whole.rindex("\n", 0, -1) + 30])  # the last line half written
    with (run.task / "train.log").open("a") as log:
        log.write("25-01-01 00:00:00.000 : <epoch:  9, it")
    run.finish()
    assert expected.differences(run.results()) == []
    assert len(kair_lines(run.task / "train.log")) == 11


def test_what_changed_since_a_task_was_started_is_logged(tmp_path: Path) -> None:
    Run(tmp_path, train={"total_iter": 5}).finish()
    longer = Run(tmp_path, train={"total_iter": 10, "E_decay": 0.5})
    longer.finish()
    log = (longer.task / "train.log").read_text()
    changes = [line.partition("changed after iteration 5: ")[2] for line in log.splitlines() if "changed after" in line]
    assert changes == ["train.total_iter: 5, now 10", "train.E_decay: not set, now 0.5"]
    longer.finish()
    assert (longer.task / "train.log").read_text().count("changed after") == 2


def test_a_damaged_line_of_the_records_is_named(tmp_path: Path) -> None:
    Run(tmp_path, train={"total_iter": 5}).finish()
    longer = Run(tmp_path, train={"total_iter": 10})
    metrics = longer.task / "metrics.jsonl"
    first, _, *rest = metrics.read_bytes().split(b"\n")
    metrics.write_bytes(b"\n".join([first, b"\0\xff\0", *rest]))
    process = longer.start()
    process.join()
    assert process.exitcode == 2
    error = longer.output.read_text().splitlines()[-1]
    assert error == f"error: {metrics}: line 2 is damaged; without that line the task goes on"


def test_records_whose_checkpoints_are_gone_are_not_written_over(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 10})
    run.finish()
    before = {name: (run.task / name).read_bytes() for name in ("metrics.jsonl", "timing.jsonl", "train.log")}
    away = run.models.rename(tmp_path / "away")
    process = run.start()
    process.join()
    assert process.exitcode == 2
    error = run.output.read_text().splitlines()[-1]
    assert error.startswith(f"error: {run.task}: its records tell of 10 iterations, but {run.models} has no checkpoint")
    assert {name: (run.task / name).read_bytes() for name in before} == before
    away.rename(run.models)
    run.finish()


def test_skipped_iterations_stay_skipped_when_the_run_is_resumed(tmp_path: Path) -> None:
    outcome = poison(tmp_path, count=3, seed=1)
    assert outcome.injected >= 3
    assert outcome.lost == []


def test_the_time_of_a_skipped_iteration_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 3, "checkpoint_save": 3})
    train_poisoned(run, {3})
    assert [record["iter"] for record in Journal(run.task / "timing.jsonl").read()] == [1, 2, 3]


def test_a_run_that_diverges_stops_with_its_checkpoints_intact(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 5})
    run.finish()
    good = run.results()
    diverges = Run(tmp_path, train={"G_optimizer_lr": 1e30, "max_bad_steps": 3, "checkpoint_save": 100})
    process = diverges.start()
    process.join()
    assert process.exitcode == 2
    error = diverges.output.read_text().splitlines()[-1]
    assert error.startswith("error: iteration 10: loss or gradient was infinite or NaN in 4 iterations in a row")
    skipped = diverges.records("skipped")
    assert [record["iter"] for record in skipped] == [7, 8, 9, 10]
    assert all(len(record["crops"]) == 4 and ".png [" in record["crops"][0] for record in skipped)
    kept = diverges.results()
    assert "last checkpoint" not in good.differences(kept)
