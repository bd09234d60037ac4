"""Stores of pixels: many images as raw uint8 in one memory-mapped file, so that a crop is a slice.

Decoding a 2K PNG for each crop starves the GPU, and asking the teacher for each crop costs more than the student's
whole step; here either is done once. A store's file is named after what it was made from, so changed sources get a new
one; it appears only when complete. Processes of a machine that want the same file share the work, and what killed ones
have made stays. (After a power cut, when the disk may have lost what they had written, delete the `.partial` file.)
"""

import fcntl
import hashlib
import logging
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from data.folders.files import file_version
from utils.imaging.io import image_size, read_image
from utils.process.errors import UserError
from utils.process.machine import cores
from utils.process.terminal import Bar

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]
BEGUN, MADE = 1, 2  # what the mark of an image says, if not 0
NAMED = 5  # images that could not be made
POLL = 0.1  # seconds
HERE = f"{platform.node()} {uuid.getnode()}".encode()  # this machine

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
        Processes that come while one makes the file take some of the images from it, each with `threads` of its own.

        Raises:
            UserError: images cannot be made (the first are named), or the store does not fit on the disk.
        """
        partial = self.path.with_suffix(".partial")
        while not self._is_whole():
            with locked(partial) as file:
                if file is None:
                    self._help(make, threads=threads)
                    time.sleep(POLL)
                elif self._is_whole():  # another process has just built it, and `file` is a new one
                    partial.unlink(missing_ok=True)
                else:
                    self._lead(file, make, threads=threads, title=title)

    def _is_whole(self) -> bool:
        return self.path.exists() and self.path.stat().st_size == self.starts[-1]

    def _lead(self, file: BinaryIO, make: Callable[[int], np.ndarray], *, threads: int, title: str) -> None:
        """Make the images that other processes do not, and then the store of the `.partial` file."""
        size, partial, marks = self.starts[-1], self.path.with_suffix(".partial"), self.path.with_suffix(".marks")
        if self.path.exists():
            found, expected = f"{self.path.stat().st_size:,}", f"{size:,}"
            logger.warning("%s: has %s bytes, but should have %s; it is made again", self.path, found, expected)
        if os.fstat(file.fileno()).st_size != size:
            marks.unlink(missing_ok=True)
        reserve(file, partial, size=size)
        with marks.open("ab") as file_of_marks:
            file_of_marks.truncate(len(self))
            file_of_marks.write(HERE)
        logger.info("%s: making %s (%s)", title, self.path, tqdm.format_sizeof(size, "B"))
        self._fill(make, unless=(MADE, BEGUN), threads=threads, title=title)
        # What another process has begun may never be finished, and what could not be made is named now.
        problems = self._fill(make, unless=(MADE,), threads=threads)
        if problems:
            partial.unlink(missing_ok=True)
            marks.unlink(missing_ok=True)
            more = len(problems) - NAMED
            raise UserError(*problems[:NAMED], *([f"  and {more:,} more"] if more > 0 else []))
        os.fsync(file.fileno())
        partial.replace(self.path)
        marks.unlink(missing_ok=True)

    def _help(self, make: Callable[[int], np.ndarray], *, threads: int) -> None:
        """Make some of the images of the file that another process of this machine makes, once it is ready for that.

        Not from another machine: a network file system may write whole pages, and so old bytes over others' images.
        """
        partial, marks = self.path.with_suffix(".partial"), self.path.with_suffix(".marks")
        with suppress(FileNotFoundError):  # it has come to its end meanwhile
            if partial.stat().st_size == self.starts[-1] and marks.read_bytes()[len(self) :] == HERE:
                self._fill(make, unless=(MADE, BEGUN), threads=threads)

    def _fill(
        self, make: Callable[[int], np.ndarray], *, unless: tuple[int, ...], threads: int, title: str = ""
    ) -> list[str]:
        """Write the images whose mark is not in `unless`; return the errors of those that fail. A `title` shows a bar.

        Two processes that begin the same image in the same moment write the same pixels.
        """
        pixels, marks = (
            np.memmap(self.path.with_suffix(suffix), dtype=np.uint8, mode="r+", shape=(size,))
            for suffix, size in ((".partial", self.starts[-1]), (".marks", len(self)))
        )

        def write(index: int) -> str | None:
            if marks[index] in unless:
                return None
            marks[index] = BEGUN
            try:
                image = make(index)
            except UserError as error:
                return str(error)
            assert image.shape == self.shapes[index]
            pixels[self.starts[index] : self.starts[index + 1]] = image.reshape(-1)
            marks[index] = MADE
            return None

        missing = [index for index, mark in enumerate(marks.tolist()) if mark not in unless]
        done = len(self) - len(missing)
        progress = Bar(title, total=len(self), done=done, shown=bool(title))
        problems = []
        with ThreadPoolExecutor(threads) as pool, progress:
            for problem in pool.map(write, missing):
                problems += [problem] if problem else []
                progress.update()
        pixels.flush()
        return problems


def decoded(files: Sequence[Path], *, channels: int, folder: Path, label: str) -> ImageStore:
    """The store of some image files, made where it does not exist; older ones of the same label are deleted.

    Raises:
        UserError: images are damaged (the first are named), or the store does not fit on the disk.
    """
    shapes = [(*image_size(path), channels) for path in files]
    store = ImageStore(folder / f"{label}-{fingerprint(files, channels)}.u8", shapes)

    def decode(index: int) -> np.ndarray:
        image = read_image(files[index], channels=channels)
        if image.shape != shapes[index]:
            raise UserError(f"{files[index]}: its header says {shapes[index]}, but its pixels are {image.shape}")
        return image

    store.build(decode, threads=cores(), title=label)
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
    outdated = re.compile(re.escape(label) + r"-[0-9a-f]{16}\.(u8|partial|marks)")
    for path in store.path.parent.iterdir():
        unused = path.suffix == ".u8" or not is_locked(path.with_suffix(".partial"))
        if path != store.path and outdated.fullmatch(path.name) and unused:
            path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process is building the store of this `.partial` file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def free_bytes(folder: Path) -> int:
    """What can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO | None]:
    """Open a file for the one process that has its lock; None for the others. The lock of one that dies is released.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not in append mode: glibc then cannot reserve space where the file system itself does not know how.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
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
