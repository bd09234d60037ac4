"""Batches from worker processes, and an end to the waiting for them, whatever becomes of a worker."""

import errno
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from utils.process.deadline import DeadlineError, deadline
from utils.process.errors import DISK, NoBatchError, UserError, lacks_memory, sentences

LAST_WAIT = 10  # seconds that workers have to end by themselves
FEWER = "lower datasets.train.dataloader_num_workers"
LARGER = f"{FEWER}, or enlarge shared memory (/dev/shm; of a container, --shm-size)"
MORE_FILES = f"{FEWER}, or raise the limit of open files (ulimit -n)"
REASONS = {
    -signal.SIGKILL: f"was killed, as the system does where memory is short; {FEWER}",
    -signal.SIGBUS: f"found no room in shared memory; {LARGER}",
}


class Guarded(Dataset[Any]):
    """A dataset whose errors are items: raised in a worker process they would arrive wrapped in a traceback."""

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.items[index]
        except Exception as error:
            lines = sentences(error)
            if not lines:
                raise
            return UserError(*lines)


def supply(loader: DataLoader[Any], *, seconds: float) -> Generator[Any]:
    """The batches of a loader; closing the generator ends the worker processes.

    Args:
        seconds: the longest wait for one of them.

    Raises:
        NoBatchError: a batch is an error, has not come in time, or a worker has ended or could not send it.
    """
    workers: list[BaseProcess] = []
    with explained(workers, seconds):
        batches = start(loader, workers)
    try:
        while True:
            with explained(workers, seconds), deadline(seconds):
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, UserError):
                raise NoBatchError(*batch.args)
            yield batch
    except NoBatchError:
        kill(workers)  # one that hangs would not end by itself
        raise
    finally:
        end(batches, workers)


def start(loader: DataLoader[Any], workers: list[BaseProcess]) -> Iterator[Any]:
    """The loader's iterator; its processes are added to `workers`."""
    before = multiprocessing.active_children()
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    except OSError as error:
        kill([child for child in multiprocessing.active_children() if child not in before])
        # Delete the half-made loader here, and hide the error that its deletion prints.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        traceback.clear_frames(error.__traceback__)
        sys.unraisablehook = hook
        raise
    finally:
        workers += [child for child in multiprocessing.active_children() if child not in before]
        # PyTorch's handler raises an error wherever the run is, even within a step; waiting for a batch finds it, too.
        signal.signal(signal.SIGCHLD, handler)


@contextmanager
def explained(workers: list[BaseProcess], seconds: float) -> Iterator[None]:
    """Turn any error that keeps a batch from coming into one sentence that says what helps."""
    try:
        yield
    except DeadlineError:
        raise NoBatchError(
            f"no batch has come for {seconds:g} seconds (train.data_timeout): see whether the disk of the images "
            f"answers, {FEWER}, or allow more seconds"
        ) from None
    except (MemoryError, RuntimeError, OSError, EOFError) as error:
        if isinstance(error, (EOFError, ConnectionError)):  # a worker ends while it sends: let the system say how
            multiprocessing.connection.wait([worker.sentinel for worker in workers], LAST_WAIT)
        ended = [worker.exitcode for worker in workers if worker.exitcode]
        if ended:
            raise NoBatchError(f"a process that loads crops {reason(ended[0])}") from error
        if isinstance(error, OSError) and error.errno in DISK:
            raise NoBatchError(f"the processes that load crops find no room in shared memory; {LARGER}") from error
        if "open files" in str(error).lower():
            raise NoBatchError(f"a batch cannot be received (too many open files); {MORE_FILES}") from error
        if lacks_memory(error):
            raise NoBatchError(f"a batch cannot be loaded for lack of memory; {FEWER}") from error
        raise


def reason(exitcode: int) -> str:
    """Why a worker has ended, and what helps."""
    if exitcode < 0:
        return REASONS.get(exitcode, f"was ended by {signal.Signals(-exitcode).name}; {FEWER}")
    if exitcode in errno.errorcode:  # see `end_unsent`
        return f"could not send a batch ({os.strerror(exitcode)}); {MORE_FILES}"
    return f"ended with exit code {exitcode}; {FEWER}"


def kill(workers: list[BaseProcess]) -> None:
    """End processes that have nothing to lose."""
    for worker in workers:
        worker.kill()


def end(batches: Iterator[Any], workers: list[BaseProcess]) -> None:
    """End a loader's processes: PyTorch's way, which waits for them, but not for ever."""
    if not workers:
        return
    shutdown: Callable[[], None] = getattr(batches, "_shutdown_workers", lambda: None)
    try:
        with suppress(DeadlineError), deadline(LAST_WAIT):
            shutdown()
    finally:
        kill(workers)  # or Python would wait for them at its own end


def prepare_worker(_: int) -> None:
    """Keep OpenCV's own threads out of a worker process, which is the parallelism, and let only the run end it."""
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to every process, but the run's last step needs its batch
        signal.signal(number, signal.SIG_IGN)
    # Python's two threads that send would print the error, forget the batch, and leave the run waiting for it.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end_unsent)  # type: ignore[attr-defined]
    sys.excepthook = lambda kind, error, trace: end_unsent(error)


def end_unsent(error: BaseException, _: object = None) -> None:
    """End this worker process, which cannot send a batch, with the error's number for an exit code."""
    os._exit(getattr(error, "errno", None) or 255)


def shared(batch: dict[str, Any]) -> dict[str, Any] | UserError:
    """A batch whose tensors lie in shared memory, where this is a worker process.

    Made here, for PyTorch makes it in a thread of its own, whose errors nobody sees.
    """
    if get_worker_info() is None:
        return batch
    try:
        for value in batch.values():
            if isinstance(value, Tensor):
                value.share_memory_()
    except RuntimeError as error:
        mend = MORE_FILES if "open files" in str(error) else LARGER
        return UserError(f"a batch cannot be sent ({str(error).splitlines()[0]}); {mend}")
    return batch
