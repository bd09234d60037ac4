"""PSNR, SSIM and PSNR-B as the SwinIR paper reports them, computed in float64 where the images are.

Images are (C, H, W), C = 1 or 3 in RGB order: uint8, or luma in [0, 255]. Figures are float64 scalars on the images'
device. `border` pixels are cut off on each side first. "Y" is the luma of ITU-R BT.601 as MATLAB's rgb2ycbcr gives it,
[16, 235] and not rounded; of a gray image, the image itself.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from utils.process.errors import UserError

JPEG_BLOCK = 8
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_CONSTANTS = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C1 and C2 of the paper
LUMA_THOUSANDTHS = (65481, 128553, 24966)  # of red, green and blue in [0, 1]: whole, so that their sum is exact
SSIM_ROWS = {"cpu": 32, "cuda": 128}  # at once: as many as a core's cache holds; enough work for each GPU kernel
SSIM_COLUMNS = 32


def luma(image: Tensor) -> Tensor:
    """(C, H, W) uint8 -> (1, H, W) float64."""
    if len(image) == 1:
        return image.double()
    weights = torch.tensor(LUMA_THOUSANDTHS, dtype=torch.float64, device=image.device)
    return (image.permute(1, 2, 0).double() @ weights).div_(255_000).add_(16)[None]


def judged_border(scale: int) -> int:
    """HR pixels on each side that papers leave out for an enlargement by `scale`: none where nothing is enlarged."""
    return scale if scale > 1 else 0


def cut_border(image: Tensor, border: int) -> Tensor:
    """Remove `border` pixels on each side."""
    return image[:, border : image.shape[1] - border, border : image.shape[2] - border]


def mean_squared_error(image: Tensor, reference: Tensor) -> Tensor:
    """The mean squared error over all pixels and channels of two images of the same shape."""
    return (image.double() - reference).square_().mean()


def decibels(mse: Tensor) -> Tensor:
    """The PSNR that belongs to a mean squared error of [0, 255] values; infinite for none."""
    return 10 * torch.log10(255**2 / mse)


def psnr(image: Tensor, reference: Tensor, *, border: int) -> Tensor:
    """Peak signal-to-noise ratio in dB over all pixels and channels."""
    return decibels(mean_squared_error(cut_border(image, border), cut_border(reference, border)))


def smallest_judged(scale: int) -> int:
    """Pixels in height and width that an HR image needs for SSIM to have one window.

    The window lies within the border, and the image is first cut to a multiple of `scale`.
    """
    needed = SSIM_WINDOW + 2 * judged_border(scale)
    return needed + -needed % scale


def ssim(image: Tensor, reference: Tensor, *, border: int) -> Tensor:
    """Structural similarity (Wang et al., TIP 2004): Gaussian 11x11 windows of sigma 1.5, the mean over channels.

    Raises:
        UserError: less than one window is left of the image.
    """
    image, reference = (cut_border(x, border).contiguous() for x in (image, reference))
    channels, height, width = image.shape
    if min(height, width) < SSIM_WINDOW:
        raise UserError(f"SSIM needs {SSIM_WINDOW + 2 * border} pixels in height and width")
    windows_down, windows_across = height - SSIM_WINDOW + 1, width - SSIM_WINDOW + 1
    rows = SSIM_ROWS[image.device.type]
    total = torch.zeros((), dtype=torch.float64, device=image.device)
    for top in range(0, windows_down, rows):
        strip = slice(top, top + rows + SSIM_WINDOW - 1)
        total += similarity(image[:, strip].double(), reference[:, strip].double()).sum()
    return total / (channels * windows_down * windows_across)


def similarity(image: Tensor, reference: Tensor) -> Tensor:
    """The SSIM of each window, eq. 13 of the paper: (C, H, W) float64 -> (C, H - 10, W - 10)."""
    c1, c2 = SSIM_CONSTANTS
    moments = [image, reference, image * reference, image.square() + reference.square()]
    mean, reference_mean, product, squares = window_means(torch.stack(moments))
    product_of_means = mean * reference_mean
    squares_of_means = mean.square() + reference_mean.square()
    covariance, variances = product - product_of_means, squares - squares_of_means
    return (2 * product_of_means + c1) * (2 * covariance + c2) / ((squares_of_means + c1) * (variances + c2))


def window_means(maps: Tensor) -> Tensor:
    """The Gaussian mean of each window that lies within: (..., H, W) float64 -> (..., H - 10, W - 10).

    By matrix products, rows first, then columns block by block: convolutions in float64 take 10 times as long.
    """
    reach = SSIM_WINDOW - 1
    maps = gaussian_band(maps.shape[-2] - reach, maps.device) @ maps
    count = maps.shape[-1] - reach
    columns = min(SSIM_COLUMNS, count)
    in_blocks = count - count % columns
    blocks = maps[..., : in_blocks + reach].unfold(-1, columns + reach, columns)
    means = (blocks @ gaussian_band(columns, maps.device).mT).flatten(-2)
    rest = maps[..., in_blocks:] @ gaussian_band(count - in_blocks, maps.device).mT
    return torch.cat([means, rest], dim=-1)


@lru_cache(maxsize=64)
def gaussian_band(count: int, device: torch.device) -> Tensor:
    """(count, count + 10) float64: each row makes one window's mean of as many values."""
    offsets = torch.arange(count + SSIM_WINDOW - 1, dtype=torch.float64) - torch.arange(count)[:, None]
    inside = (offsets >= 0) & (offsets < SSIM_WINDOW)
    weights = torch.exp(-((offsets - SSIM_WINDOW // 2) ** 2) / (2 * SSIM_SIGMA**2)) * inside
    return (weights / weights.sum(dim=1, keepdim=True)).to(device)


def psnrb(image: Tensor, reference: Tensor, *, border: int) -> Tensor:
    """PSNR in dB that also punishes the edges between JPEG blocks in `image` (Yim and Bovik, TIP 2011).

    Of several channels, the mean of their decibels, as the published SwinIR script takes it.
    """
    image, reference = (cut_border(x, border).double() for x in (image, reference))
    errors = [
        mean_squared_error(*channels) + blocking_effect(channels[0]) for channels in zip(image, reference, strict=True)
    ]
    return decibels(torch.stack(errors)).mean()


def blocking_effect(image: Tensor) -> Tensor:
    """The blocking effect factor of one (H, W) channel: how much steeper block edges are than other neighbours.

    Eq. 13 to 19 of Yim and Bovik for 8x8 blocks, with the published SwinIR script's counts of the edges.
    """
    height, width = image.shape
    edge_sum = other_sum = torch.zeros((), dtype=torch.float64, device=image.device)
    for dim in (0, 1):
        squares = image.diff(dim=dim).square_().sum(dim=1 - dim)
        on_edge = squares[JPEG_BLOCK - 1 :: JPEG_BLOCK].sum()
        edge_sum = edge_sum + on_edge
        other_sum = other_sum + squares.sum() - on_edge
    edges = height * (width // JPEG_BLOCK - 1) + width * (height // JPEG_BLOCK - 1)
    if edges <= 0:  # less than two blocks
        return torch.zeros_like(edge_sum)
    others = height * (width - 1) + width * (height - 1) - edges
    excess = (edge_sum / edges - other_sum / others).clamp(min=0)
    return excess * math.log2(JPEG_BLOCK) / math.log2(min(height, width))
