"""Phase 3: how fast `ModelPlain.train_step` is on real batches, and inference, beside the published network."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import cases
from benchmarks.gpu_day.machine import rate
from benchmarks.gpu_day.phases import Check, Day, Row
from benchmarks.gpu_day.trials import KINDS, attention, batches_of, model_of, options_of, student_of, teacher_of
from models.inspect.profiling import device_work
from models.inspect.summary import count_flops
from models.network_swinir import SwinIR
from utils.process.machine import keep_freed_memory, seconds

WARM_UP, ROUNDS = 20, 3
SECONDS = 1.5  # of each round
PROFILED = 5  # steps
FAST: dict[str, Any] = {"amp": "bf16", "compile": True}
GRAPHS = FAST | {"compile": "reduce-overhead"}
INPUTS = {"64x64": (64, 64), "640x480": (480, 640), "2K (510x340)": (340, 510)}


def speed(day: Day, _: float) -> Iterator[Check]:
    """The timings of this phase: the most valuable ones first, those that compile for long behind the others."""
    keep_freed_memory()
    stored = KINDS["B, stored teacher"]
    yield "A, bf16", partial(training_step, day, amp="bf16")
    yield "A, float32", partial(training_step, day)
    yield "A, float32, published network", partial(published_step, day)
    if not day.tiny:
        yield "A, bf16, compiled", partial(training_step, day, **FAST)
        yield "A, bf16, compiled, CUDA graphs", partial(training_step, day, **GRAPHS)
        yield "A, bf16, compiled, fused attention", partial(training_step, day, fused=True, **FAST)
        yield "A, bf16, compiled, crops from the loader", partial(training_step, day, cache="memmap", **FAST)
    yield from inference(day)
    yield "B, stored teacher, bf16", partial(training_step, day, amp="bf16", **stored)
    yield "C, bf16", partial(training_step, day, amp="bf16", **KINDS["C"])
    yield "C, float32", partial(training_step, day, **KINDS["C"])
    if not day.tiny:
        yield "B, stored teacher, bf16, compiled", partial(training_step, day, **FAST, **stored)
        yield "C, bf16, compiled", partial(training_step, day, **FAST, **KINDS["C"])
        yield "B, stored teacher, bf16, compiled, CUDA graphs", partial(training_step, day, **GRAPHS, **stored)
        yield "C, bf16, compiled, CUDA graphs", partial(training_step, day, **GRAPHS, **KINDS["C"])


def inference(day: Day) -> Iterator[Check]:
    """Student and SwinIR-M, and the published network with the same sizes."""
    student, teacher = student_of(day), teacher_of(day)
    for name, (height, width) in ({"16x16": (16, 16)} if day.tiny else INPUTS).items():
        for role, arguments in (("student", student), ("SwinIR-M", teacher)):
            for label, who, amp in (("bf16", "ours", True), ("float32", "ours", False), ("published", "peer", False)):
                build = partial(cases.forward_run, who, arguments=arguments, shape=(1, 3, height, width), amp=amp)
                yield f"{role}, {name}, {label}", partial(timed, day, partial(build, device=day.place), warm_up=2)


def timed(day: Day, build: Callable[[], Callable[[], object]], *, warm_up: int = WARM_UP) -> Row:
    """How long a call takes, back to back with others: the median of some rounds; and the memory at its peak."""
    run, place = build(), day.place
    for _ in range(1 if day.tiny else warm_up):
        run()
    count = 2 if day.tiny else max(1, min(200, int(SECONDS / seconds(run, place))))
    if day.device == "cuda":
        torch.cuda.synchronize(place)
        torch.cuda.reset_peak_memory_stats(place)
    rounds = [seconds(lambda: [run() for _ in range(count)], place) / count for _ in range(1 if day.tiny else ROUNDS)]
    row: Row = {"ms": 1000 * median(rounds), "rounds_of": count}
    return row | kernels(run, place) | peak_memory(place)


def peak_memory(place: torch.device) -> Row:
    """GB that tensors had at most; of a CPU nothing is told."""
    return {"peak_GB": torch.cuda.max_memory_allocated(place) / 1e9} if place.type == "cuda" else {}


def kernels(run: Callable[[], object], place: torch.device) -> Row:
    """Kernels of one call, and the share of the time in which the GPU is busy; nothing of a CPU."""
    if place.type != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        taken = seconds(lambda: [run() for _ in range(PROFILED)], place)
    count, busy = device_work(profiler)
    return {"kernels": count / PROFILED, "busy_while_profiled": busy / taken}


def training_step(day: Day, *, fused: bool = False, cache: str = "auto", **train: Any) -> Row:
    """Steps as a run makes them, its crops included; with `fused`, by the attention of `models/attention`."""
    task = "_".join(map(str, train.values())) or "A"
    batch = 2 if day.tiny else 32
    options = options_of(day, task, batch=batch, cache=cache, network={"drop_path_rate": 0.1}, **train)
    with attention(fused=fused):
        model = model_of(options, day.place)
    batches = batches_of(options, model)
    row = timed(day, lambda: lambda: model.train_step(next(batches)))
    batches.close()  # its worker processes end
    return row | shares(day, options.train.amp == "bf16", batch, row["ms"] / 1000)


def published_step(day: Day) -> Row:
    """The published network's step A on one random batch: no loader, no average, nothing that watches it."""
    batch = 2 if day.tiny else 32
    alone = partial(cases.step_run, "peer", teacher_arguments=None, kind="none", fast=False)
    row = timed(day, partial(alone, student_arguments=student_of(day), batch=batch, device=day.place))
    return row | shares(day, False, batch, row["ms"] / 1000)


def shares(day: Day, bf16: bool, batch: int, taken: float) -> Row:
    """Crops a second, and the student's FLOPs as a share of what a matrix product of this precision reaches."""
    arguments = student_of(day)
    with torch.device("meta"):
        flops = count_flops(SwinIR(**arguments), channels=3) * (arguments["img_size"] / 64) ** 2
    possible = 1e12 * rate(day, "bf16" if bf16 else "float32")["TFLOP/s"]
    return {"crops/s": batch / taken, "share_of_matmul": 3 * flops * batch / taken / possible}
