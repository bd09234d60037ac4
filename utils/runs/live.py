"""What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere, and TensorBoard."""

import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from utils.options.schema import Options


class Progress:
    """How far a run is and how fast, from iteration `step` on; only the main process tells.

    Args:
        seconds, data_seconds: of training, and of waiting for data among them, that the iterations up to `step` took.
    """

    def __init__(
        self, options: Options, *, step: int, seconds: float, data_seconds: float, device: torch.device
    ) -> None:
        self.task, self.total, self.device = options.task, options.train.total_iter, device
        self.batch_size = options.datasets.train.dataloader_batch_size
        self.first = self.told = step
        self.start = time.perf_counter()
        self.told_seconds, self.told_data_seconds = seconds, data_seconds
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # of an earlier task, or of storing the teacher's outputs
        self.bar = tqdm(
            desc=self.task, initial=step, total=self.total, unit="it", dynamic_ncols=True, disable=None
        )  # None: unless it is not a terminal

    def advance(self) -> None:
        """One more iteration."""
        self.bar.update()

    def tell(self, losses: Mapping[str, float], *, step: int, seconds: float, data_seconds: float) -> None:
        """Show the speed since it was last told, the share of waiting for data, the memory and, on the bar, losses.

        Args:
            seconds, data_seconds: of training, and of waiting for data among them, so far; validation and saving count
                for the time that is left, not for the speed.
        """
        passed = max(seconds - self.told_seconds, 1e-9)
        waited = data_seconds - self.told_data_seconds
        text = (
            f"{self.batch_size * (step - self.told) / passed:.1f} images/s, "
            f"data wait {waited / passed:.0%}, peak memory {peak_memory(self.device) / 1e9:.1f} GB"
        )
        if self.bar.disable:
            left = (time.perf_counter() - self.start) / max(step - self.first, 1) * (self.total - step)
            eta = timedelta(seconds=round(left))
            sys.stdout.write(f"{self.task}: {step:,} of {self.total:,} iterations, ETA {eta}, {text}\n")
            sys.stdout.flush()
        self.bar.set_postfix_str(", ".join([text, *(f"{name} {value:.2e}" for name, value in losses.items())]))
        self.told, self.told_seconds, self.told_data_seconds = step, seconds, data_seconds

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def peak_memory(device: torch.device) -> int:
    """The most bytes that this run has had on its GPU or, without one, that this process has had of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Board:
    """The run's figures and pictures for TensorBoard; what an earlier process wrote of later iterations is hidden."""

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # it takes a second to import

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def figures(self, figures: Mapping[str, float], *, group: str, step: int) -> None:
        """Scalars, shown together as `group`."""
        for name, value in figures.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()

    def picture(self, name: str, picture: np.ndarray, *, step: int) -> None:
        """A picture, (H, W, C) uint8."""
        self.writer.add_image(name, picture, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
