"""An end to waiting, even inside a call that would wait for ever."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class DeadlineError(Exception):
    """A block has taken too long."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `DeadlineError` in the block after so many seconds; for the main thread, which alone gets signals.

    Reading a file, a pipe or a lock is interrupted; what the system itself does not interrupt, no process can end.
    """

    def expire(number: int, frame: FrameType | None) -> None:
        raise DeadlineError

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, expire)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:  # someone else's, which goes on
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), 1e-3))
