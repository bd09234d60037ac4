"""Where crops lie: square windows of an image, in one of the eight flips and rotations."""

import hashlib
import struct
from typing import NamedTuple

import cv2
import numpy as np

ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


class Window(NamedTuple):
    """A window of `size` x `size` pixels whose first is (top, left), and an orientation as of `reorient`."""

    top: int
    left: int
    size: int
    orientation: int = 0

    def times(self, scale: int) -> "Window":
        """The same window of an image that is `scale` times as large."""
        return Window(scale * self.top, scale * self.left, scale * self.size, self.orientation)

    def of(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) -> a (size, size, C) copy."""
        return reorient(self.upright(image), self.orientation)

    def upright(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) -> the (size, size, C) view before it is flipped and rotated."""
        return image[self.top : self.top + self.size, self.left : self.left + self.size]

    def __str__(self) -> str:
        return f"[{self.top}:{self.top + self.size}, {self.left}:{self.left + self.size}]"


def choose_window(name: str, image_size: tuple[int, int], size: int) -> Window:
    """A window of an image of this height and width, a function of the name."""
    height, width = image_size
    top, left, orientation = choose(name, height - size + 1, width - size + 1, 8)
    return Window(top, left, size, orientation)


def choose(name: str, *counts: int) -> list[int]:
    """For each count a number from 0 to below it, all a function of the name.

    By 32-bit words of a hash: a NumPy generator made anew for each crop takes longer than the copying.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=4 * len(counts)).digest()
    words = struct.unpack(f"<{len(counts)}I", digest)
    return [word * count >> 32 for word, count in zip(words, counts, strict=True)]


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
