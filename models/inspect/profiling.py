"""Where the time of a training step goes: `python main_train_student.py --opt ... --profile N`."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from models.model_plain import ModelPlain
from utils.process import dist
from utils.process.errors import UserError
from utils.tables import markdown

logger = logging.getLogger(__name__)

WARM_UP = 3  # iterations that fill caches and compile


class Stopwatch:
    """Wall time of the parts of a step by name, the device's work included; also names them in the trace."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measure a part; waits for the device at its end, or the next part would be charged for it."""
        start = time.perf_counter()
        with record_function(part):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        self.seconds[part] += time.perf_counter() - start


def device_work(profiler: profile) -> tuple[int, float]:
    """Kernels that were run on the GPU, and the seconds in which it was busy with at least one; none on a CPU."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    busy, reached = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return len(spans), busy / 1e6


def profile_steps(model: ModelPlain, batches: Iterator[Mapping[str, Any]], *, steps: int) -> None:
    """Train `steps` iterations that are not kept; log where their time went and write a trace into the task's folder.

    Perfetto and chrome://tracing show the trace, `profile/trace_<rank>.json`.

    Raises:
        UserError: the batches end before.
    """
    total = model.options.train.total_iter
    if steps + WARM_UP > total:
        raise UserError(f"--profile {steps}: with {WARM_UP} to warm up, that is more than train.total_iter {total:,}")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if model.device.type == "cuda" else [])
    for _ in range(WARM_UP):
        model.train_step(next(batches))
    model.timed = stopwatch = Stopwatch(model.device)
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            with stopwatch("data wait"):
                batch = next(batches)
            model.train_step(batch)
    path = model.options.task_folder / "profile" / f"trace_{dist.rank()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(path))
    if model.device.type == "cuda":
        kernels, busy = device_work(profiler)
        idle = 1 - busy / sum(stopwatch.seconds.values())
        logger.info("%s kernels an iteration; the GPU is idle for %.0f%% of the time", kernels // steps, 100 * idle)
    logger.info("%s, by part:\n%s\ntrace: %s", model.options.task, breakdown(stopwatch.seconds, steps=steps), path)


def breakdown(seconds: Mapping[str, float], *, steps: int) -> str:
    """The parts of a step as a table."""
    total = sum(seconds.values())
    rows = [
        {"part": part, "ms/iteration": f"{1000 * spent / steps:.1f}", "share": f"{spent / total:.1%}"}
        for part, spent in {**seconds, "all": total}.items()
    ]
    return markdown(rows)
