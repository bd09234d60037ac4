"""Datasets for denoising and JPEG artefact reduction: clean images alone, which are degraded as they are read.

Items are those of `data.batches` at scale 1; `L` of noisy images is float32, in [0, 1] and beyond: never clipped.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.batches import Crops, Item
from data.folders.files import file_version, read_unchanged
from data.sampler import Draw
from data.stores.mapped import ImageStore
from data.stores.windows import Window
from utils.imaging.degradations import Degrade, Read
from utils.imaging.io import jpeg_round_trip, read_image
from utils.imaging.tensors import to_tensor
from utils.options.datasets import TrainSet

JPEG_UNIT = 16  # pixels in height and width that JPEG codes together: four blocks, which share their colour


class Degraded(Dataset[Item]):
    """Whole clean images, and what `degrade` makes of them.

    Args:
        labels: what the results of those images are called whose file's name does not tell them apart.

    Raises:
        UserError: a file cannot be read, or is not what it was when this object was made.
    """

    def __init__(
        self, files: Sequence[Path], *, read: Read, degrade: Degrade, labels: Mapping[Path, str] | None = None
    ) -> None:
        self.labels = labels or {}
        self.files = files
        self.versions = [file_version(path) for path in files]
        self.read = read
        self.degrade = degrade

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        path = self.files[index]
        clean = read_unchanged(path, self.versions[index], read=self.read)
        item = Item(L=self.degrade(clean), H=to_tensor(clean), L_path=str(path), H_path=str(path))
        if path in self.labels:
            item["label"] = self.labels[path]
        return item


class CleanImages:
    """The pixels of clean images, (H, W, C) uint8, from their files or from a store.

    Raises:
        UserError: a file cannot be read, or is not what it was when this object was made.
    """

    def __init__(self, files: Sequence[Path], *, channels: int, store: ImageStore | None = None) -> None:
        self.files = files
        self.channels = channels
        self.store = store
        self.versions = [file_version(path) for path in files] if store is None else []

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        if self.store is not None:
            return self.store[index]
        read = partial(read_image, channels=self.channels)
        return read_unchanged(self.files[index], self.versions[index], read=read)


DegradeWindow = Callable[[np.ndarray, Window, np.random.Generator], Tensor]


class DegradedCrops(Crops):
    """Random H_size x H_size crops of clean images in one of the eight flips and rotations, degraded after these.

    Args:
        degrade: makes `L` of a window of a clean image, with a generator that is a function of (seed, draw).
    """

    images: CleanImages

    def __init__(self, images: CleanImages, *, H_size: int, seed: int, degrade: DegradeWindow) -> None:
        super().__init__(images, seed=seed)
        self.H_size = H_size
        self.degrade = degrade

    def __getitem__(self, draw: Draw) -> Item:
        image = self.images[draw.image]
        rng = np.random.default_rng([self.seed, draw.position])
        orientation = int(rng.integers(8))
        turned = turn(image, orientation)
        height, width, _ = turned.shape
        top, left = rng.integers([height - self.H_size + 1, width - self.H_size + 1]).tolist()
        window = Window(top, left, self.H_size)
        path = str(self.images.files[draw.image])
        return Item(
            L=self.degrade(turned, window, rng),
            H=to_tensor(np.ascontiguousarray(window.upright(turned))),
            L_path=path,
            H_path=path,
            window=f"{window} in orientation {orientation}",
        )


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """A view of (H, W, C) in one of its eight orientations, numbered as by `data.stores.windows.reorient`."""
    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


def noisy_window(image: np.ndarray, window: Window, rng: np.random.Generator, *, sigma: float) -> Tensor:
    """The window with white Gaussian noise of standard deviation `sigma`, in grey levels of 255, new for each crop."""
    clean = window.upright(image).astype(np.float32) / 255
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(sigma / 255)
    return torch.from_numpy((clean + noise).transpose(2, 0, 1))


def jpeg_window(image: np.ndarray, window: Window, _: np.random.Generator, *, quality: int) -> Tensor:
    """The window as it is in the whole image's JPEG, so that blocks begin anywhere in it, as they do in crops of files.

    Compressed are the window's JPEG units and one more on each side, from which the decoder interpolates colour.
    """
    top, left = (max(start // JPEG_UNIT - 1, 0) * JPEG_UNIT for start in (window.top, window.left))
    bottom, right = ((start + window.size) // JPEG_UNIT * JPEG_UNIT + 2 * JPEG_UNIT for start in window[:2])
    decoded = jpeg_round_trip(np.ascontiguousarray(image[top:bottom, left:right]), quality)
    of_decoded = Window(window.top - top, window.left - left, window.size)
    return to_tensor(np.ascontiguousarray(of_decoded.upright(decoded)))


def of_train_set(dataset: TrainSet) -> DegradeWindow:
    """What is done to the crops of a training set that has no LR images; it can be sent to worker processes."""
    if dataset.dataset_type == "dncnn":
        return partial(noisy_window, sigma=dataset.sigma)
    return partial(jpeg_window, quality=dataset.quality_factor)
