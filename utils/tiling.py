"""Restoring an image in overlapping tiles, when the whole would not fit into memory.

Shapes: B batch, C channels, H W height and width of the LR image, s scale.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side: a stride of `tile - overlap`, and the last one flush with the end."""
    return [0] if size <= tile else [*range(0, size - tile, tile - overlap), size - tile]


def restore_tiled(
    restore: Callable[[Tensor], Tensor], lr_image: Tensor, *, scale: int, tile: int, overlap: int
) -> Tensor:
    """Restore (B, C, H, W) tile by tile and average where tiles overlap -> (B, C, s*H, s*W).

    Args:
        restore: (B, C, h, w) -> (B, C, s*h, s*w) for any h and w up to `tile`.
        tile: height and width of a tile in LR pixels; a side of the image that is smaller is not divided.
        overlap: LR pixels that neighbouring tiles share, fewer than `tile`.
    """
    _, _, height, width = lr_image.shape
    total = lr_image.new_zeros(*lr_image.shape[:2], scale * height, scale * width)
    count = torch.zeros_like(total[:1, :1])
    for top in tile_starts(height, tile, overlap):
        for left in tile_starts(width, tile, overlap):
            patch = restore(lr_image[:, :, top : top + tile, left : left + tile])
            window = (..., slice(scale * top, scale * (top + tile)), slice(scale * left, scale * (left + tile)))
            total[window] += patch
            count[window] += 1
    return total / count
