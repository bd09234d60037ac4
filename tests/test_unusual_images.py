"""Unusual images, of real files: read as docs/data.md says, and any bytes at all are an image or a `UserError`."""

import contextlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import make_image, train_here
from utils.imaging.degradations import read_jpeg_gray
from utils.imaging.io import EXIF_ORIENTATION, image_size, read_as_stored, read_image
from utils.process.errors import UserError

PICTURE = make_image(48, 64, seed=9)
RGB = Image.fromarray(PICTURE)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = orientation
    return tags.tobytes()


def rgba() -> Image.Image:
    image = RGB.copy()
    image.putalpha(Image.fromarray(PICTURE[..., 1]))
    return image


def save_16_bit(path: Path) -> None:
    cv2.imwrite(str(path), PICTURE[..., ::-1].astype(np.uint16) * 257)


GRAY = np.asarray(RGB.convert("L"))[..., None].repeat(3, axis=2)
PALETTE = RGB.quantize(32)
READ: dict[str, tuple[Callable[[Path], object], np.ndarray, int]] = {
    "16 bit.png": (save_16_bit, PICTURE, 0),
    "16 bit.tif": (save_16_bit, PICTURE, 0),
    "palette.png": (PALETTE.save, np.asarray(PALETTE.convert("RGB")), 0),
    "alpha.png": (lambda path: rgba().save(path), PICTURE, 0),
    "alpha.webp": (lambda path: rgba().save(path, lossless=True, exact=True), PICTURE, 0),
    "gray and alpha.png": (lambda path: rgba().convert("LA").save(path), GRAY, 1),
    "gray.png": (lambda path: RGB.convert("L").save(path), GRAY, 0),
    "gray.jpg": (lambda path: RGB.convert("L").save(path, quality=100), GRAY, 2),
    "cmyk.jpg": (lambda path: RGB.convert("CMYK").save(path, quality=100, subsampling=0), PICTURE, 4),
    "cmyk.tif": (lambda path: RGB.convert("CMYK").save(path), PICTURE, 1),
    "upright.jpg": (lambda p: RGB.save(p, quality=100, subsampling=0, exif=exif(6)), np.rot90(PICTURE, -1), 4),
    "upright.tif": (lambda p: RGB.save(p, exif=exif(6)), np.rot90(PICTURE, -1), 0),
    "as stored.png": (lambda path: RGB.save(path, exif=exif(6)), PICTURE, 0),
    "as stored.webp": (lambda path: RGB.save(path, lossless=True, exif=exif(6)), PICTURE, 0),
    "a JPEG named so.png": (lambda path: RGB.save(path, "JPEG", quality=100, subsampling=0), PICTURE, 4),
    "a film behind it.jpg": (
        lambda path: path.write_bytes(encoded("JPEG", quality=100, subsampling=0) + b"film \xff\xda film"),
        PICTURE,
        4,
    ),
    "größe 图像 two words.png": (RGB.save, PICTURE, 0),
    "UPPER.PNG": (RGB.save, PICTURE, 0),
    "Upper.JPeG": (lambda path: RGB.save(path, "JPEG", quality=100, subsampling=0), PICTURE, 4),
}


@pytest.mark.parametrize("name", READ)
def test_an_unusual_image_is_read_as_documented(name: str, tmp_path: Path) -> None:
    write, expected, tolerance = READ[name]
    write(tmp_path / name)
    image = read_image(tmp_path / name, channels=3)
    assert read_as_stored(tmp_path / name).shape[:2] == expected.shape[:2]
    assert image.shape == expected.shape
    assert image_size(tmp_path / name) == expected.shape[:2]
    assert np.abs(image.astype(int) - expected).max() <= tolerance
    gray = read_image(tmp_path / name, channels=1)
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(expected)).convert("L")).astype(int)
    assert np.abs(gray[..., 0] - luma).max() <= tolerance + 2


