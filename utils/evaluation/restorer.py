"""A network as the published test script runs it: padded, in tiles where memory is short, over eight orientations.

Images are [0, 1]; shapes: B batch, C channels, H W height and width of the LR image, s scale.
"""

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from utils.imaging.resize import imresize
from utils.imaging.tensors import to_image, to_tensor, unit_range, with_channels
from utils.imaging.tiling import PeakBytes, choose_tile, halved, restore_tiled
from utils.process.errors import UserError, lacks_memory

logger = logging.getLogger(__name__)

Restore = Callable[[Tensor], Tensor]


def padded_size(size: int, window_size: int) -> int:
    """Height or width as `pad_as_published` makes it: the next multiple above, at most twice the size."""
    return min((size // window_size + 1) * window_size, 2 * size)


def pad_as_published(lr_image: Tensor, window_size: int) -> Tensor:
    """Extend (B, C, H, W) by its mirror image to the next multiple of `window_size` above H and W.

    The published test script pads a full window even where the size is a multiple; its figures depend on it.
    """
    for dim in (2, 3):
        padded = padded_size(lr_image.shape[dim], window_size)
        lr_image = torch.cat([lr_image, lr_image.flip(dim)], dim).narrow(dim, 0, padded)
    return lr_image


def eight_fold(restore: Restore, lr_image: Tensor) -> Tensor:
    """Self-ensemble: the mean over the eight flips and rotations of (B, C, H, W), each turned back."""
    mean = torch.zeros((), device=lr_image.device)
    for turns in range(4):
        turned = lr_image.rot90(turns, dims=(-2, -1))
        both = restore(turned) + restore(turned.flip(-1)).flip(-1)
        mean = mean + both.rot90(-turns, dims=(-2, -1)) / 8
    return mean


@dataclass(eq=False)
class Restorer:
    """A network as the published test script runs it: (B, C, H, W) -> (B, C, s*H, s*W).

    Where memory runs out nevertheless, the tile is halved, for this image and those that follow.

    Args:
        tile: height and width of tiles, in LR pixels; None: whole images.
        tile_overlap: LR pixels that neighbouring tiles share.
        peak_bytes: the network's peak memory by the number of LR pixels, where no `tile` is given: images that would
            not fit into the free memory are tiled.
        name: what errors call the network.

    Attributes:
        automatic_tiles: the tiles, in LR pixels, that were chosen for lack of memory so far.
        largest_tile: the tile, in LR pixels, that the last lack of memory led to; None: there was none.
    """

    network: Restore
    _: KW_ONLY
    scale: int
    window_size: int
    tile: int | None = None
    tile_overlap: int = 32
    peak_bytes: PeakBytes | None = None
    self_ensemble: bool = False
    name: str = "the network"
    automatic_tiles: set[int] = field(default_factory=set, init=False)
    largest_tile: int | None = field(default=None, init=False)

    def __call__(self, lr_image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, s*H, s*W).

        Raises:
            UserError: the answer is not finite, of which no pixels can be made.
            RuntimeError, MemoryError: there is not the memory for the smallest tile.
        """
        tile = self._bounded(self.tile or self._fitting_tile(lr_image), lr_image)
        while True:
            restore = partial(self._restore, tile=tile)
            try:
                restored = eight_fold(restore, lr_image) if self.self_ensemble else restore(lr_image)
                break
            except Exception as error:
                smaller = halved(self._at_once(tile, lr_image), window_size=self.window_size, overlap=self.tile_overlap)
                if smaller is None or not lacks_memory(error):
                    raise
            tile = smaller  # out here, where the error no longer keeps the tensors of what failed
            self._note(tile)
        if not restored.isfinite().all():
            raise UserError(f"{self.name} answers with numbers that are infinite or NaN")
        return restored

    def _fitting_tile(self, lr_image: Tensor) -> int | None:
        if self.peak_bytes is None:
            return None
        tile = choose_tile(
            lr_image,
            scale=self.scale,
            window_size=self.window_size,
            overlap=self.tile_overlap,
            peak_bytes=self.peak_bytes,
        )
        self.automatic_tiles |= set() if tile is None else {tile}
        return tile

    def _at_once(self, tile: int | None, lr_image: Tensor) -> int:
        """LR pixels of the longer side of what is restored at once: a tile, or the whole image as it is padded."""
        whole = padded_size(max(lr_image.shape[2:]), self.window_size)
        return min(tile or whole, whole)

    def _bounded(self, tile: int | None, lr_image: Tensor) -> int | None:
        """The tile, or the one that an earlier lack of memory led to, where that divides the image more finely."""
        if self.largest_tile is None or self.largest_tile >= self._at_once(tile, lr_image):
            return tile
        self.automatic_tiles.add(self.largest_tile)
        return self.largest_tile

    def _note(self, tile: int) -> None:
        logger.warning("out of memory: %s goes on in tiles of %d LR pixels", self.name, tile)
        self.automatic_tiles.add(tile)
        self.largest_tile = tile

    def _restore(self, lr_image: Tensor, *, tile: int | None) -> Tensor:
        _, _, height, width = lr_image.shape
        padded = pad_as_published(lr_image, self.window_size)
        if tile is None:
            restored = self.network(padded)
        else:
            restored = restore_tiled(self.network, padded, scale=self.scale, tile=tile, overlap=self.tile_overlap)
        return restored[:, :, : self.scale * height, : self.scale * width]


def bicubic(scale: int) -> Restore:
    """The baseline: (B, C, H, W) -> (B, C, s*H, s*W) by MATLAB's bicubic interpolation."""
    return lambda lr_image: torch.stack([imresize(image.double(), scale).float() for image in lr_image])


@torch.no_grad()
def restore_alike(
    restore: Restore, image: np.ndarray, *, scale: int, channels: int, device: torch.device
) -> np.ndarray:
    """Restore an image by a network of `channels` channels, but keep the kind of image that it is.

    Gray stays gray, uint16 stays uint16, and alpha is up-sampled by MATLAB's bicubic interpolation. Only colour
    becomes gray where the network is for gray images and there is no alpha.

    Args:
        image: (H, W, C) uint8 or uint16, gray, RGB or RGBA -> (s*H, s*W, C).
    """
    stored = to_tensor(image)
    unit = unit_range(stored)
    colours, alpha = unit[:3], unit[3:]
    restored = restore(with_channels(colours, channels)[None].to(device))[0].cpu()
    if len(alpha):
        alpha = imresize(alpha.double(), scale).float()
        restored = torch.cat([with_channels(restored, 3), alpha])
    else:
        restored = with_channels(restored, min(channels, len(colours)))
    return to_image(restored, stored.dtype)
