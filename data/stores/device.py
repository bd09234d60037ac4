"""Stores of pixels in the memory of the device that trains, where crops are gathered without a loader.

Shapes: B windows, C image channels, S pixels of a window's side.
"""

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from data.stores.mapped import ImageStore
from data.stores.windows import Window, reorient
from utils.process.errors import UserError
from utils.process.machine import free_bytes

logger = logging.getLogger(__name__)


class DeviceStore:
    """Images of one number of channels, all their pixels in one tensor on the device.

    Args:
        pixels: of all images one after another, each (H, W, C), flat uint8.
        starts: where each image begins in them.
        widths: W of each.
    """

    def __init__(self, pixels: Tensor, *, starts: Sequence[int], widths: Sequence[int], channels: int) -> None:
        self.pixels = pixels
        self.starts = starts
        self.widths = widths
        self.channels = channels

    def windows(self, places: Sequence[tuple[int, Window]]) -> Tensor:
        """Windows of one size, each with the number of its image -> (B, C, S, S) uint8, channels last in memory."""
        size = places[0][1].size
        rows = [
            (self.starts[image], self.widths[image], window.top, window.left, window.orientation)
            for image, window in places
        ]
        table = torch.tensor(rows).to(self.pixels.device, non_blocking=True)  # the only message to the device
        start, width, top, left, orientation = table.T[..., None, None]  # (B, 1, 1) each
        y, x = turned_positions(size, self.pixels.device)[orientation[:, 0, 0]].unbind(-1)  # (B, S, S) each
        first_channel = start + ((top + y) * width + left + x) * self.channels
        channel = torch.arange(self.channels, device=self.pixels.device)
        return self.pixels[first_channel[..., None] + channel].movedim(-1, 1)


def copied(store: ImageStore, device: torch.device) -> DeviceStore:
    """A store whose pixels are copied to the device."""
    pixels = torch.from_file(str(store.path), shared=False, size=store.starts[-1], dtype=torch.uint8).to(device)
    widths = [width for _, width, _ in store.shapes]
    return DeviceStore(pixels, starts=store.starts, widths=widths, channels=store.shapes[0][2])


def store_of_images(images: Tensor) -> DeviceStore:
    """(B, C, H, W) uint8 as a store."""
    count, channels, _, width = images.shape
    starts = range(0, images.numel(), images[0].numel())
    return DeviceStore(images.movedim(1, -1).flatten(), starts=starts, widths=[width] * count, channels=channels)


@cache
def turned_positions(size: int, device: torch.device) -> Tensor:
    """Which (y, x) of a window each pixel of it comes from, for the eight orientations: (8, S, S, 2)."""
    upright = np.indices((size, size), dtype=np.int32).transpose(1, 2, 0).copy()
    turned = np.stack([reorient(upright, orientation) for orientation in range(8)])
    return torch.from_numpy(turned).long().to(device)


def has_room(stores: Sequence[ImageStore], device: torch.device, *, asked: bool) -> bool:
    """Whether stores may lie in the device's memory: they take no more than half of what is free.

    Raises:
        UserError: they do not fit, but were `asked` to lie there.
    """
    needed, free = sum(store.starts[-1] for store in stores), free_bytes(device)
    sizes = f"{needed / 1e9:.2f} GB of the {free / 1e9:.2f} GB that are free on {device}"
    if needed <= free / 2:
        logger.info("crops   : made on %s, where the decoded images take %s", device, sizes)
        return True
    if asked:
        raise UserError(
            f'datasets.train.cache: with "device" the decoded images would take {sizes}; expected no more than half '
            f'of it, or "memmap"'
        )
    return False
