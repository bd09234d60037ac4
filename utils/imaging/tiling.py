"""Restoring an image in overlapping tiles, when the whole would not fit into memory.

Shapes: B batch, C channels, H W height and width of the LR image, s scale.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from utils.process.machine import free_bytes

PeakBytes = Callable[[int], float]  # of a network, by the number of LR pixels

logger = logging.getLogger(__name__)

USABLE = 0.8  # part of the free memory that is planned with; the rest is for what the estimate does not know


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side: a stride of `tile - overlap`, and the last one flush with the end."""
    return [0] if size <= tile else [*range(0, size - tile, tile - overlap), size - tile]


def fade(size: int, overlap: int, device: torch.device) -> Tensor:
    """(size,) weights that rise linearly over `overlap` pixels from either end to 1, and are nowhere 0."""
    position = torch.arange(size, device=device) + 0.5
    return (torch.minimum(position, size - position) / max(overlap, 0.5)).clamp(max=1)


def restore_tiled(
    restore: Callable[[Tensor], Tensor], lr_image: Tensor, *, scale: int, tile: int, overlap: int
) -> Tensor:
    """Restore (B, C, H, W) tile by tile -> (B, C, s*H, s*W); where tiles overlap, one fades into the next.

    The published test script takes the plain mean there, in which every tile ends at a seam.

    Args:
        restore: (B, C, h, w) -> (B, C, s*h, s*w) for any h and w up to `tile`.
        tile: height and width of a tile in LR pixels; a side of the image that is smaller is not divided.
        overlap: LR pixels that neighbouring tiles share, fewer than `tile`.
    """
    _, _, height, width = lr_image.shape
    total = lr_image.new_zeros(*lr_image.shape[:2], scale * height, scale * width)
    weights = torch.zeros_like(total[:1, :1])
    for top in tile_starts(height, tile, overlap):
        for left in tile_starts(width, tile, overlap):
            patch = restore(lr_image[:, :, top : top + tile, left : left + tile])
            rows, columns = (fade(size, scale * overlap, patch.device) for size in patch.shape[2:])
            weight = rows[:, None] * columns
            window = (..., slice(scale * top, scale * (top + tile)), slice(scale * left, scale * (left + tile)))
            total[window] += weight * patch
            weights[window] += weight
    return total.div_(weights)


def fitting_tile(
    height: int, width: int, *, peak_bytes: PeakBytes, bytes_kept: int, free: int, multiple: int, smallest: int
) -> int | None:
    """The largest tile, in LR pixels, whose restoration fits into `free` bytes; None where the whole image fits.

    Args:
        peak_bytes: what the network needs at its peak, by the number of LR pixels that it restores at once.
        bytes_kept: what the result needs meanwhile, for each LR pixel of the whole image.
        multiple: the windows of the network; tiles are multiples of them.
        smallest: the tile to try where nothing fits.
    """
    usable = USABLE * free
    if peak_bytes(height * width) <= usable:
        return None
    for_tile = usable - height * width * bytes_kept
    tiles = range(multiple, max(height, width) + 1, multiple)
    return max([smallest, *(tile for tile in tiles if peak_bytes(tile**2) <= for_tile)])


def smallest_tile(window_size: int, overlap: int) -> int:
    """The tile, in LR pixels, below which more would be restored twice than once."""
    return max(2 * overlap, window_size)


def halved(tile: int, *, window_size: int, overlap: int) -> int | None:
    """About half of a tile, a multiple of the window where it may be one; None where nothing smaller makes sense."""
    half = max(tile // 2 // window_size * window_size, smallest_tile(window_size, overlap))
    return half if half < tile else None


def choose_tile(lr_image: Tensor, *, scale: int, window_size: int, overlap: int, peak_bytes: PeakBytes) -> int | None:
    """The tile, in LR pixels, in which (B, C, H, W) fits into the memory that is free now; the log says so.

    Args:
        peak_bytes: as of `fitting_tile`.

    Returns:
        None where the whole image fits.
    """
    batch, channels, height, width = lr_image.shape
    free = free_bytes(lr_image.device)
    tile = fitting_tile(
        height + window_size,  # as it is padded
        width + window_size,
        peak_bytes=lambda pixels: batch * peak_bytes(pixels),
        bytes_kept=4 * (batch * channels + 1) * scale**2,  # restore_tiled's sums and weights, float32
        free=free,
        multiple=window_size,
        smallest=smallest_tile(window_size, overlap),
    )
    if tile is not None:
        need = batch * peak_bytes(height * width)
        logger.warning(
            "%dx%d pixels at once would take about %.3g GB of memory, %.3g GB are free: restored in tiles of %d",
            *(width, height, need / 1e9, free / 1e9, tile),
        )
    return tile
