"""Test images of the seven restoration tasks, degraded as the published test script does it.

Items have `L` (C, H, W) and `L_path`, `H` (C, scale*H, scale*W) and `H_path`; uint8, or float32 in [0, 1] and a
little beyond for noisy images. Images without a ground truth are arrays of their own kind. All are read when they are
asked for, and not kept.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from data.dataset_degraded import Degraded
from data.dataset_sr import SRImages, sr_pairs
from data.folders import list_images
from data.image_check import Demand, check_images
from utils.degradations import jpeg, noisy, reader
from utils.errors import UserError
from utils.images import read_as_stored
from utils.metrics import smallest_judged
from utils.restoration_tasks import TASKS, Kind


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """A task, and how strongly its images are degraded.

    Attributes:
        channels: of the images: 1 for gray, 3 for RGB.
        noise: standard deviation, in grey levels of 255; only for denoising.
        jpeg: JPEG quality, 0 to 100; only for JPEG artefact reduction.
    """

    task: str
    channels: int
    scale: int
    noise: float
    jpeg: int

    @property
    def kind(self) -> Kind:
        """The kind of task."""
        return TASKS[self.task].kind

    @property
    def degree(self) -> str:
        """As the published script names it: `x4`, `noise25` or `jpeg10`."""
        return {"sr": f"x{self.scale}", "noise": f"noise{self.noise:g}", "jpeg": f"jpeg{self.jpeg}"}[self.kind]

    def settings(self) -> dict[str, str | float]:
        """What there is to say of it: nothing of noise to a JPEG task."""
        settings: dict[str, str | float] = {"task": self.task, "channels": self.channels, "scale": self.scale}
        if self.kind != "sr":
            settings[self.kind] = {"noise": self.noise, "jpeg": self.jpeg}[self.kind]
        return settings


class LRImages(Dataset[np.ndarray]):
    """Images without a ground truth, as they are stored: (H, W, C) uint8 or uint16, gray, RGB or RGBA."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_as_stored(self.files[index])


TaskImages = SRImages | Degraded | LRImages


def define_task_images(degradation: Degradation, *, folder_lq: Path | None, folder_gt: Path | None) -> TaskImages:
    """The test images of a task, from at least one folder.

    Super-resolution pairs both folders, or makes the LR images of `folder_gt` by bicubic; denoising and JPEG
    artefact reduction degrade the images of `folder_gt`; `folder_lq` alone has no ground truth.

    Raises:
        UserError: a folder is missing or one too many, they hold no images, or none that go together; or as
            `check_images`.
    """
    task, channels = degradation.task, degradation.channels
    if folder_gt is None:
        assert folder_lq is not None
        files = list_images(folder_lq)
        check_images(Demand(path, read=None) for path in files)  # each is decoded when its turn comes
        return LRImages(files)
    if folder_lq is not None and degradation.kind != "sr":
        raise UserError(f"--folder_lq: task {task} makes its own low-quality images from --folder_gt; give only one")
    if folder_lq is None and degradation.kind == "sr" and degradation.scale == 1:
        raise UserError("--folder_lq: missing; at scale 1, bicubic makes no LR images of --folder_gt")
    files = list_images(folder_gt)
    smallest = smallest_judged(degradation.scale)
    judged = [Demand(path, smallest=smallest, reason=f"SSIM, which needs {smallest}") for path in files]
    check_images(judged + [Demand(path) for path in (list_images(folder_lq) if folder_lq else [])])
    if degradation.kind == "sr":
        pairs = sr_pairs(folder_gt, folder_lq, scale=degradation.scale, cache=None)
        return SRImages(pairs, scale=degradation.scale, channels=channels)
    read = reader(jpeg=degradation.kind == "jpeg", channels=channels)
    degrade = noisy(degradation.noise) if degradation.kind == "noise" else jpeg(degradation.jpeg)
    return Degraded(files, read=read, degrade=degrade)
