"""Images as tensors and back.

Arrays are (H, W, C) uint8 or uint16; tensors are (C, H, W), and in [0, 1] where they are floating-point.
"""

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) -> (C, H, W), uint8 or uint16, channels last in memory; `unit_range` makes it [0, 1] later."""
    return torch.from_numpy(np.require(image, requirements="W").transpose(2, 0, 1))


def unit_range(image: Tensor) -> Tensor:
    """uint8 or uint16 -> float32 in [0, 1]; floating-point tensors are [0, 1] already and pass through."""
    return image if image.is_floating_point() else image.float().div_(torch.iinfo(image.dtype).max)


def to_levels(tensor: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """[0, 1], clamped and rounded, or other unsigned integers -> unsigned integers on the same device."""
    if tensor.dtype == dtype:
        return tensor
    return unit_range(tensor.detach()).float().clamp(0, 1).mul(torch.iinfo(dtype).max).round().to(dtype)


def to_image(tensor: Tensor, dtype: torch.dtype = torch.uint8) -> np.ndarray:
    """(C, H, W) in [0, 1], clamped and rounded, or of unsigned integers -> (H, W, C) of unsigned integers."""
    return to_levels(tensor, dtype).permute(1, 2, 0).cpu().numpy()


def with_channels(image: Tensor, channels: int) -> Tensor:
    """(..., C, H, W) -> (..., channels, H, W): colour becomes gray by the luma of ITU-R BT.601, gray becomes colour."""
    if image.shape[-3] == channels:
        return image
    if channels == 3:
        return image.expand(*image.shape[:-3], 3, -1, -1)
    return (image * image.new_tensor(LUMA)[:, None, None]).sum(dim=-3, keepdim=True)
