"""Reading and writing images; the channel order is decided here and nowhere else.

Arrays are (H, W, C) uint8 in RGB order, or (H, W, 1) for gray. Only images that keep their kind (`read_as_stored`)
may also have alpha as a fourth channel, or be uint16.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from utils.process.errors import UserError
from utils.process.files import write_whole

EXIF_ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
TIFF_BITS, TIFF_EXTRA = 258, 338  # tags of a file's directory
STRAIGHT_ALPHA = {TIFF_BITS: (8, 8, 8, 8), TIFF_EXTRA: (2,)}  # of RGBA whose colours are not multiplied by alpha
JPEG_BEGIN, JPEG_END = b"\xff\xd8", 0xD9
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # without those among pixels
TIFF_MODES = frozenset({"1", "L", "P", "I;16", "I;16B", "RGB", "CMYK", "YCbCr"})  # of others OpenCV changes the colours
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def read_image(path: Path, *, channels: int) -> np.ndarray:
    """Read a file as (H, W, channels) uint8; colour becomes gray, and gray colour, where `channels` asks for it.

    What becomes of alpha, 16 bits, CMYK and the like is in `docs/data.md`.

    Raises:
        UserError: the file is missing, cut off, not an image, or one whose colours OpenCV would change.
    """
    with header(path) as found:
        if found.format == "TIFF" and found.mode not in TIFF_MODES:
            raise UserError(f"{path}: a TIFF of colour mode {found.mode} is not read (save it as RGB)")
    image = decode(path, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    return image[..., None] if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_as_stored(path: Path) -> np.ndarray:
    """Read a file with the channels and depth that it has: (H, W, C), C = 1 gray, 3 RGB or 4 RGBA, uint8 or uint16.

    Raises:
        UserError: the file is missing, cut off, not an image that can be decoded, or of another depth.
    """
    with header(path) as found:
        transparent = found.has_transparency_data
        if opencv_spoils_alpha(found):
            return np.array(found.convert("RGBA"))
    # Only without alpha does OpenCV turn an image upright.
    image = decode(path, cv2.IMREAD_UNCHANGED if transparent else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: expected 8 or 16 bits for each channel, found {image.dtype}")
    return swap_red_and_blue(image if image.ndim == 3 else image[..., None])


def opencv_spoils_alpha(found: Image.Image) -> bool:
    """Whether OpenCV would multiply colours by alpha (RGBA TIFF), or drop it (gray TIFF, a transparent grey in PNG)."""
    if isinstance(found, TiffImageFile):
        return found.mode == "LA" or all(found.tag_v2.get(tag) == value for tag, value in STRAIGHT_ALPHA.items())
    return found.mode in {"1", "L"} and found.has_transparency_data


def swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """(H, W, C), C = 1, 3 or 4, from RGB to OpenCV's BGR order or back; alpha stays last."""
    if image.shape[2] == 1:
        return image
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)


def decode(path: Path, flags: int) -> np.ndarray:
    """The pixels of a file in OpenCV's order, (H, W) or (H, W, C).

    Raises:
        UserError: the file is missing, cut off, or not an image.
    """
    try:
        content = path.read_bytes()
        if is_cut_off_jpeg(content):
            raise UserError(f"{path}: the file is cut off")
        if not content.startswith(JPEG_BEGIN):
            flags |= cv2.IMREAD_IGNORE_ORIENTATION  # it depends on OpenCV's version which of the others it turns
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except (OSError, cv2.error) as error:
        raise unreadable(path, error) from error
    if image is None:
        raise unreadable(path)
    return image


def is_cut_off_jpeg(content: bytes) -> bool:
    """Whether a JPEG ends before its pixels do: OpenCV makes up the rest; of other formats it refuses such files.

    Markers are followed from one to the next (ITU-T T.81, annex B), since thumbnails, and films behind the image, which
    phones write, hold the same bytes.
    """
    if not content.startswith(JPEG_BEGIN):
        return False
    position = len(JPEG_BEGIN)
    while marker := JPEG_MARKER.search(content, position):
        if marker[1][0] == JPEG_END:
            return False
        # The marker's segment begins with its length.
        position = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return True


@contextmanager
def header(path: Path) -> Iterator[Image.Image]:
    """What a file says of its image, by Pillow, which decodes no pixels for it.

    Raises:
        UserError: the file is not an image.
    """
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception | None = None) -> UserError:
    """What to raise about a file that is no image, with the system's reason where it has one."""
    reason = getattr(error, "strerror", None)
    return UserError(f"{path}: cannot be read as an image" + (f" ({reason})" if reason else ""))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as `read_image` will give them, from the file's header, without decoding the pixels.

    Raises:
        UserError: the file is not an image.
    """
    with header(path) as found:
        width, height = found.size
        quarter_turn = found.format in {"JPEG", "MPO"} and found.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS
    return (width, height) if quarter_turn else (height, width)


def is_stored_gray(path: Path) -> bool:
    """Whether a file has a single channel, by its header; a palette is of colours.

    Raises:
        UserError: the file is not an image.
    """
    with header(path) as found:
        return Image.getmodebase(found.mode) == "L"


def write_image(path: Path, image: np.ndarray, *, mtime_ns: int | None = None) -> None:
    """Write (H, W, C) gray, RGB or RGBA, uint8 or uint16, under `path`, whose suffix names the format; all or nothing.

    Args:
        path: the file; its folder is made.
        image: the pixels.
        mtime_ns: as `write_whole`.

    Raises:
        UserError: the folder or file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, encode(image, path.suffix), mtime_ns=mtime_ns)
    except (OSError, cv2.error) as error:
        raise UserError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    """(H, W, C) gray, RGB or RGBA, uint8 or uint16, as the content of a file of the format that `suffix` names.

    Raises:
        cv2.error: the format does not hold such an image.
    """
    encoded, content = cv2.imencode(suffix, swap_red_and_blue(image))
    if not encoded:
        raise cv2.error(f"{suffix} does not hold an image of shape {image.shape} and type {image.dtype}")
    return content.tobytes()


def jpeg_round_trip(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress (H, W, C) uint8 by OpenCV's JPEG of this quality, 0 to 100, and decode it again."""
    _, encoded = cv2.imencode(".jpg", swap_red_and_blue(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded two lines above
    return decoded[..., None] if image.shape[2] == 1 else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
