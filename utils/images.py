"""Reading, writing and resizing images; channel order and value ranges are decided here and nowhere else.

Arrays are (H, W, C) uint8 in RGB order, or (H, W, 1) for gray; tensors are (C, H, W) in [0, 1]. Only what is
restored to look like its original (`read_as_stored`) may also have alpha as a fourth channel, and be uint16.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from utils.errors import UserError
from utils.files import write_whole

EXIF_ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
TIFF_BITS, TIFF_EXTRA = 258, 338  # tags of a file's directory
STRAIGHT_ALPHA = {TIFF_BITS: (8, 8, 8, 8), TIFF_EXTRA: (2,)}  # of RGBA whose colours are not multiplied by alpha
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue
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
        raise UserError(f"{path}: cannot be written ({error})") from error


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


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) -> (C, H, W), uint8 or uint16, channels last in memory; `unit_range` makes it [0, 1] later."""
    return torch.from_numpy(np.require(image, requirements="W").transpose(2, 0, 1))


def unit_range(image: Tensor) -> Tensor:
    """uint8 or uint16 -> float32 in [0, 1]; floating-point tensors are [0, 1] already and pass through."""
    return image if image.is_floating_point() else image.float().div_(torch.iinfo(image.dtype).max)


def to_image(tensor: Tensor, dtype: torch.dtype = torch.uint8) -> np.ndarray:
    """(C, H, W) in [0, 1], clamped and rounded -> (H, W, C) of unsigned integers."""
    levels = tensor.detach().float().clamp(0, 1).mul(torch.iinfo(dtype).max).round().to(dtype)
    return levels.permute(1, 2, 0).cpu().numpy()


def with_channels(image: Tensor, channels: int) -> Tensor:
    """(..., C, H, W) -> (..., channels, H, W): colour becomes gray by the luma of ITU-R BT.601, gray becomes colour."""
    if image.shape[-3] == channels:
        return image
    if channels == 3:
        return image.expand(*image.shape[:-3], 3, -1, -1)
    return (image * image.new_tensor(LUMA)[:, None, None]).sum(dim=-3, keepdim=True)


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
    """(H, W, C) uint8 -> its MATLAB-bicubic LR image, (H//scale, W//scale, C) uint8; odd rows are cut off first."""
    height, width = (size - size % scale for size in image.shape[:2])
    return to_image(imresize(to_tensor(image[:height, :width]).double() / 255, 1 / scale))
