"""Signals, and two runs of one task: what real processes do."""

import os
import re
import shutil
import signal
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.conftest import make_image
from tests.runs import Results, Run, children, is_waiting, wait_until
from utils.imaging.io import write_image
from utils.runs import checkpoints

pytestmark = pytest.mark.slow

ENDED = "interrupted; the same command goes on, or begins again where nothing is saved yet"


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Results]:
    """A run of 30 iterations that saves at none but the last, and what it ends with."""
    run = Run(
        tmp_path_factory.mktemp("signals"), train={"total_iter": 30, "checkpoint_save": 100, "checkpoint_test": 100}
    )
    run.finish()
    return run, run.results()


@pytest.fixture
def run(left_alone: tuple[Run, Results]) -> Run:
    """That run, to be started again."""
    left_alone[0].reset()
    return left_alone[0]


@pytest.fixture
def expected(left_alone: tuple[Run, Results]) -> Results:
    """What it ends with."""
    return left_alone[1]


def send(process: BaseProcess, number: int) -> None:
    assert process.pid is not None
    assert process.exitcode is None
    os.kill(process.pid, number)


def end(process: BaseProcess, number: int, run: Run) -> None:
    """Send a signal, and see that the process takes it for the end of a success."""
    send(process, number)
    process.join()
    assert process.exitcode == 0, run.output.read_text()
    assert run.output.read_text().splitlines()[-1] == ENDED


def iterations(run: Run) -> list[int]:
    return [record["iter"] for record in run.records("train")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_saves_the_iteration_and_the_run_goes_on_from_it(
    number: int, workers: int, run: Run, expected: Results
) -> None:
    overrides = f"datasets.train.dataloader_num_workers={workers}"
    process = run.start(overrides)
    assert wait_until(lambda: len(iterations(run)) >= 3, process)
    if workers:  # as Ctrl-C and Slurm do it, which reach every process
        for worker in children(process.pid):
            os.kill(worker, number)
    end(process, number, run)
    (saved,) = checkpoints.complete(run.models)
    assert iterations(run) == list(range(1, saved + 1))
    assert f"stopped after iteration {saved} of toy, which is saved" in (run.task / "train.log").read_text()
    run.finish(overrides)
    assert expected.differences(run.results()) == []


def test_a_second_ctrl_c_does_not_wait_and_does_no_damage(run: Run, expected: Results) -> None:
    overrides = "datasets.train.dataloader_num_workers=1", "train.checkpoint_save=2"
    process = run.start(*overrides)
    assert wait_until(lambda: list(run.models.glob("4_checkpoint.json")), process)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGSTOP)  # as a file system that does not answer: the iteration cannot end
    try:
        assert wait_until(lambda: is_waiting(process.pid), process)
        send(process, signal.SIGINT)
        assert wait_until(lambda: is_waiting(process.pid), process)
        send(process, signal.SIGINT)
        process.join()
    finally:
        os.kill(worker, signal.SIGKILL)
    assert process.exitcode == -signal.SIGINT
    run.finish(*overrides)
    assert expected.differences(run.results()) == []


def test_a_signal_cuts_a_validation_short_and_saves_what_came_before(tmp_path: Path) -> None:
    for index in range(24):
        write_image(tmp_path / "Test" / f"{index:02d}.png", make_image(72, 96, seed=index))
    run = Run(
        tmp_path,
        datasets={"test": {"dataroot_H": str(tmp_path / "Test")}},
        train={"total_iter": 4, "checkpoint_save": 100, "checkpoint_test": 3},
    )
    run.finish()
    expected = run.results()
    run.reset()
    process = run.start()
    images = run.task / "images" / "toy_test"
    assert wait_until(lambda: list(images.glob("*.png")), process)
    end(process, signal.SIGTERM, run)
    assert len(list(images.glob("*.png"))) < 24
    assert checkpoints.complete(run.models) == [3]
    assert run.records("test") == []
    run.finish()
    assert expected.differences(run.results()) == []


def test_a_signal_while_a_store_is_built_ends_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"checkpoint_test": 100})
    write_image(tmp_path / "large.png", make_image(600, 800, seed=0))
    for index in range(24):
        shutil.copy(tmp_path / "large.png", tmp_path / "HR" / f"large{index:02d}.png")
    process = run.start("train.total_iter=1")
    assert wait_until(lambda: list(run.cache.rglob("*.partial")), process)
    end(process, signal.SIGINT, run)
    assert not run.task.exists()
    assert not list(run.cache.rglob("*.u8"))
    for path in (tmp_path / "HR").glob("large*"):
        path.unlink()  # or their validation would take minutes
    run.finish("train.total_iter=1")


def test_a_second_run_of_a_task_is_refused_until_the_first_has_ended_in_whatever_way(run: Run) -> None:
    first = run.start("train.total_iter=100000")
    assert wait_until(lambda: iterations(run), first)
    second = run.start()
    second.join()
    assert second.exitcode == 2
    output = run.output.read_text()
    assert f"toy: process {first.pid} on {socket.gethostname()} is running this task; wait for it to end" in output
    first.kill()
    first.join()
    run.finish()
    assert re.search(rf"process {first.pid} on \S+ ran this task and did not end properly", run.output.read_text())
    run.finish()
    assert "did not end properly" not in run.output.read_text()
