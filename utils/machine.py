"""The machine that a program runs on: its cores, its name and its clock."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def cores() -> int:
    """How many of the machine's cores this process may use, if the others of its machine use as many."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def machine_name(device: torch.device) -> str:
    """The card, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name() -> str:
    """As Linux calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
