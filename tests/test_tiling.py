"""Tiling with restorations whose result is known."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.imaging.tiling import choose_tile, fitting_tile, restore_tiled, tile_starts
from utils.process.machine import free_bytes


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
    torch.testing.assert_close(tiled, Nearest()(lr_image))


def test_one_tile_fades_into_the_next() -> None:
    values = iter([1.0, 3.0, 8.0])

    def restore(lr_image: Tensor) -> Tensor:
        return torch.full_like(lr_image, next(values)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    tiled = restore_tiled(restore, torch.zeros(1, 1, 4, 8), scale=2, tile=4, overlap=2)
    row = [1, 1, 1, 1, 1.25, 1.75, 2.25, 2.75, 3.625, 4.875, 6.125, 7.375, 8, 8, 8, 8]
    torch.testing.assert_close(tiled, torch.tensor(row).expand(1, 1, 8, 16))


@pytest.mark.parametrize("overlap", [0, 3, 7])
@pytest.mark.parametrize("size", [8, 9, 15, 16, 61])
def test_neighbouring_tiles_share_at_least_the_overlap_and_reach_both_ends(size: int, overlap: int) -> None:
    starts = tile_starts(size, 8, overlap)
    assert starts[0] == 0
    assert starts[-1] == size - 8
    assert all(0 < right - left <= 8 - overlap for left, right in pairwise(starts))


@pytest.mark.parametrize(
    ("free", "tile"),
    [
        (125_000_000, None),  # 1000 x 500 pixels of 200 bytes each are 100 MB, and four fifths are planned with
        (124_999_999, 696),  # the result keeps 3 MB, so 97 MB are for the tile: 696**2 * 200 bytes, but not 704**2
        (20_000_000, 248),
        (3_750_000, 64),  # not a single pixel fits: the smallest tile is still tried
        (0, 64),
    ],
)
def test_what_fits_is_restored_whole_and_what_does_not_in_the_largest_tiles(free: int, tile: int | None) -> None:
    chosen = fitting_tile(
        1000, 500, peak_bytes=lambda pixels: 200 * pixels, bytes_kept=6, free=free, multiple=8, smallest=64
    )
    assert chosen == tile


def test_the_choice_of_tiles_follows_the_free_memory_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    lr_image = torch.zeros(1, 3, 100, 100)
    free = free_bytes(lr_image.device)
    assert 2**20 < free < 2**50
    chosen = {
        share: choose_tile(
            lr_image,
            scale=4,
            window_size=8,
            overlap=4,
            peak_bytes=lambda pixels, share=share: free * share / 108**2 * pixels,  # type: ignore[misc]
        )
        for share in (0.1, 4)
    }
    assert chosen[0.1] is None
    assert chosen[4] in range(32, 57, 8)  # sqrt(0.8 / 4) of 108, while other programs take and free memory
    (line,) = caplog.messages
    assert line.startswith("100x100 pixels at once would take about ")
    assert line.endswith(f" restored in tiles of {chosen[4]}")
