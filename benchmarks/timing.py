"""How the benchmarks measure: each side in its own process, taking turns; medians; what the machine can do at best."""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch

from utils.process.machine import seconds

Run = Callable[[], object]
Build = Callable[[], Run]


def peak_bytes(run: Run, device: torch.device) -> int:
    """The most memory that a call holds, above what was held before it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far; proc(5)
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(figure: str) -> int:
    """Bytes of this process that are in memory: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{figure}:"))


def serve(orders: Connection, device: torch.device) -> None:
    """The life of a side's process: it takes work to do, and measures it whenever it is told to."""
    measures = {"seconds": seconds, "peak_bytes": peak_bytes}
    run: Run | None = None
    with suppress(EOFError):  # when the benchmark is over
        while order := orders.recv():
            if isinstance(order, str):
                assert run is not None
                orders.send(measures[order](run, device))
            else:
                run = None  # two works at once might not fit
                run = order()


class Side:
    """Ours or the peer's process: each side has its own memory, and its allocator set as its users have it."""

    def __init__(self, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self.orders, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, device), daemon=True)
        self.process.start()
        theirs.close()  # so that a side that fails is noticed

    def prepare(self, build: Build) -> None:
        """Let it make its work ready, and warm up."""
        self.orders.send(build)
        self.measure("seconds")

    def measure(self, name: str) -> float:
        """Let it do its work once: "seconds" or "peak_bytes"."""
        self.orders.send(name)
        return self.orders.recv()


class Sides:
    """Both processes."""

    def __init__(self, device: torch.device) -> None:
        self.ours, self.peer = Side(device), Side(device)

    def compare(self, ours: Build, peer: Build, *, rounds: int, measure: str) -> tuple[float, float]:
        """The medians of both. They take turns, so that a noisy machine disturbs both alike."""
        self.ours.prepare(ours)
        self.peer.prepare(peer)
        pairs = [(self.ours.measure(measure), self.peer.measure(measure)) for _ in range(rounds)]
        return median(figure for figure, _ in pairs), median(figure for _, figure in pairs)


def matmul_rate(device: torch.device, dtype: torch.dtype, *, size: int) -> float:
    """FLOP/s of the product of two size x size matrices: what the machine does at best."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / median(seconds(lambda: left @ right, device) for _ in range(7))
