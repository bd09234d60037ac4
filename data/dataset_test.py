"""Test images of the seven restoration tasks, degraded as the published test script does it.

Items have `L` (C, H, W) and `L_path`, `H` (C, scale*H, scale*W) and `H_path`; uint8, or float32 in [0, 1] and a
little beyond for noisy images. Images without a ground truth are arrays of their own kind. All are read when they are
asked for, and not kept.
"""

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from data.dataset_degraded import Degraded
from data.dataset_sr import SRImages, sr_pairs
from data.folders.check import Demand, check_images
from data.folders.files import list_images
from utils.evaluation.tasks import Degradation
from utils.imaging.degradations import jpeg, noisy, reader
from utils.imaging.io import read_as_stored
from utils.imaging.metrics import smallest_judged
from utils.process.errors import UserError


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
