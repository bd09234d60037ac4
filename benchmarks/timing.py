"""How the benchmarks measure: interleaved runs, medians, and what the machine can do at best."""

import platform
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

Run = Callable[[], object]


def seconds(run: Run, device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(runs: Sequence[Run], *, device: torch.device, rounds: int) -> list[float]:
    """Median seconds of each run. They take turns, so that a noisy machine disturbs all of them alike."""
    for run in runs:
        seconds(run, device)  # warm-up
    times = [[seconds(run, device) for run in runs] for _ in range(rounds)]
    return [median(column) for column in zip(*times, strict=True)]


def matmul_rate(device: torch.device, dtype: torch.dtype, *, size: int) -> float:
    """FLOP/s of the product of two size x size matrices: what the machine does at best."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    (best,) = interleaved([lambda: left @ right], device=device, rounds=7)
    return 2 * size**3 / best


def machine_name(device: torch.device) -> str:
    """The card, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def processor_name() -> str:
    """As Linux calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- a device, not a path of ours
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
