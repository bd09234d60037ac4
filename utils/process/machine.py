"""The machine that a program runs on: its cores, its memory, its name and its clock."""

import ctypes
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def cores() -> int:
    """How many of the machine's cores this process may use, if the others of its machine use as many."""
    return max(1, len(os.sched_getaffinity(0)) // processes_here())


def processes_here() -> int:
    """How many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


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


def free_bytes(device: torch.device) -> int:
    """Memory of the device that is free now; of the CPU, what the system counts as available.

    A container's own limit is not seen. Where the system does not tell (no /proc), all memory counts as free.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kilobytes = dict(line.split()[:2] for line in lines)
    return 1024 * int(kilobytes["MemAvailable:"])


def keep_freed_memory() -> None:
    """Serve large tensors from memory that the process has, instead of new pages each time; only glibc needs it.

    Each training step allocates and frees the same few hundred megabytes; by default every tensor's pages go back to
    the system, and are zeroed and mapped again a moment later.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
