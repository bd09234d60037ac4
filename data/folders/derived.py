"""Files that are made of folders of HR images: where they go, and the LR images that are missing."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from data.folders.pairs import Pair, by_name
from utils.imaging.io import read_image, write_image
from utils.imaging.resize import bicubic_down
from utils.options.datasets import Folders
from utils.process.errors import UserError
from utils.process.terminal import Bar

logger = logging.getLogger(__name__)


def derived_folder(folder_H: Path, kind: str, *, cache: Path | None) -> Path:
    """Where files made from the images of `folder_H` are kept: beside it, or below `cache`."""
    resolved = folder_H.resolve()
    parent = resolved.parent if cache is None else cache.joinpath(*resolved.parts[1:-1])
    return parent / f"{resolved.name}_{kind}"


def stores_folder(folders: Sequence[Folders], *, cache: Path | None) -> Path:
    """Where what is decoded of a dataset is kept: beside its first folder, or below `cache`."""
    return derived_folder(folders[0].H, "stores", cache=cache)


def joined_name(folders: Sequence[Folders]) -> str:
    """`DIV2K_train_HR` for one folder, `DIV2K_train_HR_and_1_more-<hash>` for that and another."""
    name, more = folders[0].H.name, len(folders) - 1
    return f"{name}_and_{more}_more-{short_hash(*filter(None, chain(*folders)))}" if more else name


def short_hash(*paths: Path) -> str:
    """Tells files or folders of one name apart."""
    return hashlib.sha256("\n".join(str(path.resolve()) for path in paths).encode()).hexdigest()[:8]


def lr_folder(folder_H: Path, *, scale: int, cache: Path | None) -> Path:
    """Where the LR images are kept that are made of HR images which come without any."""
    return derived_folder(folder_H, "LR_bicubic", cache=cache) / f"X{scale}"


def make_bicubic_lr(folder_H: Path, folder_L: Path, *, scale: int) -> list[Pair]:
    """Write `<name>x<scale>.png` by MATLAB-compatible bicubic for each HR image that has changed since it was made.

    Raises:
        UserError: an HR image cannot be read or is smaller than the scale, or `folder_L` cannot be written.
    """

    def make(pair: Pair) -> None:
        time_H = pair.H.stat().st_mtime_ns  # how a later run sees whether the HR image is still the same
        image = read_image(pair.H, channels=3)
        if min(image.shape[:2]) < scale:
            raise UserError(f"{pair.H}: {image.shape[1]}x{image.shape[0]} pixels are too few to divide by {scale}")
        write_image(pair.L, bicubic_down(image, scale), mtime_ns=time_H)

    images_H = by_name(folder_H).values()
    pairs = [Pair(path, folder_L / lr_name(path.relative_to(folder_H), scale)) for path in images_H]
    stale = [pair for pair in pairs if not pair.L.exists() or pair.L.stat().st_mtime_ns != pair.H.stat().st_mtime_ns]
    if stale:
        try:
            folder_L.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder_L}: LR images cannot be written ({error.strerror}); name a folder of LR images, "
                "or, in an option file, set path.cache to a folder that can be written"
            ) from error
        logger.info("LR x%d: making %s images in %s", scale, f"{len(stale):,}", folder_L)
        with ThreadPoolExecutor() as pool, Bar(f"LR x{scale}", total=len(stale)) as bar:
            for _ in pool.map(make, stale):
                bar.update()
    return pairs


def lr_name(path_H: Path, scale: int) -> Path:
    """`dir/0001.png` -> `dir/0001x4.png`."""
    return path_H.with_name(f"{path_H.stem}x{scale}.png")
