"""Low-quality images that are made of clean ones, and kept in no file: Gaussian noise and JPEG artefacts.

Clean images are (H, W, C) uint8; what becomes of them is (C, H, W), uint8, or float32 in [0, 1] and beyond for noise.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.imaging.io import is_stored_gray, jpeg_round_trip, read_image
from utils.imaging.metrics import luma
from utils.imaging.tensors import to_image, to_tensor
from utils.options.datasets import TestSet

Degrade = Callable[[np.ndarray], Tensor]
Read = Callable[[Path], np.ndarray]


def noisy(sigma: float) -> Degrade:
    """White Gaussian noise of standard deviation `sigma`, in grey levels of 255, the same for every image."""

    def degrade(clean: np.ndarray) -> Tensor:
        # The published script seeds NumPy's legacy generator with 0 for each image and draws in BGR order.
        noise = np.random.RandomState(0).normal(0, sigma / 255, clean.shape)[..., ::-1]
        noisy_image = clean.astype(np.float32) / 255 + noise
        return torch.from_numpy(noisy_image.astype(np.float32).transpose(2, 0, 1))

    return degrade


def jpeg(quality: int) -> Degrade:
    """JPEG compression and decompression by OpenCV."""
    return lambda clean: to_tensor(jpeg_round_trip(clean, quality))


def read_jpeg_gray(path: Path) -> np.ndarray:
    """A gray image as it is; of one stored in colour, even if it shows none, the rounded luma, in [16, 235]."""
    if is_stored_gray(path):
        return read_image(path, channels=1)
    return to_image(luma(to_tensor(read_image(path, channels=3))).round().byte())


def reader(*, jpeg: bool, channels: int) -> Read:
    """How the clean images of a test are read; those of gray JPEG as the published test script does it."""
    return read_jpeg_gray if jpeg and channels == 1 else lambda path: read_image(path, channels=channels)


def of_test_set(dataset: TestSet) -> Degrade:
    """What is done to the images of a test set that has no LR images."""
    return noisy(dataset.sigma) if dataset.dataset_type == "dncnn" else jpeg(dataset.quality_factor)
