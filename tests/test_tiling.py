"""Tiling with restorations whose result is known."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.tiling import restore_tiled, tile_starts


class Nearest:
    """Nearest-neighbour up-sampling by 4, which no tiling changes; remembers the sizes that it was given."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, lr_image: Tensor) -> Tensor:
        self.sizes.append((lr_image.shape[2], lr_image.shape[3]))
        return F.interpolate(lr_image, scale_factor=4, mode="nearest")


def image(height: int, width: int) -> Tensor:
    """A batch of whole numbers, whose means are exact."""
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "expected", "count"),
    [
        ((16, 24), 8, 0, (8, 8), 6),
        ((16, 24), 8, 4, (8, 8), 15),
        ((17, 23), 7, 3, (7, 7), 20),
        ((13, 13), 5, 4, (5, 5), 81),
        ((11, 29), 10, 1, (10, 10), 8),
        ((8, 8), 8, 2, (8, 8), 1),
        ((9, 14), 64, 32, (9, 14), 1),
        ((5, 20), 8, 2, (5, 8), 3),
        ((14, 9), 10, 9, (10, 9), 5),
    ],
)
def test_tiles_of_the_requested_size_make_up_the_whole(
    size: tuple[int, int], tile: int, overlap: int, expected: tuple[int, int], count: int
) -> None:
    restore, lr_image = Nearest(), image(*size)
    tiled = restore_tiled(restore, lr_image, scale=4, tile=tile, overlap=overlap)
    assert restore.sizes == [expected] * count
    assert torch.equal(tiled, Nearest()(lr_image))


def test_overlapping_tiles_are_averaged() -> None:
    values = iter([1.0, 3.0, 8.0])

    def restore(lr_image: Tensor) -> Tensor:
        return torch.full_like(lr_image, next(values)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    tiled = restore_tiled(restore, torch.zeros(1, 1, 4, 9), scale=2, tile=4, overlap=1)
    row = [1, 1, 1, 2, 3, 5.5, 5.5, 8, 8]
    assert torch.equal(tiled, torch.tensor(row).repeat_interleave(2).expand(1, 1, 8, 18))


@pytest.mark.parametrize("overlap", [0, 3, 7])
@pytest.mark.parametrize("size", [8, 9, 15, 16, 61])
def test_neighbouring_tiles_share_at_least_the_overlap_and_reach_both_ends(size: int, overlap: int) -> None:
    starts = tile_starts(size, 8, overlap)
    assert starts[0] == 0
    assert starts[-1] == size - 8
    assert all(0 < right - left <= 8 - overlap for left, right in pairwise(starts))
