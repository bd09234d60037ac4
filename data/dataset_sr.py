"""Super-resolution datasets: random training crops and whole test images from HR/LR pairs.

Items are dictionaries with `L` (C, H, W) and `H` (C, scale*H, scale*W), both uint8 (the device makes them [0, 1]),
and their files `L_path` and `H_path`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from data.folders import Pair, bicubic_folder, check_crop_fits, make_bicubic_lr, pair_images
from data.sampler import Draw, StepSampler
from utils import dist
from utils.errors import UserError
from utils.images import read_image, to_tensor
from utils.options import Options, TestSet, TrainSet


class Item(TypedDict):
    """One pair of images or crops."""

    L: Tensor
    H: Tensor
    L_path: str
    H_path: str


Batch = dict[str, Any]  # an `Item` whose tensors have a batch dimension and whose paths are lists


class SRImages(Dataset[Item]):
    """Whole pairs in the order of their names; HR is cut to scale times LR, as in the published test script."""

    def __init__(self, pairs: Sequence[Pair], *, scale: int, channels: int) -> None:
        self.pairs = pairs
        self.scale = scale
        self.channels = channels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Item:
        pair = self.pairs[index]
        lr, hr = (read_image(path, channels=self.channels) for path in (pair.L, pair.H))
        hr = hr[: self.scale * lr.shape[0], : self.scale * lr.shape[1]]
        return Item(L=to_tensor(lr), H=to_tensor(hr), L_path=str(pair.L), H_path=str(pair.H))


class SRCrops(Dataset["Item | UserError"]):
    """Random H_size x H_size crops with their LR crops, in one of the eight flips and rotations.

    Indexed by a `Draw`: image, window and orientation are a pure function of (seed, draw).
    """

    def __init__(self, images: SRImages, *, H_size: int, seed: int) -> None:
        self.images = images
        self.L_size = H_size // images.scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Item | UserError:
        try:
            item = self.images[draw.image]
        except UserError as error:
            return error  # as an item: raised in a worker process it would arrive wrapped in a traceback
        rng = np.random.default_rng([self.seed, draw.position])
        height, width = item["L"].shape[1:]
        top, left, orientation = rng.integers([height - self.L_size + 1, width - self.L_size + 1, 8]).tolist()
        scale = self.images.scale
        item["L"] = reorient(crop(item["L"], top, left, self.L_size), orientation)
        item["H"] = reorient(crop(item["H"], scale * top, scale * left, scale * self.L_size), orientation)
        return item


def crop(image: Tensor, top: int, left: int, size: int) -> Tensor:
    """The (C, size, size) window of (C, H, W) whose first pixel is (top, left)."""
    return image[:, top : top + size, left : left + size]


def reorient(image: Tensor, orientation: int) -> Tensor:
    """One of the eight flips and rotations of (..., H, W): quarter turns 0 to 3, mirrored from 4 on."""
    if orientation >= 4:
        image = image.flip(-1)
    return image.rot90(orientation % 4, dims=(-2, -1)).contiguous()


def collate(items: Sequence[Item | UserError]) -> Batch | UserError:
    """Stack the items of a batch, or hand on the first error among them."""
    errors = [item for item in items if isinstance(item, UserError)]
    return errors[0] if errors else default_collate(list(items))


def training_batches(crops: SRCrops, options: Options, *, first_step: int) -> Iterator[Batch]:
    """This process's part of each training batch, from `first_step` on.

    Raises:
        UserError: an image cannot be read, or the batch size cannot be split over the processes.
    """
    train = options.datasets.train
    try:
        sampler = StepSampler(
            len(crops),
            batch_size=train.dataloader_batch_size,
            seed=options.train.manual_seed,
            shuffle=train.dataloader_shuffle,
            first_step=first_step,
            total_steps=options.train.total_iter,
            rank=dist.rank(),
            world_size=dist.world_size(),
        )
    except ValueError as error:
        raise UserError(f"datasets.train.dataloader_batch_size: {error}") from error
    loader = DataLoader(
        crops,
        batch_sampler=sampler,
        num_workers=train.dataloader_num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=single_threaded,
        generator=torch.Generator(),  # the loader seeds its workers from it, and leaves the global generator alone
    )
    return raise_errors(loader)


def raise_errors(batches: Iterable[Batch | UserError]) -> Iterator[Batch]:
    """The batches, until one turns out to be an error."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def single_threaded(_: int) -> None:
    """Keep OpenCV's own threads out of a worker process: the workers are the parallelism."""
    cv2.setNumThreads(0)


def sr_pairs(folder_H: Path, folder_L: Path | None, *, scale: int, cache: Path | None) -> list[Pair]:
    """Pair two folders; without `folder_L`, the LR images are made by bicubic and kept beside HR, or below `cache`.

    Raises:
        UserError: folders, names or sizes do not pair, or the LR images cannot be written.
    """
    if folder_L is None:
        folder_L = bicubic_folder(folder_H, scale=scale, cache=cache)
        with dist.main_first():
            make_bicubic_lr(folder_H, folder_L, scale=scale)
    return pair_images(folder_H, folder_L, scale=scale)


def define_images(dataset: TrainSet | TestSet, options: Options) -> SRImages:
    """The pairs of one dataset of the option file.

    Raises:
        UserError: as `sr_pairs`.
    """
    folder_L = None if dataset.dataroot_L is None else Path(dataset.dataroot_L)
    pairs = sr_pairs(Path(dataset.dataroot_H), folder_L, scale=options.scale, cache=options.path.cache_folder)
    return SRImages(pairs, scale=options.scale, channels=options.n_channels)


def define_tests(options: Options) -> dict[str, SRImages]:
    """The test sets of the option file, by name.

    Raises:
        UserError: as `define_images`.
    """
    return {test.name: define_images(test, options) for test in options.datasets.tests}


def define_crops(options: Options) -> SRCrops:
    """The training crops of the option file.

    Raises:
        UserError: as `define_images`, or an image is smaller than the crop.
    """
    train = options.datasets.train
    images = define_images(train, options)
    check_crop_fits(images.pairs, H_size=train.H_size)
    return SRCrops(images, H_size=train.H_size, seed=options.train.manual_seed)
