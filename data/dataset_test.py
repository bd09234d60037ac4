"""Test images of the seven restoration tasks, degraded as the published test script does it.

Items have `L` (C, H, W) and `L_path`, and `H` (C, scale*H, scale*W) and `H_path` where there is a ground truth;
uint8, or float32 in [0, 1] and a little beyond for noisy images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.dataset_sr import SRImages, sr_pairs
from data.folders import check_distinct, list_images
from utils.errors import UserError
from utils.images import image_size, jpeg_round_trip, read_image, to_tensor
from utils.metrics import luma


@dataclass(frozen=True)
class Task:
    """What distinguishes one of the published tasks."""

    channels: int
    kind: Literal["sr", "noise", "jpeg"]


TASKS = {
    "classical_sr": Task(channels=3, kind="sr"),
    "lightweight_sr": Task(channels=3, kind="sr"),
    "real_sr": Task(channels=3, kind="sr"),
    "gray_dn": Task(channels=1, kind="noise"),
    "color_dn": Task(channels=3, kind="noise"),
    "jpeg_car": Task(channels=1, kind="jpeg"),
    "color_jpeg_car": Task(channels=3, kind="jpeg"),
}


class LRImages(Dataset[dict[str, Any]]):
    """Images without a ground truth."""

    def __init__(self, files: list[Path], *, channels: int) -> None:
        self.files = files
        self.channels = channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.files[index]
        return {"L": to_tensor(read_image(path, channels=self.channels)), "L_path": str(path)}


class Degraded(Dataset[dict[str, Any]]):
    """Clean images that are degraded as they are read: `degrade` makes `L` (C, H, W) of (H, W, C) uint8."""

    def __init__(
        self, files: list[Path], *, read: Callable[[Path], np.ndarray], degrade: Callable[[np.ndarray], Tensor]
    ) -> None:
        self.files = files
        self.read = read
        self.degrade = degrade

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = str(self.files[index])
        clean = self.read(self.files[index])
        return {"L": self.degrade(clean), "H": to_tensor(clean), "L_path": path, "H_path": path}


TaskImages = SRImages | LRImages | Degraded


def noisy(sigma: float) -> Callable[[np.ndarray], Tensor]:
    """White Gaussian noise of standard deviation `sigma`, in grey levels of 255, the same for every image."""

    def degrade(clean: np.ndarray) -> Tensor:
        # The published script seeds NumPy's legacy generator with 0 for each image and draws in BGR order.
        noise = np.random.RandomState(0).normal(0, sigma / 255, clean.shape)[..., ::-1]
        noisy_image = clean.astype(np.float32) / 255 + noise
        return torch.from_numpy(noisy_image.astype(np.float32).transpose(2, 0, 1))

    return degrade


def jpeg(quality: int) -> Callable[[np.ndarray], Tensor]:
    """JPEG compression and decompression by OpenCV."""
    return lambda clean: to_tensor(jpeg_round_trip(clean, quality))


def read_jpeg_gray(path: Path) -> np.ndarray:
    """A gray image as it is; of a colour image the rounded luma, in [16, 235]."""
    image = read_image(path, channels=3)
    if (image == image[..., :1]).all():
        return image[..., :1]
    return luma(image).round().astype(np.uint8)


def readable_images(folder: Path) -> list[Path]:
    """The images of a folder, each of which has a readable header and a name of its own.

    Raises:
        UserError: otherwise.
    """
    files = list_images(folder)
    check_distinct(files)
    for path in files:
        image_size(path)
    return files


def define_task_images(
    task: str, *, folder_lq: Path | None, folder_gt: Path | None, scale: int, noise: int, quality: int
) -> TaskImages:
    """The test images of a task.

    Super-resolution pairs both folders, or makes the LR images of `folder_gt` by bicubic; denoising and JPEG
    artefact reduction degrade the images of `folder_gt`; `folder_lq` alone has no ground truth.

    Args:
        noise: standard deviation, in grey levels of 255.
        quality: JPEG quality.

    Raises:
        UserError: no folder is given, or they hold no images that go together.
    """
    channels, kind = TASKS[task].channels, TASKS[task].kind
    if folder_gt is None:
        if folder_lq is None:
            raise UserError("neither --folder_lq nor --folder_gt is given")
        return LRImages(readable_images(folder_lq), channels=channels)
    files = readable_images(folder_gt)
    if kind == "sr":
        return SRImages(sr_pairs(folder_gt, folder_lq, scale=scale, cache=None), scale=scale, channels=channels)
    if folder_lq is not None:
        raise UserError(f"--folder_lq: task {task} makes its own low-quality images from --folder_gt; give only one")
    read = read_jpeg_gray if task == "jpeg_car" else partial(read_image, channels=channels)
    return Degraded(files, read=read, degrade=noisy(noise) if kind == "noise" else jpeg(quality))
