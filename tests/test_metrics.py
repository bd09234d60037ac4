"""PSNR, SSIM and PSNR-B against the golden values of the published code, and against scikit-image."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage as ski
import torch
from torch import Tensor

from data.dataset_sr import SRImages
from data.folders.files import list_images
from data.folders.pairs import pair_images
from tests.conftest import GOLDEN, make_image
from utils.evaluation.evaluate import compare
from utils.imaging.io import jpeg_round_trip, read_image
from utils.imaging.metrics import SSIM_COLUMNS, SSIM_ROWS, luma, psnr, psnrb, ssim
from utils.imaging.resize import imresize
from utils.imaging.tensors import to_levels, to_tensor, unit_range
from utils.process.errors import UserError

EXPECTED = json.loads((GOLDEN / "metrics.json").read_text(encoding="utf-8"))
TOLERANCES = {"psnr": 1e-3, "psnr_y": 1e-3, "ssim": 1e-6, "ssim_y": 1e-6, "psnrb_y": 1e-3}


def noise(height: int, width: int, *, channels: int, seed: int = 0) -> Tensor:
    return to_tensor(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


def figures_by_scikit_image(image: Tensor, reference: Tensor, *, border: int) -> dict[str, float]:
    """PSNR and SSIM of (C, H, W) uint8, over all channels and on Y, by another implementation."""
    arrays = [x.permute(1, 2, 0).numpy() for x in (image, reference)]
    on_y = [ski.color.rgb2ycbcr(x)[..., :1] if x.shape[2] == 3 else x for x in arrays]
    figures = {}
    for suffix, both in (("", arrays), ("_y", on_y)):
        cut = [x[border : x.shape[0] - border, border : x.shape[1] - border].astype(np.float64) for x in both]
        figures[f"psnr{suffix}"] = ski.metrics.peak_signal_noise_ratio(*cut, data_range=255)
        figures[f"ssim{suffix}"] = ski.metrics.structural_similarity(
            *cut, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    return figures


def assert_as_scikit_image(image: Tensor, reference: Tensor, *, border: int) -> None:
    result = compare(image, {"H": reference, "L_path": "", "H_path": ""}, border=border).figures()
    expected = figures_by_scikit_image(image, reference, border=border)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=0, abs=1e-6 if name.startswith("psnr") else 1e-9), name


@pytest.mark.parametrize("case", range(len(EXPECTED)))
def test_metrics_equal_the_golden_values(case: int) -> None:
    golden = np.load(GOLDEN / "metrics.npz")
    a, b = (to_tensor(golden[f"{case}/{key}"][..., ::-1].copy()) for key in "ab")  # BGR -> RGB
    border = EXPECTED[case]["crop_border"]
    figures = {
        "psnr": psnr(a, b, border=border),
        "psnr_y": psnr(luma(a), luma(b), border=border),
        "ssim": ssim(a, b, border=border),
        "ssim_y": ssim(luma(a), luma(b), border=border),
        "psnrb_y": psnrb(luma(a), luma(b), border=border),
    }
    for name, tolerance in TOLERANCES.items():
        assert figures[name].item() == pytest.approx(EXPECTED[case][name], rel=0, abs=tolerance), name


# Less than a block of windows, whole blocks, and some more in either direction.
@pytest.mark.parametrize("height", [11, 30, SSIM_ROWS["cpu"] + 10, 2 * SSIM_ROWS["cpu"] + 11])
@pytest.mark.parametrize("width", [11, 30, 2 * SSIM_COLUMNS + 10, SSIM_COLUMNS + 11])
@pytest.mark.parametrize("channels", [1, 3])
def test_random_images_are_judged_as_by_scikit_image(height: int, width: int, channels: int) -> None:
    image, reference = (noise(height + 4, width + 4, channels=channels, seed=seed) for seed in (1, 2))
    assert_as_scikit_image(image, reference, border=2)
    assert_as_scikit_image(reference // 2 + image // 16, reference, border=0)


def test_the_rows_at_once_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    image, reference = (to_tensor(make_image(150, 70, seed=seed)) for seed in (1, 2))
    figures = [ssim(image, reference, border=3).item()]
    for rows in (1, SSIM_ROWS["cuda"]):
        monkeypatch.setitem(SSIM_ROWS, "cpu", rows)
        figures.append(ssim(image, reference, border=3).item())
    assert figures == pytest.approx([figures[0]] * 3, rel=0, abs=1e-12)


def test_real_images_are_judged_as_by_scikit_image(shared: Callable[[str], Path]) -> None:
    set5 = shared("testsets/Set5")
    images = SRImages(pair_images(set5 / "HR", set5 / "LR_bicubic" / "X4", scale=4), scale=4, channels=3)
    for item in (images[index] for index in range(len(images))):
        restored = to_levels(imresize(unit_range(item["L"]).double(), 4))
        assert_as_scikit_image(restored, item["H"], border=4)


def test_real_gray_images_are_judged_as_by_scikit_image(shared: Callable[[str], Path]) -> None:
    for path in list_images(shared("testsets/classic5")):
        image = read_image(path, channels=1)
        assert_as_scikit_image(to_tensor(jpeg_round_trip(image, 10)), to_tensor(image), border=0)


def test_images_are_left_as_they_are() -> None:
    image, reference = (luma(noise(40, 40, channels=3, seed=seed)) for seed in (1, 2))
    before = image.clone(), reference.clone()
    for metric in (psnr, ssim, psnrb):
        metric(image, reference, border=0)
    assert torch.equal(image, before[0])
    assert torch.equal(reference, before[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_are_infinitely_good(channels: int) -> None:
    image = noise(24, 30, channels=channels)
    assert psnr(image, image.clone(), border=4) == float("inf")
    assert psnr(luma(image), luma(image), border=0) == float("inf")
    assert ssim(image, image.clone(), border=4).item() == pytest.approx(1, abs=1e-12)


def test_psnrb_of_identical_images_without_edges_is_infinite() -> None:
    flat = torch.full((3, 32, 48), 200, dtype=torch.uint8)
    assert psnrb(flat, flat, border=0) == float("inf")


def test_psnrb_punishes_edges_between_blocks_only() -> None:
    reference = noise(4, 4, channels=1) // 8 + 100
    blocks = reference.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    smooth = torch.full_like(blocks, 115)
    assert psnrb(blocks, smooth, border=0) < psnr(blocks, smooth, border=0) - 1
    assert psnrb(smooth, blocks, border=0) == psnr(smooth, blocks, border=0)


def test_psnrb_of_colour_is_the_mean_of_its_channels_in_decibels() -> None:
    image, reference = noise(24, 32, channels=3, seed=1), noise(24, 32, channels=3, seed=2) // 2
    of_channels = [psnrb(image[c : c + 1], reference[c : c + 1], border=0).item() for c in range(3)]
    assert max(of_channels) - min(of_channels) > 1e-3
    assert psnrb(image, reference, border=0).item() == pytest.approx(np.mean(of_channels), abs=1e-9)


def test_the_luma_of_a_gray_image_is_the_image() -> None:
    a, b = noise(24, 30, channels=1, seed=1), noise(24, 30, channels=1, seed=2)
    assert psnr(luma(a), luma(b), border=2) == psnr(a, b, border=2)
    assert ssim(luma(a), luma(b), border=2) == ssim(a, b, border=2)


def test_luma_reads_rgb() -> None:
    colours = 255 * torch.eye(3, dtype=torch.uint8)[:, None]  # red, green, blue in a row
    assert luma(colours).flatten().tolist() == pytest.approx([81.481, 144.553, 40.966], abs=1e-3)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_is_outside_the_border_does_not_count(metric: Callable[..., Tensor]) -> None:
    reference = noise(24, 30, channels=3)
    image = reference.clone()
    image[:, :3] = image[:, -3:] = 0
    image[:, :, :3] = image[:, :, -3:] = 0
    perfect = metric(reference, reference, border=0)
    assert metric(image, reference, border=3).item() == pytest.approx(perfect.item())
    assert metric(image, reference, border=2) < perfect


def test_an_image_smaller_than_the_ssim_window_is_refused_with_the_size_needed() -> None:
    image = noise(18, 40, channels=3)
    with pytest.raises(UserError, match=r"^SSIM needs 19 pixels in height and width$"):
        ssim(image, image, border=4)
    with pytest.raises(UserError, match="needs 19 pixels"):
        ssim(image.mT, image.mT, border=4)
    large_enough = noise(19, 19, channels=3)
    assert ssim(large_enough, large_enough, border=4).item() == pytest.approx(1)
