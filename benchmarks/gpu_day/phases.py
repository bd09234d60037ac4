"""Phases with deadlines: each in a process of its own, whose rows are on the disk the moment they are known."""

import json
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.process.files import write_whole

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]  # `phase`, `work`, `seconds`, and what came of it; `failed` says why nothing did
Check = tuple[str, Callable[[], Row]]
ROOT = Path(__file__).parents[2]
FORKED = multiprocessing.get_context("forkserver")  # a phase does not have to import PyTorch anew


@dataclass(frozen=True, kw_only=True)
class Day:
    """What the phases work on and with.

    Attributes:
        device: cpu or cuda.
        tiny: whether shapes only show that everything runs.
        out: where results go.
        work: where everything goes that is not kept.
        data: folder of HR images; there may be none.
        options: the option file that is trained.
        resume: what an earlier day has packed; none begins anew.
    """

    device: str
    tiny: bool
    out: Path
    work: Path
    data: Path
    options: Path
    resume: tuple[Path, ...] = ()

    @property
    def place(self) -> "torch.device":
        """The device."""
        import torch

        return torch.device(self.device, 0) if self.device == "cuda" else torch.device(self.device)


Phase = Callable[[Day, float], Iterable[Check]]  # the second is the deadline, on the clock of `time.monotonic`


class Results:
    """The rows so far, in `results.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Take up a row, and write all."""
        self.rows.append(row)
        write_whole(self.path, (json.dumps(self.rows, indent=1) + "\n").encode())

    def failed(self) -> list[Row]:
        """The rows of what came to nothing or differs by more than it may."""
        return [row for row in self.rows if "failed" in row or row.get("passed") is False]


def run_phase(name: str, phase: Phase, day: Day, *, seconds: float, results: Results) -> None:
    """Run a phase to its end, or kill it, and all that it has started, when its time is over."""
    deadline = time.monotonic() + seconds
    receiver, sender = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=serve, args=(phase, day, deadline, sender))
    process.start()
    sender.close()
    reason = f"killed at its deadline of {seconds:.0f} s"
    with suppress(EOFError):
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            results.add({"phase": name, **receiver.recv()})  # EOFError: the process has ended
    process.join(max(0.0, min(10.0, deadline - time.monotonic())))
    if process.exitcode is not None:
        reason = f"its process ended with code {process.exitcode}" if process.exitcode else ""
    end(process)
    if reason:
        results.add({"phase": name, "work": "the phase", "failed": reason})


def end(process: Any) -> None:
    """Kill a phase's process with all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all are gone, or it has not come to lead a group yet
        process.kill()
    process.join()


def serve(phase: Phase, day: Day, deadline: float, rows: Connection) -> None:
    """A phase's process: it does one check after another, and sends what came of each."""
    os.setsid()  # so that it can be ended with all that it starts
    os.chdir(ROOT)
    checks = iter(phase(day, deadline))
    while True:
        start = time.perf_counter()
        try:
            work, check = next(checks)
        except StopIteration:
            return
        try:
            row = check()
        except Exception as error:  # whatever it is, the next check may work
            row = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-2000:]}
        rows.send({"work": work, "seconds": round(time.perf_counter() - start, 2), **row})
