"""Stores of pixels: many images as raw uint8 in one memory-mapped file, so that a crop is a slice.

Decoding a 2K PNG for each crop starves the GPU, and asking the teacher for each crop costs more than the student's
whole step; here either is done once. A store's file is named after what it was made from, so changed sources get a new
one; it appears only when complete, and a build that was killed goes on where it stopped. (After a power cut, when the
disk may have lost what the process had written, delete the `.partial` file.)
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from data.folders.files import file_version
from utils.imaging.io import image_size, read_image
from utils.process.errors import UserError

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]

ADVICE = (
    "set path.cache to a folder elsewhere, or do without: "
    'datasets.train.cache "none" for the images, train.teacher "online" for the teacher\'s'
)


class ImageStore:
    """Images of the given shapes, (H, W, C) uint8 each, in one file; all processes share its pages.

    Args:
        path: the complete file.
        shapes: of the images, in their order.
    """

    def __init__(self, path: Path, shapes: Sequence[Shape]) -> None:
        self.path = path
        self.shapes = shapes
        self.starts = [0, *accumulate(height * width * channels for height, width, channels in shapes)]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._pixels[self.starts[index] : self.starts[index + 1]].reshape(self.shapes[index])

    @cached_property
    def _pixels(self) -> np.ndarray:
        # As a plain array: slicing np.memmap costs more than copying a crop.
        return np.memmap(self.path, dtype=np.uint8, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to worker processes without the pixels: each maps the file itself."""
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    def build(self, make: Callable[[int], np.ndarray], *, threads: int, title: str) -> None:
        """Make the file by writing `make(index)`, (H, W, C) uint8, for each image, unless it is there and has its size.

        Of what is in it there is no checksum: reading gigabytes at each start would cost more than making them again.

        Raises:
            UserError: images cannot be made (all are named), or the store does not fit on the disk.
        """
        if self._is_whole():
            return
        size = self.starts[-1]
        partial = self.path.with_suffix(".partial")
        with locked(partial) as file:
            if self._is_whole():  # another process has built it, and `file` may have become the store itself
                partial.unlink(missing_ok=True)
                return
            reserve(file, partial, size=size + len(self))
            logger.info("%s: making %s (%s)", title, self.path, tqdm.format_sizeof(size, "B"))
            mapped = np.memmap(file, dtype=np.uint8, mode="r+")
            problems = self._fill(mapped[:size], mapped[size:], make, threads=threads, title=title)
            if problems:
                partial.unlink(missing_ok=True)
                raise UserError("; ".join(problems))
            mapped.flush()
            file.truncate(size)
            os.fsync(file.fileno())
            partial.replace(self.path)

    def _is_whole(self) -> bool:
        if not self.path.exists():
            return False
        size, expected = self.path.stat().st_size, self.starts[-1]
        if size != expected:
            logger.warning(
                "%s: has %s bytes, but should have %s; it is made again", self.path, f"{size:,}", f"{expected:,}"
            )
        return size == expected

    def _fill(
        self, pixels: np.ndarray, done: np.ndarray, make: Callable[[int], np.ndarray], *, threads: int, title: str
    ) -> list[str]:
        """Write the images that are not `done` yet, and mark them; what stood in the way of some."""

        def write(index: int) -> str | None:
            try:
                image = make(index)
            except UserError as error:
                return str(error)
            assert image.shape == self.shapes[index]
            pixels[self.starts[index] : self.starts[index + 1]] = image.reshape(-1)
            done[index] = 1
            return None

        missing = np.flatnonzero(done == 0).tolist()
        progress = tqdm(total=len(self), initial=len(self) - len(missing), desc=title, unit="image", disable=None)
        problems = []
        with ThreadPoolExecutor(threads) as pool, progress:
            for problem in pool.map(write, missing):
                problems += [problem] if problem else []
                progress.update()
        return problems


def decoded(files: Sequence[Path], *, channels: int, folder: Path, label: str) -> ImageStore:
    """The store of some image files, made where it does not exist; older ones of the same label are deleted.

    Raises:
        UserError: images are damaged (all are named), or the store does not fit on the disk.
    """
    shapes = [(*image_size(path), channels) for path in files]
    store = ImageStore(folder / f"{label}-{fingerprint(files, channels)}.u8", shapes)

    def decode(index: int) -> np.ndarray:
        image = read_image(files[index], channels=channels)
        if image.shape != shapes[index]:
            raise UserError(f"{files[index]}: its header says {shapes[index]}, but its pixels are {image.shape}")
        return image

    store.build(decode, threads=len(os.sched_getaffinity(0)), title=label)  # other processes wait meanwhile
    remove_outdated(store, label)
    return store


def fingerprint(files: Sequence[Path], *settings: object) -> str:
    """A short name for exactly these files in this state, used with these settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        size, time = file_version(path)
        digest.update(f"{path.resolve()}\0{size}\0{time}\n".encode())
    return digest.hexdigest()[:16]


def remove_outdated(store: ImageStore, label: str) -> None:
    """Delete the other stores of a label, and what killed builds left: they are of files that have changed since."""
    outdated = re.compile(re.escape(label) + r"-[0-9a-f]{16}\.(u8|partial)")
    for path in store.path.parent.iterdir():
        if path != store.path and outdated.fullmatch(path.name) and not (path.suffix == ".partial" and is_locked(path)):
            path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process is building the store of this `.partial` file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def free_bytes(folder: Path) -> int:
    """What can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for the one process that may write it; the others wait, and the lock of one that dies is released.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not in append mode: glibc then cannot reserve space where the file system itself does not know how.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error.strerror}); {ADVICE}") from error


def reserve(file: BinaryIO, path: Path, *, size: int) -> None:
    """Bring a file to `size` bytes, all zero unless it had that size already: then an earlier build left it.

    Raises:
        UserError: the disk has less to spare; the file is deleted.
    """
    if os.fstat(file.fileno()).st_size == size:
        return
    file.truncate(0)
    free = free_bytes(path.parent)
    if free < size:
        path.unlink(missing_ok=True)  # the process that waited for the lock before has done so, too
        raise UserError(f"{path.parent}: {size / 1e9:.2f} GB are needed, but {free / 1e9:.2f} GB are free; {ADVICE}")
    os.posix_fallocate(file.fileno(), 0, size)  # a full disk shows here, not as SIGBUS later
