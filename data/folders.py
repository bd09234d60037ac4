"""Image folders: listing, pairing HR with LR by name, and making the LR images that are missing."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.images import EXTENSIONS, bicubic_down, image_size, read_image, write_image

# Incomplete downloads of these are common and cost days: folder name -> images.
KNOWN_COUNTS = {"DIV2K_train_HR": 800, "DIV2K_valid_HR": 100}


class Pair(NamedTuple):
    """The files of one HR image and its LR image."""

    H: Path
    L: Path


def list_images(folder: Path) -> list[Path]:
    """All image files below `folder`, sorted.

    Raises:
        UserError: the folder is missing or holds no image, or it or one below it cannot be read.
    """
    if folder.is_file():
        raise UserError(f"{folder}: this is a file; expected a folder of images")
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder (python -m data.download fetches DIV2K, Set5 and others)")
    images = sorted(filter(is_image, files_below(folder)))
    if not images:
        raise UserError(f"{folder}: there is no image ({', '.join(sorted(EXTENSIONS))}) in this folder")
    return images


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`; links to folders are not followed, so they cannot lead in a circle.

    Raises:
        UserError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


def is_image(path: Path) -> bool:
    """Whether a file should be an image; names that begin with a dot are leftovers and other systems' notes."""
    named = path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    return named and (path.is_file() or path.is_symlink())  # a link that leads nowhere is an image that is missing


def file_version(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds: while they stay, a file is taken for the same.

    Raises:
        UserError: the file is not there any more.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return status.st_size, status.st_mtime_ns


def read_unchanged(path: Path, version: tuple[int, int], *, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Read an image file that had that `file_version` when its dataset was made.

    Raises:
        UserError: it cannot be read, or is not the same any more.
    """
    image = read(path)
    if file_version(path) != version:
        raise UserError(f"{path}: the file was changed while it was in use")
    return image


def pair_images(folder_H: Path, folder_L: Path, *, scale: int) -> list[Pair]:
    """Pair the images of two folders by relative name, where LR names may end in `x<scale>`.

    Raises:
        UserError: a folder is missing or empty, an image has no partner, or sizes do not fit the scale.
    """
    images_H = by_name(folder_H)
    images_L = by_name(folder_L, suffix=f"x{scale}", unless=images_H.keys())
    problems = [
        f"{side} without a partner: {shorten(names)}"
        for side, names in (
            (f"HR images in {folder_H}", images_H.keys() - images_L.keys()),
            (f"LR images in {folder_L}", images_L.keys() - images_H.keys()),
        )
        if names
    ]
    if problems:
        raise UserError("; ".join(problems))
    pairs = [Pair(path, images_L[name]) for name, path in images_H.items()]
    check_scale(pairs, scale=scale)
    return pairs


def by_name(folder: Path, *, suffix: str = "", unless: Collection[str] = ()) -> dict[str, Path]:
    """Image files by their path below `folder`, without extension and, unless it is one of those names, `suffix`.

    Raises:
        UserError: as `list_images`, or two have the same name.
    """
    named: dict[str, Path] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name not in unless:
            name = name.removesuffix(suffix)
        if name in named:
            raise UserError(f"{path} and {named[name]} have the same name, so neither can be paired")
        named[name] = path
    return named


def check_scale(pairs: Sequence[Pair], *, scale: int) -> None:
    """Raise a `UserError` unless each LR image is its HR image divided by `scale`, rounded down."""
    unfit = []
    for pair in pairs:
        (height, width), size_L = image_size(pair.H), image_size(pair.L)
        if (height // scale, width // scale) != size_L:
            unfit.append(f"{pair.H.name} is {width}x{height} and {pair.L.name} {size_L[1]}x{size_L[0]}")
    if unfit:
        raise UserError(f"{pairs[0].H.parent}: sizes do not fit scale {scale}: {shorten(unfit)}")


def check_known_count(folder: Path, count: int) -> None:
    """Raise a `UserError` where a well-known dataset is not complete."""
    expected = KNOWN_COUNTS.get(folder.name, count)
    if count != expected:
        raise UserError(f"{folder}: {count} images, but the dataset of this name has {expected}")


def check_distinct(files: Iterable[Path]) -> None:
    """Raise a `UserError` unless results can be kept by the names of the files."""
    named: dict[str, Path] = {}
    for path in files:
        if named.setdefault(path.stem, path) != path:
            raise UserError(f"{named[path.stem]} and {path} have the same name, by which their results would be kept")


def shorten(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(ordered[:5]) + more


def describe_files(files: Sequence[Path]) -> str:
    """How many files there are, and a fingerprint of their names and sizes: equal for copies of one dataset."""
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in files)
    return f"{len(files):,} images (fingerprint {hashlib.sha256(listing.encode()).hexdigest()[:8]})"


def derived_folder(folder_H: Path, kind: str, *, cache: Path | None) -> Path:
    """Where files made from the images of `folder_H` are kept: beside it, or below `cache`."""
    if cache is None:
        resolved = folder_H.resolve()
        return resolved.with_name(f"{resolved.name}_{kind}")
    resolved = folder_H.resolve()
    return cache.joinpath(*resolved.parts[1:-1], f"{resolved.name}_{kind}")


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
        with ThreadPoolExecutor() as pool, tqdm(total=len(stale), desc=f"LR x{scale}", unit="image") as bar:
            for _ in pool.map(make, stale):
                bar.update()
    return pairs


def lr_name(path_H: Path, scale: int) -> Path:
    """`dir/0001.png` -> `dir/0001x4.png`."""
    return path_H.with_name(f"{path_H.stem}x{scale}.png")
