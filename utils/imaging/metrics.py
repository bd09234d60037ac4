"""PSNR, SSIM and PSNR-B as the SwinIR paper reports them, over scikit-image.

Images are (H, W, C) uint8, C = 1 or 3 in RGB order. `border` pixels are cut off on each side first. "Y" is the
luma of ITU-R BT.601 as MATLAB's rgb2ycbcr gives it, [16, 235] and not rounded; of a gray image, the image itself.
"""

import numpy as np
import skimage as ski  # it loads its parts, and SciPy, when they are first used

from utils.process.errors import UserError

JPEG_BLOCK = 8
SSIM_WINDOW = 11


def luma(image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 -> (H, W, 1) float64."""
    return ski.color.rgb2ycbcr(image)[..., :1] if image.shape[2] == 3 else image.astype(np.float64)


def judged_border(scale: int) -> int:
    """HR pixels on each side that papers leave out for an enlargement by `scale`: none where nothing is enlarged."""
    return scale if scale > 1 else 0


def cut_border(image: np.ndarray, border: int) -> np.ndarray:
    """Remove `border` pixels on each side."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def decibels(mse: float) -> float:
    """The PSNR that belongs to a mean squared error of [0, 255] values; infinite for none."""
    return float(10 * np.log10(255**2 / mse)) if mse > 0 else float("inf")


def psnr(image: np.ndarray, reference: np.ndarray, *, border: int) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels."""
    return decibels(ski.metrics.mean_squared_error(cut_border(image, border), cut_border(reference, border)))


def smallest_judged(scale: int) -> int:
    """Pixels in height and width that an HR image needs for SSIM to have one window.

    The window lies within the border, and the image is first cut to a multiple of `scale`.
    """
    needed = SSIM_WINDOW + 2 * judged_border(scale)
    return needed + -needed % scale


def ssim(image: np.ndarray, reference: np.ndarray, *, border: int) -> float:
    """Structural similarity (Wang et al., TIP 2004): Gaussian 11x11 windows of sigma 1.5, the mean over channels.

    Raises:
        UserError: less than one window is left of the image.
    """
    image, reference = (cut_border(x, border).astype(np.float64) for x in (image, reference))
    if min(image.shape[:2]) < SSIM_WINDOW:
        raise UserError(f"SSIM needs {SSIM_WINDOW + 2 * border} pixels in height and width")
    return float(
        ski.metrics.structural_similarity(
            image,
            reference,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def psnrb(image: np.ndarray, reference: np.ndarray, *, border: int) -> float:
    """PSNR in dB that also punishes the edges between JPEG blocks in `image` (Yim and Bovik, TIP 2011).

    Of several channels, the mean of their decibels, as the published SwinIR script takes it.
    """
    image, reference = (np.moveaxis(cut_border(x, border).astype(np.float64), 2, 0) for x in (image, reference))
    errors = [
        ski.metrics.mean_squared_error(*channels) + blocking_effect(channels[0])
        for channels in zip(image, reference, strict=True)
    ]
    return float(np.mean([decibels(error) for error in errors]))


def blocking_effect(image: np.ndarray) -> float:
    """The blocking effect factor of one (H, W) channel: how much steeper block edges are than other neighbours.

    Eq. 13 to 19 of Yim and Bovik for 8x8 blocks, with the published SwinIR script's counts of the edges.
    """
    height, width = image.shape
    edge_sum = other_sum = 0.0
    for steps in (np.diff(image, axis=1).T, np.diff(image, axis=0)):
        squares = np.square(steps).sum(axis=1)
        on_edge = np.arange(1, len(squares) + 1) % JPEG_BLOCK == 0
        edge_sum += squares[on_edge].sum()
        other_sum += squares[~on_edge].sum()
    edges = height * (width // JPEG_BLOCK - 1) + width * (height // JPEG_BLOCK - 1)
    if edges <= 0:  # less than two blocks
        return 0.0
    others = height * (width - 1) + width * (height - 1) - edges
    excess = edge_sum / edges - other_sum / others
    return float(excess * np.log2(JPEG_BLOCK) / np.log2(min(height, width))) if excess > 0 else 0.0
