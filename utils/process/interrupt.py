"""Ending a run on request: Ctrl-C, and the SIGTERM that Slurm and torchrun send to every process."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from utils.process.errors import LostProcessError, tell

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run is to end; not an `Exception`, since nothing should go on after it."""


class Interrupt:
    """As a context, turns Ctrl-C and SIGTERM into `Interrupted`, and that into the end of the process with code 0.

    A second Ctrl-C kills the process, which costs what came after the last checkpoint, and no more.

    Attributes:
        requested: whether the run is to end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._immediate = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        lost_one_that_was_faster = self.requested and isinstance(error, LostProcessError)
        if isinstance(error, Interrupted) or lost_one_that_was_faster:
            tell("interrupted; the same command goes on, or begins again where nothing is saved yet")
            raise SystemExit(0) from None

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self.requested and self._immediate:
            raise Interrupted

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note a request inside the block, and raise at its end."""
        with self._mode(immediate=False):
            yield

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise at once inside the block, even where it lies within a deferred one."""
        with self._mode(immediate=True):
            yield

    @contextmanager
    def _mode(self, *, immediate: bool) -> Iterator[None]:
        before, self._immediate = self._immediate, immediate
        try:
            self._raise_if_due()
            yield
        finally:
            self._immediate = before
        self._raise_if_due()


@contextmanager
def killable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM kill the process inside the block, where C++ waits and calls no handler of Python."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
