"""Super-resolution datasets: random training crops and whole test images from HR/LR pairs.

Items are those of `data.batches`, with uint8 images.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.batches import Crops, Item
from data.folders.derived import joined_name, lr_folder, make_bicubic_lr, short_hash, stores_folder
from data.folders.files import check_known_count, describe_files, file_version, list_images, read_unchanged
from data.folders.pairs import Pair, pair_images
from data.image_store import ImageStore, decoded, fingerprint, remove_outdated
from data.sampler import Draw
from utils.evaluation.restorer import Restore
from utils.imaging.io import read_image
from utils.imaging.resize import bicubic_down
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.datasets import Folders, ImageSet
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import UserError, errors_about

ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


class SRImages(Dataset[Item]):
    """Whole pairs in their order; HR is cut to scale times LR, as in the published test script, and LR to within HR.

    Args:
        store: where the pixels come from, LR images first, instead of the files.
        labels: what the results of those HR images are called whose file's name does not tell them apart.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        scale: int,
        channels: int,
        store: ImageStore | None = None,
        labels: Mapping[Path, str] | None = None,
    ) -> None:
        self.pairs = pairs
        self.labels = labels or {}
        self.scale = scale
        self.channels = channels
        self.store = store
        self.versions = {path: file_version(path) for pair in pairs for path in pair} if store is None else {}

    def __len__(self) -> int:
        return len(self.pairs)

    def pixels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """LR and HR as (H, W, C) uint8.

        Raises:
            UserError: a file cannot be read, or is not what it was when this object was made.
        """
        if self.store is None:
            lr, hr = self._read(self.pairs[index].L), self._read(self.pairs[index].H)
        else:
            lr, hr = self.store[index], self.store[index + len(self)]
        lr = lr[: hr.shape[0] // self.scale, : hr.shape[1] // self.scale]
        return lr, hr[: self.scale * lr.shape[0], : self.scale * lr.shape[1]]

    def _read(self, path: Path) -> np.ndarray:
        return read_unchanged(path, self.versions[path], read=partial(read_image, channels=self.channels))

    def __getitem__(self, index: int) -> Item:
        (lr, hr), pair = self.pixels(index), self.pairs[index]
        item = Item(L=to_tensor(lr), H=to_tensor(hr), L_path=str(pair.L), H_path=str(pair.H))
        if pair.H in self.labels:
            item["label"] = self.labels[pair.H]
        return item


class SRCrops(Crops):
    """Random H_size x H_size crops with their LR crops, in one of the eight flips and rotations.

    Args:
        zoomed: whether items get a second LR crop as `Z`, of the same image at another size.

    Attributes:
        taught: the teacher's output for each whole image; items get its crop as `T`.
    """

    images: SRImages

    def __init__(self, images: SRImages, *, H_size: int, seed: int, zoomed: bool = False) -> None:
        super().__init__(images, seed=seed)
        self.taught: ImageStore | None = None
        self.zoomed = zoomed
        self.L_size = H_size // images.scale

    def __getitem__(self, draw: Draw) -> Item | UserError:
        try:
            lr, hr = self.images.pixels(draw.image)
        except UserError as error:
            return error  # as an item: raised in a worker process it would arrive wrapped in a traceback
        top, left, orientation = choose(f"{self.seed} {draw.position}", *choices(lr, self.L_size))
        scale, pair = self.images.scale, self.images.pairs[draw.image]

        def window(image: np.ndarray, factor: int) -> Tensor:
            return to_tensor(reorient(crop(image, factor * top, factor * left, factor * self.L_size), orientation))

        item = Item(L=window(lr, 1), H=window(hr, scale), L_path=str(pair.L), H_path=str(pair.H))
        (y, x), size = (scale * top, scale * left), scale * self.L_size
        item["window"] = f"[{y}:{y + size}, {x}:{x + size}]"
        if self.taught is not None:
            item["T"] = window(self.taught[draw.image], scale)
        if self.zoomed:
            item["Z"] = self._zoom(lr, hr, draw)
        return item

    def _zoom(self, lr: np.ndarray, hr: np.ndarray, draw: Draw) -> Tensor:
        """A window of the HR image, or one twice as large of the LR image, if it is that large, halved."""
        name = f"{self.seed} {draw.position} zoomed"
        (zoom_in,) = choose(f"{name} in", 2)
        if zoom_in or min(lr.shape[:2]) < 2 * self.L_size:
            top, left, orientation = choose(name, *choices(hr, self.L_size))
            return to_tensor(reorient(crop(hr, top, left, self.L_size), orientation))
        top, left, orientation = choose(name, *choices(lr, 2 * self.L_size))
        halved = bicubic_down(crop(lr, top, left, 2 * self.L_size), 2)
        return to_tensor(reorient(halved, orientation))


def choose(name: str, *counts: int) -> list[int]:
    """For each count a number from 0 to below it, all a function of the name.

    By 32-bit words of a hash: a NumPy generator made anew for each crop takes longer than the copying.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=4 * len(counts)).digest()
    words = struct.unpack(f"<{len(counts)}I", digest)
    return [word * count >> 32 for word, count in zip(words, counts, strict=True)]


def choices(image: np.ndarray, size: int) -> tuple[int, int, int]:
    """How many tops, lefts and orientations a window of (H, W, C) may have."""
    height, width, _ = image.shape
    return height - size + 1, width - size + 1, 8


def crop(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """The (size, size, C) window of (H, W, C) whose first pixel is (top, left)."""
    return image[top : top + size, left : left + size]


def reorient(image: np.ndarray, orientation: int) -> np.ndarray:
    """A copy in one of the eight flips and rotations of (H, W, C): quarter turns 0 to 3, mirrored from 4 on.

    By OpenCV: NumPy takes 10 to 30 times as long to copy a turned view of 192x192 pixels.
    """
    turned = cv2.flip(image, 1) if orientation >= 4 else image
    if orientation % 4:
        turned = cv2.rotate(turned, ROTATIONS[orientation % 4])
    elif turned is image:
        turned = image.copy()
    return turned.reshape(*turned.shape[:2], image.shape[2])  # OpenCV drops the only channel of gray images


def sr_pairs(folder_H: Path, folder_L: Path | None, *, scale: int, cache: Path | None) -> list[Pair]:
    """Pair two folders; without `folder_L`, the LR images are made by bicubic and kept beside HR, or below `cache`.

    Raises:
        UserError: folders, names or sizes do not pair, or the LR images cannot be written.
    """
    check_known_count(folder_H, len(list_images(folder_H)))
    if folder_L is not None:
        return pair_images(folder_H, folder_L, scale=scale)
    with dist.main_first():
        return make_bicubic_lr(folder_H, lr_folder(folder_H, scale=scale, cache=cache), scale=scale)


def define_pairs(dataset: ImageSet, options: Options) -> list[Pair]:
    """The pairs of one dataset of the option file, folder by folder.

    Raises:
        UserError: as `sr_pairs`, or the processes of the run see different files.
    """
    scale, cache = options.scale, options.path.cache_folder
    pairs = [pair for folders in dataset.folders for pair in sr_pairs(folders.H, folders.L, scale=scale, cache=cache)]
    dist.check_same(dataset.name, describe_files([pair.H for pair in pairs]))
    return pairs


def define_taught(images: SRImages, options: Options, restore: Restore, device: torch.device) -> ImageStore:
    """The teacher's outputs for the whole training images, 8-bit; made image by image where they do not exist.

    Args:
        restore: the teacher, (1, C, H, W) in [0, 1] -> (1, C, scale*H, scale*W).

    Raises:
        UserError: as `ImageStore.build`.
    """
    assert options.path.pretrained_netTeacher is not None
    weights = Path(options.path.pretrained_netTeacher)
    ensemble = options.train.teacher_ensemble
    lr_files = [pair.L for pair in images.pairs]
    scale, channels = options.scale, options.n_channels
    sizes = (pair.shared_size(scale) for pair in images.pairs)
    shapes = [(scale * height, scale * width, channels) for height, width in sizes]
    folders = options.datasets.train.folders
    teacher = f"{weights.parent.parent.name}-{weights.stem}-{short_hash(weights)}{'-ensemble' if ensemble else ''}"
    label = f"{sources_label(images.pairs, folders)}-{channels}ch-{teacher}"
    beside_weights = options.netTeacher.model_dump(include={"net_type", "img_range", "qk_scale"})
    name = fingerprint([*lr_files, weights], beside_weights)
    folder = stores_folder(folders, cache=options.path.cache_folder)
    taught = ImageStore(folder / f"{label}-{name}.u8", shapes)

    @torch.no_grad()
    def make(index: int) -> np.ndarray:
        lr_image = unit_range(to_tensor(images.pixels(index)[0])[None].to(device))
        with errors_about(images.pairs[index].L):
            return to_image(restore(lr_image)[0])

    taught.build(make, threads=1, title="teacher")
    remove_outdated(taught, label)
    return taught


def define_store(pairs: Sequence[Pair], options: Options) -> ImageStore:
    """The decoded pixels of the training pairs, LR images first, beside the dataset or below `path.cache`."""
    folders = options.datasets.train.folders
    files = [pair.L for pair in pairs] + [pair.H for pair in pairs]
    label = f"{sources_label(pairs, folders)}-{options.n_channels}ch"
    folder = stores_folder(folders, cache=options.path.cache_folder)
    return decoded(files, channels=options.n_channels, folder=folder, label=label)


def sources_label(pairs: Sequence[Pair], folders: Sequence[Folders]) -> str:
    """A name for what is made of these folders: of each LR folder, stores of its own."""
    return f"{joined_name(folders)}-{short_hash(pairs[0].L.parent)}"
