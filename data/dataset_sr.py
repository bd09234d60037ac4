"""Super-resolution datasets: random training crops and whole test images from HR/LR pairs.

Items are those of `data.batches`, with uint8 images.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.batches import Batch, Crops, Item
from data.folders.derived import joined_name, lr_folder, make_bicubic_lr, short_hash, stores_folder
from data.folders.files import check_known_count, describe_files, file_version, list_images, read_unchanged
from data.folders.pairs import Pair, pair_images
from data.sampler import Draw
from data.stores.device import copied, has_room, store_of_images
from data.stores.mapped import ImageStore, decoded, fingerprint, remove_outdated
from data.stores.windows import Window, choose, choose_window, reorient
from utils.evaluation.restorer import Restore
from utils.imaging.io import image_size, read_image
from utils.imaging.resize import bicubic_down, shrunk
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.datasets import Folders, ImageSet
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import errors_about


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

    def lr_size(self, index: int) -> tuple[int, int]:
        """Height and width of an LR image, as `pixels` cuts it.

        Raises:
            UserError: one of the two files cannot be read.
        """
        if self.store is None:
            hr, lr = map(image_size, self.pairs[index])
        else:
            hr, lr = self.store.shapes[index + len(self)][:2], self.store.shapes[index][:2]
        return min(lr[0], hr[0] // self.scale), min(lr[1], hr[1] // self.scale)

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

    def __getitem__(self, draw: Draw) -> Item:
        lr, hr = self.images.pixels(draw.image)
        window, pair = self.window(draw, lr.shape[:2]), self.images.pairs[draw.image]
        of_hr = window.times(self.images.scale)
        item = Item(L=to_tensor(window.of(lr)), H=to_tensor(of_hr.of(hr)), L_path=str(pair.L), H_path=str(pair.H))
        item["window"] = str(of_hr)
        if self.taught is not None:
            item["T"] = to_tensor(of_hr.of(self.taught[draw.image]))
        if self.zoomed:
            zoom = self.zoomed_window(draw, lr.shape[:2])
            if zoom.size == self.L_size:
                item["Z"] = to_tensor(zoom.of(hr))
            else:
                item["Z"] = to_tensor(reorient(bicubic_down(zoom.upright(lr), 2), zoom.orientation))
        return item

    def window(self, draw: Draw, lr_size: tuple[int, int]) -> Window:
        """The LR crop of an LR image of this height and width."""
        return choose_window(f"{self.seed} {draw.position}", lr_size, self.L_size)

    def zoomed_window(self, draw: Draw, lr_size: tuple[int, int]) -> Window:
        """The second LR crop: a window of the HR image, or one twice as large of the LR image, to be halved.

        The latter only where the LR image is that large.
        """
        name = f"{self.seed} {draw.position} zoomed"
        (zoom_in,) = choose(f"{name} in", 2)
        if zoom_in or min(lr_size) < 2 * self.L_size:
            height, width = (self.images.scale * size for size in lr_size)
            return choose_window(name, (height, width), self.L_size)
        return choose_window(name, lr_size, 2 * self.L_size)

    def on_device(self, device: torch.device, *, cache: str) -> Callable[[Sequence[Draw]], Batch] | None:
        """As `Crops.on_device`; "auto" is the device's memory on a GPU whose memory is large enough."""
        if cache != "device" and (cache != "auto" or device.type == "cpu"):
            return None
        assert self.images.store is not None
        stores = [self.images.store, *([self.taught] if self.taught else [])]
        return DeviceCrops(self, device).batch if has_room(stores, device, asked=cache == "device") else None


class DeviceCrops:
    """The same crops, bit for bit, a batch at a time and gathered on the device.

    Where a second crop is halved, its rounding is the device's.
    """

    def __init__(self, crops: SRCrops, device: torch.device) -> None:
        assert crops.images.store is not None
        self.crops = crops
        self.pixels = copied(crops.images.store, device)
        self.taught = copied(crops.taught, device) if crops.taught else None

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The batch of these draws."""
        images, scale = self.crops.images, self.crops.images.scale
        of_lr = [(draw.image, self.crops.window(draw, images.lr_size(draw.image))) for draw in draws]
        of_hr = [(image, window.times(scale)) for image, window in of_lr]
        batch: Batch = {
            "L": self.pixels.windows(of_lr),
            "H": self.pixels.windows([(len(images) + image, window) for image, window in of_hr]),
            "L_path": [str(images.pairs[image].L) for image, _ in of_hr],
            "H_path": [str(images.pairs[image].H) for image, _ in of_hr],
            "window": [str(window) for _, window in of_hr],
        }
        if self.taught:
            batch["T"] = self.taught.windows(of_hr)
        if self.crops.zoomed:
            batch["Z"] = self._zoomed(draws)
        return batch

    def _zoomed(self, draws: Sequence[Draw]) -> Tensor:
        images, size = self.crops.images, self.crops.L_size
        windows = [self.crops.zoomed_window(draw, images.lr_size(draw.image)) for draw in draws]
        near = [k for k, window in enumerate(windows) if window.size == size]
        far = [k for k, window in enumerate(windows) if window.size != size]
        parts = []
        if near:
            parts.append(self.pixels.windows([(len(images) + draws[k].image, windows[k]) for k in near]))
        if far:
            large = self.pixels.windows([(draws[k].image, windows[k]._replace(orientation=0)) for k in far])
            halves = store_of_images(shrunk(large.flatten(0, 1), 2).unflatten(0, large.shape[:2]))
            parts.append(halves.windows([(i, Window(0, 0, size, windows[k].orientation)) for i, k in enumerate(far)]))
        order = torch.from_numpy(np.argsort(near + far)).to(parts[0].device, non_blocking=True)
        return torch.cat(parts)[order]


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
    sizes = map(images.lr_size, range(len(images)))
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
