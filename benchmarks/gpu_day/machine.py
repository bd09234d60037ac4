"""Phase 1: which machine this is, and what it does at best."""

import os
import platform
from collections.abc import Iterator
from functools import partial
from statistics import median

import torch

from benchmarks.gpu_day.phases import Check, Day, Row
from benchmarks.timing import matmul_rate
from utils.process.machine import free_bytes, machine_name, processor_name, seconds
from utils.runs.environment import LIBRARIES, library_version


def machine(day: Day, _: float) -> Iterator[Check]:
    """The checks of this phase."""
    yield "names and versions", partial(names, day)
    yield "copy", partial(copy_rate, day)
    for kind in ("bf16", "tf32", "float32"):
        yield f"matmul, {kind}", partial(rate, day, kind)


def names(day: Day) -> Row:
    """Card, processor, libraries."""
    row: Row = {
        "device": machine_name(day.place),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "free_GB": free_bytes(day.place) / 1e9,
        "python": platform.python_version(),
        "versions": {name: library_version(name) for name in (*LIBRARIES, "triton", "spandrel")},
        "cuda": torch.version.cuda,
    }
    if day.device == "cuda":
        properties = torch.cuda.get_device_properties(day.place)
        row |= {"multiprocessors": properties.multi_processor_count, "cudnn": torch.backends.cudnn.version()}
    return row


def copy_rate(day: Day) -> Row:
    """Bytes read and written in a second by copying a large tensor."""
    source = torch.zeros(2**20 if day.tiny else 2**30, dtype=torch.uint8, device=day.place)
    target = torch.empty_like(source)
    taken = median(seconds(lambda: target.copy_(source), day.place) for _ in range(5))
    return {"TB/s": 2 * source.numel() / taken / 1e12}


def rate(day: Day, kind: str) -> Row:
    """FLOP/s of a large matrix product."""
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    return {"TFLOP/s": matmul_rate(day.place, dtype, size=matmul_size(day)) / 1e12}


def matmul_size(day: Day) -> int:
    """Height and width of matrices that occupy the device."""
    return 64 if day.tiny else 1024 if day.device == "cpu" else 8192
