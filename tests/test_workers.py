"""Worker processes that die, hang, or cannot send their batch: real ones, and a run that ends and has lost nothing."""

import ctypes
import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from data.workers import Guarded, explained, prepare_worker, supply
from tests.runs import FORKED, Run, children, errors, rank_pid, wait_until
from utils.process.errors import NoBatchError
from utils.runs import checkpoints

pytestmark = pytest.mark.slow

CLONE_NEWNS = 0x20000  # of Linux's sched.h


def run_with_workers(folder: Path, count: int) -> Run:
    """A run that ends long after the test, and saves nothing by itself."""
    datasets = {"train": {"dataloader_num_workers": count}}
    never = {"total_iter": 10**6, "checkpoint_save": 10**6, "checkpoint_test": 10**6, "data_timeout": 2}
    return Run(folder, datasets=datasets, train=never)


def assert_saved(run: Run) -> None:
    """The last iteration is saved, and the same command goes on from it."""
    (saved,) = checkpoints.complete(run.models)
    assert [record["iter"] for record in run.records("train")] == list(range(1, saved + 1))
    run.finish(f"train.total_iter={saved + 1}")
    assert checkpoints.complete(run.models) == [saved, saved + 1]


def a_worker(process: BaseProcess, run: Run) -> int:
    """A worker of a run that has trained some iterations."""
    assert wait_until(lambda: len(run.records("train")) >= 3, process)
    return children(process.pid)[0]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, "a process that loads crops was killed, as the system does where memory is short; lower "),
        (signal.SIGBUS, "a process that loads crops found no room in shared memory; lower "),
        (signal.SIGSEGV, "a process that loads crops was ended by SIGSEGV; lower "),
        (signal.SIGSTOP, "no batch has come for 2 seconds (train.data_timeout): see whether the disk "),
    ],
)
def test_a_worker_that_dies_or_hangs_ends_the_run_and_its_last_iteration_is_saved(
    number: int, sentence: str, tmp_path: Path
) -> None:
    run = run_with_workers(tmp_path, 2)
    process = run.start()
    worker = a_worker(process, run)
    os.kill(worker, number)
    process.join(60)
    assert process.exitcode == 2, run.output.read_text()
    (error,) = errors(run)
    assert error.startswith(f"error: {sentence}")
    assert not Path(f"/proc/{worker}").exists()
    assert_saved(run)


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))


def small_shared_memory(kilobytes: int) -> None:
    """A /dev/shm of its own for this process and its children."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
    for arguments in (("--make-rprivate", "/"), ("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", "/dev/shm")):
        subprocess.run(["mount", *arguments], check=True)


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (few_files, "ulimit -n"),
        (partial(small_shared_memory, 8), "the processes that load crops find no room in shared memory; lower "),
        (partial(small_shared_memory, 200), "a batch cannot be sent (unable to allocate shared memory"),
    ],
)
def test_a_batch_that_cannot_be_sent_ends_the_run(prepare: Callable[[], None], sentence: str, tmp_path: Path) -> None:
    if isinstance(prepare, partial) and os.geteuid() != 0:
        pytest.skip("mounting a small /dev/shm needs root")
    run = run_with_workers(tmp_path, 2)
    run.finish("train.total_iter=1", "datasets.train.dataloader_num_workers=0")
    process = run.start("datasets.train.dataloader_batch_size=32", prepare=prepare)
    process.join(60)
    assert process.exitcode == 2, run.output.read_text()
    (error,) = errors(run)
    assert sentence in error
    assert "lower datasets.train.dataloader_num_workers" in error


class Pipe(Dataset[Any]):
    """Items of a pipe that nobody writes to, from the second on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"L_path": self.path.read_bytes() if index else b""}

    def __len__(self) -> int:
        return 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_gives_nothing_is_waited_for_no_longer_than_asked(workers: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    loader: DataLoader[Any] = DataLoader(
        Guarded(Pipe(tmp_path / "pipe")), sampler=[0, 1], batch_size=None, num_workers=workers,
        worker_init_fn=prepare_worker,
    )  # fmt: skip
    batches = supply(loader, seconds=1)
    assert next(batches) == {"L_path": b""}
    alarm, start = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic()
    with pytest.raises(NoBatchError, match=r"^no batch has come for 1 seconds \(train\.data_timeout\): see whether "):
        next(batches)
    assert time.monotonic() - start < 10
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (alarm > 0), "the alarm of others is lost"


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")])
def test_a_worker_is_named_that_hands_a_batch_over_and_has_not_quite_ended(error: Exception) -> None:
    worker = FORKED.Process(target=signal.pause)
    worker.start()
    assert worker.pid is not None
    Timer(1, os.kill, [worker.pid, signal.SIGSEGV]).start()
    ended = pytest.raises(NoBatchError, match=r"^a process that loads crops was ended by SIGSEGV; ")
    with ended, explained([worker], seconds=30):
        raise error


def test_no_rank_waits_for_a_rank_whose_worker_hangs(tmp_path: Path) -> None:
    run = run_with_workers(tmp_path, 2)
    torchrun = run.torchrun(2)
    assert wait_until(lambda: len(run.records("train")) >= 3, torchrun)
    (worker,) = children(rank_pid(torchrun, 1))
    os.kill(worker, signal.SIGSTOP)
    assert torchrun.wait(60) == 1
    output = run.output.read_text()
    assert output.count("error: no batch has come for 2 seconds") == 1
    assert_saved(run)
