"""PSNR, SSIM and PSNR-B against the golden values of the published code."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import GOLDEN
from utils.imaging.metrics import luma, psnr, psnrb, ssim
from utils.process.errors import UserError

EXPECTED = json.loads((GOLDEN / "metrics.json").read_text(encoding="utf-8"))
TOLERANCES = {"psnr": 1e-3, "psnr_y": 1e-3, "ssim": 1e-6, "ssim_y": 1e-6, "psnrb_y": 1e-3}


def noise(height: int, width: int, *, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("case", range(len(EXPECTED)))
def test_metrics_equal_the_golden_values(case: int) -> None:
    golden = np.load(GOLDEN / "metrics.npz")
    a, b = (golden[f"{case}/{key}"][..., ::-1] for key in "ab")  # BGR -> RGB
    border = EXPECTED[case]["crop_border"]
    figures = {
        "psnr": psnr(a, b, border=border),
        "psnr_y": psnr(luma(a), luma(b), border=border),
        "ssim": ssim(a, b, border=border),
        "ssim_y": ssim(luma(a), luma(b), border=border),
        "psnrb_y": psnrb(luma(a), luma(b), border=border),
    }
    for name, tolerance in TOLERANCES.items():
        assert figures[name] == pytest.approx(EXPECTED[case][name], rel=0, abs=tolerance), name


@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_are_infinitely_good(channels: int) -> None:
    image = noise(24, 30, channels=channels)
    assert psnr(image, image.copy(), border=4) == float("inf")
    assert psnr(luma(image), luma(image), border=0) == float("inf")
    assert ssim(image, image.copy(), border=4) == pytest.approx(1)


def test_psnrb_of_identical_images_without_edges_is_infinite() -> None:
    flat = np.full((32, 48, 3), 200, dtype=np.uint8)
    assert psnrb(flat, flat, border=0) == float("inf")


def test_psnrb_punishes_edges_between_blocks_only() -> None:
    reference = noise(4, 4, channels=1) // 8 + 100
    blocks = reference.repeat(8, axis=0).repeat(8, axis=1)
    smooth = np.full_like(blocks, 115)
    assert psnrb(blocks, smooth, border=0) < psnr(blocks, smooth, border=0) - 1
    assert psnrb(smooth, blocks, border=0) == psnr(smooth, blocks, border=0)


def test_psnrb_of_colour_is_the_mean_of_its_channels_in_decibels() -> None:
    image, reference = noise(24, 32, channels=3, seed=1), noise(24, 32, channels=3, seed=2) // 2
    of_channels = [psnrb(image[..., c : c + 1], reference[..., c : c + 1], border=0) for c in range(3)]
    assert max(of_channels) - min(of_channels) > 1e-3
    assert psnrb(image, reference, border=0) == pytest.approx(np.mean(of_channels), abs=1e-9)


def test_the_luma_of_a_gray_image_is_the_image() -> None:
    a, b = noise(24, 30, channels=1, seed=1), noise(24, 30, channels=1, seed=2)
    assert psnr(luma(a), luma(b), border=2) == psnr(a, b, border=2)
    assert ssim(luma(a), luma(b), border=2) == ssim(a, b, border=2)


def test_luma_reads_rgb() -> None:
    red, green, blue = 255 * np.eye(3, dtype=np.uint8)[:, None, None]
    np.testing.assert_allclose([luma(c).item() for c in (red, green, blue)], [81.481, 144.553, 40.966], atol=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_is_outside_the_border_does_not_count(metric: Callable[..., float]) -> None:
    reference = noise(24, 30, channels=3)
    image = reference.copy()
    image[:3] = image[-3:] = 0
    image[:, :3] = image[:, -3:] = 0
    perfect = metric(reference, reference, border=0)
    assert metric(image, reference, border=3) == pytest.approx(perfect)
    assert metric(image, reference, border=2) < perfect


def test_an_image_smaller_than_the_ssim_window_is_refused_with_the_size_needed() -> None:
    image = noise(18, 40, channels=3)
    with pytest.raises(UserError, match=r"^SSIM needs 19 pixels in height and width$"):
        ssim(image, image, border=4)
    with pytest.raises(UserError, match="needs 19 pixels"):
        ssim(image.transpose(1, 0, 2), image.transpose(1, 0, 2), border=4)
    large_enough = noise(19, 19, channels=3)
    assert ssim(large_enough, large_enough, border=4) == pytest.approx(1)
