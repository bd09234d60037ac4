"""MATLAB's bicubic `imresize`, of which the LR images of papers are made."""

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.imaging.tensors import to_image, to_levels, to_tensor


def imresize(image: Tensor, scale: float) -> Tensor:
    """MATLAB's bicubic `imresize` of (C, H, W) floating-point: antialiased, output sizes rounded up.

    PyTorch's antialiased kernel is MATLAB's; what differs is the border, which MATLAB reflects. So the image is
    reflected outwards by more than the kernel reaches, resized, and cropped. The margin is a multiple of 1/scale,
    which keeps the sampling positions.
    """
    _, height, width = image.shape
    out_height, out_width = ceil(height * scale), ceil(width * scale)
    shrink = max(round(1 / scale), 1)
    before = 4 * shrink
    rows, columns = (
        symmetric_indices(size, before, before + -size % shrink, device=image.device) for size in (height, width)
    )
    padded = image[:, rows][:, :, columns][None]
    size = (round(padded.shape[2] * scale), round(padded.shape[3] * scale))
    resized = F.interpolate(padded, size=size, mode="bicubic", antialias=True, align_corners=False)[0]
    top = round(before * scale)
    return resized[:, top : top + out_height, top : top + out_width]


def symmetric_indices(size: int, before: int, after: int, *, device: torch.device | None = None) -> Tensor:
    """Indices that extend `size` pixels to both sides by reflection that repeats the edge pixel."""
    index = torch.arange(-before, size + after, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def bicubic_down(image: np.ndarray, scale: int) -> np.ndarray:
    """(H, W, C) uint8 -> its MATLAB-bicubic LR image, (H//scale, W//scale, C) uint8; the remainder is cut off first."""
    return to_image(shrunk(to_tensor(image), scale))


def shrunk(image: Tensor, scale: int) -> Tensor:
    """As `bicubic_down`, but for a (C, H, W) uint8 tensor, on its device."""
    height, width = (size - size % scale for size in image.shape[1:])
    return to_levels(imresize(image[:, :height, :width].double() / 255, 1 / scale))
