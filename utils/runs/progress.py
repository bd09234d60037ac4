"""What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere, and TensorBoard."""

import logging
import os
import resource
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from utils.options.schema import Options
from utils.process.errors import UserError

logger = logging.getLogger(__name__)


UNTIMED, TIMED = 2, 10  # first iterations that compile and warm up, and those that tell of the rest


class Progress:
    """How far a run is and how fast, from iteration `step` on; only the main process tells.

    Args:
        seconds, data_seconds: of training, and of waiting for data among them, that the iterations up to `step` took.
    """

    def __init__(
        self, options: Options, *, step: int, seconds: float, data_seconds: float, device: torch.device
    ) -> None:
        self.total, self.device = options.train.total_iter, device
        self.batch_size = options.datasets.train.dataloader_batch_size
        self.first = self.told = step
        self.start = self.paced_from = time.perf_counter()
        self.told_seconds, self.told_data_seconds = seconds, data_seconds
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # of an earlier task, or of storing the teacher's outputs
        self.bar = tqdm(
            desc=options.task, initial=step, total=self.total, unit="it", dynamic_ncols=True, disable=None
        )  # None: unless it is not a terminal

    def advance(self, step: int) -> None:
        """Iteration `step` is done; where there is no bar, say early how long the run will take."""
        self.bar.update()
        if step == self.first + UNTIMED:
            self.paced_from = time.perf_counter()
        elif step == self.first + UNTIMED + TIMED and self.told == self.first and self.bar.disable:
            left = (time.perf_counter() - self.paced_from) / TIMED * (self.total - step)
            logger.info("%-8s: about %s to go, without validation", "time", timedelta(seconds=round(left)))

    def tell(self, *, step: int, seconds: float, data_seconds: float) -> str:
        """Show on the bar the speed since it was last told, the share of waiting for data, and the memory.

        Args:
            seconds, data_seconds: of training, and of waiting for data among them, so far; validation and saving count
                for the time that is left, not for the speed.

        Returns:
            The same and the time that is left, for a line of the log, where there is no bar; else nothing.
        """
        passed = max(seconds - self.told_seconds, 1e-9)
        waited = data_seconds - self.told_data_seconds
        text = (
            f"{self.batch_size * (step - self.told) / passed:.1f} images/s, "
            f"data wait {waited / passed:.0%}, peak memory {peak_memory(self.device) / 1e9:.1f} GB"
        )
        self.bar.set_postfix_str(text)
        self.told, self.told_seconds, self.told_data_seconds = step, seconds, data_seconds
        if not self.bar.disable:
            return ""
        left = (time.perf_counter() - self.start) / max(step - self.first, 1) * (self.total - step)
        return f"{step / self.total:4.0%}, ETA {timedelta(seconds=round(left))}, {text}"

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def peak_memory(device: torch.device) -> int:
    """The most bytes that this run has had on its GPU or, without one, that this process has had of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Board:
    """The run's figures and pictures for TensorBoard; what an earlier process wrote of later iterations is hidden.

    Written in this thread: TensorBoard's own writer prints a traceback where the disk is full, and ends much later.

    Raises:
        UserError: the disk is full or cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # it takes a second to import

        self.event = Event
        self.path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        with self._named():
            folder.mkdir(exist_ok=True)
            self.file = self.path.open("ab")
        self._write(file_version="brain.Event:2", step=step + 1)
        self._write(session_log=SessionLog(status=SessionLog.START), step=step + 1)  # this hides what came later

    def figures(self, figures: Mapping[str, float], *, group: str, step: int) -> None:
        """Scalars, shown together as `group`."""
        from torch.utils.tensorboard.summary import scalar

        for name, value in figures.items():
            self._write(summary=scalar(f"{group}/{name}", value), step=step)

    def picture(self, name: str, picture: np.ndarray, *, step: int) -> None:
        """A picture, (H, W, C) uint8."""
        from torch.utils.tensorboard.summary import image

        self._write(summary=image(name, picture, dataformats="HWC"), step=step)

    def _write(self, **content: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._named():
            RecordWriter(self.file).write(self.event(wall_time=time.time(), **content).SerializeToString())
            self.file.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Close the file; only what could not be written is lost."""
        with suppress(OSError):
            self.file.close()
