"""The image files below a folder, and whether they are still the same."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from utils.imaging.io import EXTENSIONS
from utils.process.errors import UserError

LMDB = frozenset({"data.mdb", "lock.mdb"})  # the files of one
# Incomplete downloads of these are common and cost days: folder name -> images.
KNOWN_COUNTS = {"DIV2K_train_HR": 800, "DIV2K_valid_HR": 100}


def list_images(folder: Path) -> list[Path]:
    """All image files below `folder`, sorted.

    Raises:
        UserError: the folder is missing or holds no image, or it or one below it cannot be read.
    """
    if folder.is_file():
        raise UserError(f"{folder}: this is a file; expected a folder of images")
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder (python -m data.download fetches DIV2K, Set5 and others)")
    files = list(files_below(folder))
    images = sorted(filter(is_image, files))
    if not images:
        if any(path.name in LMDB for path in files):
            raise UserError(
                f"{folder}: this is an LMDB, which is not read; name the folder of the images that are in it: "
                "they are decoded once, into a store that takes its place"
            )
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


def check_known_count(folder: Path, count: int) -> None:
    """Raise a `UserError` where a well-known dataset is not complete."""
    expected = KNOWN_COUNTS.get(folder.name, count)
    if count != expected:
        raise UserError(f"{folder}: {count} images, but the dataset of this name has {expected}")


def shorten(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(ordered[:5]) + more


def describe_files(files: Sequence[Path]) -> str:
    """How many files there are, and a fingerprint of their names and sizes: equal for copies of one dataset."""
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in files)
    return f"{len(files):,} images (fingerprint {hashlib.sha256(listing.encode()).hexdigest()[:8]})"