@pytest.mark.parametrize("name", ["alpha.png", "alpha.webp", "alpha.tif"])
def test_what_is_only_restored_keeps_its_colours_under_alpha(name: str, tmp_path: Path) -> None:
    rgba().save(tmp_path / name, lossless=True, exact=True)  # the other formats have no such parameters
    np.testing.assert_array_equal(read_as_stored(tmp_path / name), np.asarray(rgba()))


def test_gray_that_is_only_restored_keeps_its_alpha(tmp_path: Path) -> None:
    gray = rgba().convert("LA")
    gray.save(tmp_path / "gray.tif")
    np.testing.assert_array_equal(read_as_stored(tmp_path / "gray.tif"), np.asarray(gray.convert("RGBA")))
    level = int(PICTURE[0, 0, 0])
    Image.fromarray(PICTURE[..., 0]).save(tmp_path / "gray.png", transparency=level)
    alpha = read_as_stored(tmp_path / "gray.png")[..., 3]
    np.testing.assert_array_equal(alpha, np.where(PICTURE[..., 0] == level, 0, 255))


def test_an_orientation_that_is_no_number_is_none(tmp_path: Path) -> None:
    short, text = b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"  # tag and type of its entry
    tags = exif(1)
    assert short in tags
    RGB.save(tmp_path / "text.jpg", exif=tags.replace(short, text))
    assert image_size(tmp_path / "text.jpg") == read_image(tmp_path / "text.jpg", channels=3).shape[:2]


def test_gray_jpeg_tests_take_the_luma_of_what_is_stored_in_colour(tmp_path: Path) -> None:
    """The published script asks for the channels of the file, not for what they show."""
    gray = RGB.convert("L")
    gray.save(tmp_path / "gray.png")
    gray.convert("RGB").save(tmp_path / "colour.png")
    expected = np.round(16 + 219 / 255 * np.asarray(gray))
    np.testing.assert_array_equal(read_jpeg_gray(tmp_path / "gray.png")[..., 0], np.asarray(gray))
    np.testing.assert_array_equal(read_jpeg_gray(tmp_path / "colour.png")[..., 0], expected)


@pytest.mark.parametrize("cache", ["memmap", "none"])
def test_unusual_images_train_and_validate_together(
    cache: str, raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "unusual"
    folder.mkdir()
    for name, (write, _, _) in READ.items():
        if name not in {"alpha.webp", "gray.jpg"}:  # of one name with others, by which results are kept
            write(folder / name)
    for dataset in raw_options["datasets"].values():
        dataset["dataroot_H"] = str(folder)
    raw_options["datasets"]["train"]["cache"] = cache
    raw_options["train"]["total_iter"] = 5
    (folder / "upright.jpg").rename(folder / "turned.jpg")
    (folder / "as stored.webp").rename(folder / "not turned.webp")
    (folder / "16 bit.tif").rename(folder / "16 bits.tif")
    (folder / "cmyk.tif").rename(folder / "ink.tif")
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw_options))
    train_here(monkeypatch, "--opt", file)
    restored = {path.stem for path in (tmp_path / "runs" / "toy" / "images" / "toy_test").iterdir()}
    assert restored == {path.stem for path in folder.iterdir()}


def encoded(extension: str, **parameters: Any) -> bytes:
    file = BytesIO()
    RGB.save(file, extension, **parameters)
    return file.getvalue()


FORMATS = [encoded(name) for name in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")] + [encoded("JPEG", exif=exif(6))]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF data
@settings(max_examples=100, deadline=None, database=None)
@given(
    content=st.sampled_from(FORMATS),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), max_size=6),
    end=st.integers(0, 10**5),
)
def test_any_bytes_are_an_image_or_a_user_error(
    content: bytes, edits: list[tuple[int, bytes]], end: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for position, replacement in edits:
        content = content[:position] + replacement + content[position + len(replacement) :]
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(content[:end])
    with contextlib.suppress(UserError):
        image_size(path)
    with contextlib.suppress(UserError):
        read_image(path, channels=3)
    with contextlib.suppress(UserError):
        read_as_stored(path)
