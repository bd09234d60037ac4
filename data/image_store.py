"""The decoded-image store: every training image as raw uint8 in one memory-mapped file, so that a crop is a slice.

Decoding a 2K PNG for each crop starves the GPU; here it is done once. The file is named after what it was made from
(names, sizes and times of the source files), so a changed dataset gets a new store, and it appears only when complete.
"""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.images import image_size, read_image

logger = logging.getLogger(__name__)


class ImageStore:
    """The pixels of some image files, (H, W, C) uint8 each, memory-mapped and shared by all processes.

    Args:
        files: the images, in the order of their index.
        channels: 1 or 3.
        folder: where the store lies; it is built there unless it exists.
        label: the beginning of its file name, usually the dataset's.

    Raises:
        UserError: images are damaged (all are named), or the store does not fit on the disk.
    """

    def __init__(self, files: Sequence[Path], *, channels: int, folder: Path, label: str) -> None:
        self.files = files
        self.shapes = [(*image_size(path), channels) for path in files]
        self.starts = [0, *accumulate(height * width * channels for height, width, _ in self.shapes)]
        self.label = label
        self.path = folder / f"{label}-{fingerprint(files, self.shapes)}.u8"
        if not self.path.exists():
            self._build()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._pixels[self.starts[index] : self.starts[index + 1]].reshape(self.shapes[index])

    @cached_property
    def _pixels(self) -> np.ndarray:
        # As a plain array: slicing np.memmap costs more than copying a crop.
        return np.memmap(self.path, dtype=np.uint8, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to worker processes without the pixels: each maps the file itself."""
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    def _build(self) -> None:
        """Decode all images, in threads, into a file that takes its final name only when it is complete."""
        partial = self.path.with_suffix(".partial")
        with writable(partial, size=self.starts[-1]) as file:
            if self.path.exists():  # another process has built it while this one waited for the lock
                return
            size = self.starts[-1]
            logger.info("decoding %s images into %s (%.1f GB)", f"{len(self):,}", self.path, size / 1e9)
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk shows here, not as SIGBUS while decoding
            pixels = np.memmap(file, dtype=np.uint8, mode="r+")
            with ThreadPoolExecutor() as pool, tqdm(total=len(self), desc="image store", unit="image") as bar:
                problems = []
                for problem in pool.map(lambda index: self._decode_into(pixels, index), range(len(self))):
                    problems += problem
                    bar.update()
            if problems:
                partial.unlink()
                raise UserError("; ".join(problems))
            pixels.flush()
            os.fsync(file.fileno())
            partial.replace(self.path)
        self._remove_outdated()

    def _decode_into(self, pixels: np.ndarray, index: int) -> list[str]:
        """Decode one image to its place; the problem, if there is one."""
        try:
            image = read_image(self.files[index], channels=self.shapes[index][2])
        except UserError as error:
            return [str(error)]
        if image.shape != self.shapes[index]:
            return [f"{self.files[index]}: its header says {self.shapes[index]}, its pixels are {image.shape}"]
        pixels[self.starts[index] : self.starts[index + 1]] = image.reshape(-1)
        return []

    def _remove_outdated(self) -> None:
        """Delete stores of the same label: they were made from files that have changed since."""
        for path in self.path.parent.glob(f"{self.label}-*.u8"):
            if path != self.path:
                path.unlink(missing_ok=True)


def fingerprint(files: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> str:
    """A short name for exactly these files in this state."""
    digest = hashlib.sha256()
    for path, shape in zip(files, shapes, strict=True):
        status = path.stat()
        digest.update(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{shape}\n".encode())
    return digest.hexdigest()[:16]


def free_bytes(folder: Path) -> int:
    """What can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


@contextmanager
def writable(path: Path, *, size: int) -> Iterator[Any]:
    """Open `path` for the one process that may write it; others wait. A process that dies gives way to the next.

    Raises:
        UserError: the folder cannot be written or has less than `size` bytes to spare.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            free = free_bytes(path.parent) + os.fstat(file.fileno()).st_blocks * 512
            if free < size:
                path.unlink(missing_ok=True)
                raise UserError(
                    f"{path.parent}: the image store needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; "
                    'set path.cache to another disk, or datasets.train.cache to "none"'
                )
            yield file
    except OSError as error:
        raise UserError(
            f"{path.parent}: the image store cannot be written ({error.strerror}); "
            'set path.cache to another folder, or datasets.train.cache to "none"'
        ) from error
