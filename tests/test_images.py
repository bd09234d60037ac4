"""Images on disk, in tensors, and resized as MATLAB does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import GOLDEN
from utils.imaging.io import image_size, read_image, write_image
from utils.imaging.resize import bicubic_down, imresize
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.process.errors import UserError


def noise(height: int, width: int, *, channels: int) -> np.ndarray:
    """(height, width, channels) uint8 without any symmetry."""
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("case", range(9))
def test_imresize_equals_the_golden_values(case: int) -> None:
    golden = np.load(GOLDEN / "imresize.npz")
    image = torch.from_numpy(golden[f"{case}/x"]).permute(2, 0, 1)
    resized = imresize(image, float(golden[f"{case}/scale"])).permute(1, 2, 0)
    np.testing.assert_allclose(resized.numpy(), golden[f"{case}/y"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["baby", "bird", "butterfly", "head", "woman"])
def test_bicubic_down_is_within_two_grey_levels_of_the_published_lr_images(
    shared: Callable[[str], Path], name: str
) -> None:
    hr = read_image(shared(f"testsets/Set5/HR/{name}.png"), channels=3)
    lr = read_image(shared(f"testsets/Set5/LR_bicubic/X4/{name}x4.png"), channels=3)
    made = bicubic_down(hr, 4)
    assert made.shape == (hr.shape[0] // 4, hr.shape[1] // 4, 3)
    height, width = np.minimum(made.shape, lr.shape)[:2]
    difference = np.abs(made[:height, :width].astype(int) - lr[:height, :width])
    assert difference.max() <= 2
    assert difference.mean() < 0.2


@pytest.mark.parametrize("channels", [1, 3])
def test_bicubic_down_cuts_off_rows_and_columns_that_the_scale_does_not_divide(channels: int) -> None:
    image = noise(30, 45, channels=channels)
    made = bicubic_down(image, 4)
    assert made.shape == (7, 11, channels)
    np.testing.assert_array_equal(made, bicubic_down(image[:28, :44], 4))


@pytest.mark.parametrize("name", ["a.png", "two words.png", "Müller 图像.png", "A.PNG", "a.bmp", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path, name: str, channels: int) -> None:
    image = noise(5, 7, channels=channels)
    path = tmp_path / "new" / "folder" / name
    write_image(path, image)
    np.testing.assert_array_equal(read_image(path, channels=channels), image)
    assert image_size(path) == (5, 7)
    assert list(path.parent.iterdir()) == [path]


def test_arrays_are_rgb_whatever_library_wrote_or_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (3, 2), (255, 0, 0)).save(path)
    image = read_image(path, channels=3)
    np.testing.assert_array_equal(image, np.broadcast_to([255, 0, 0], (2, 3, 3)))
    write_image(path, image)
    assert Image.open(path).getpixel((0, 0)) == (255, 0, 0)


def test_colour_becomes_gray_by_its_luma_and_gray_becomes_colour(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("L", (3, 2), 77).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "red.png", channels=1), np.full((2, 3, 1), 76))
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png", channels=3), np.full((2, 3, 3), 77))


@pytest.mark.parametrize("content", [None, b"", b"This is not an image.", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for read in (image_size, lambda path: read_image(path, channels=3), lambda path: read_image(path, channels=1)):
        reason = r" \(No such file or directory\)" if content is None else ""
        with pytest.raises(UserError, match=f"^{path}: cannot be read as an image{reason}$"):
            read(path)


def test_a_truncated_image_has_a_size_but_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, noise(40, 30, channels=3))
    path.write_bytes(path.read_bytes()[:1000])
    assert image_size(path) == (40, 30)
    with pytest.raises(UserError, match=f"^{path}: cannot be read as an image$"):
        read_image(path, channels=3)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_value_survives_the_way_to_the_unit_range_and_back(channels: int) -> None:
    image = np.arange(256 * 3, dtype=np.uint8).reshape(16, -1, channels)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.uint8
    assert tensor.shape == (channels, *image.shape[:2])
    unit = unit_range(tensor)
    assert (unit.dtype, unit.min(), unit.max()) == (torch.float32, 0, 1)
    assert unit_range(unit) is unit
    np.testing.assert_array_equal(to_image(unit), image)
    np.testing.assert_array_equal(tensor, image.transpose(2, 0, 1))


def test_to_image_clamps_and_rounds_to_the_nearest() -> None:
    values = torch.tensor([-0.3, 0.4 / 255, 0.6 / 255, 99.6 / 255, 1.0, 1.7]).view(1, 1, 6)
    assert to_image(values).ravel().tolist() == [0, 0, 1, 100, 255, 255]
