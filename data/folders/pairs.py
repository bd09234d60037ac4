"""HR and LR images that belong together, by their names."""

import logging
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data.folders.files import list_images, shorten
from utils.imaging.io import image_size
from utils.process import dist
from utils.process.errors import UserError

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """The files of one HR image and its LR image."""

    H: Path
    L: Path


def pair_images(folder_H: Path, folder_L: Path, *, scale: int) -> list[Pair]:
    """Pair the images of two folders by relative name, where LR names may end in `x<scale>` or share an affix.

    Raises:
        UserError: a folder is missing or empty, an image has no partner, or sizes do not fit the scale.
    """
    images_H = by_name(folder_H)
    images_L = by_name(folder_L, suffix=f"x{scale}", unless=images_H.keys())
    if images_L.keys() != images_H.keys():
        images_L = without_affix(by_name(folder_L), images_H.keys()) or images_L
    problems = [
        f"{side} without a partner: {shorten(names)}"
        for side, names in (
            (f"HR images in {folder_H}", images_H.keys() - images_L.keys()),
            (f"LR images in {folder_L}", images_L.keys() - images_H.keys()),
        )
        if names
    ]
    if problems:
        raise UserError(*problems)
    pairs = [Pair(path, images_L[name]) for name, path in images_H.items()]
    check_scale(pairs, scale=scale)
    return pairs


def by_name(folder: Path, *, suffix: str = "", unless: Collection[str] = ()) -> dict[str, Path]:
    """Image files by path below `folder`, without extension; `suffix` is removed, too, if the path is not in `unless`.

    Raises:
        UserError: as `list_images`, or two have the same name.
    """
    named: dict[str, Path] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name not in unless:
            name = name.removesuffix(suffix)
        if name in named:
            raise UserError(f"{path} and {named[name]} have the same name, so neither can be paired")
        named[name] = path
    return named


def without_affix(images_L: Mapping[str, Path], names_H: Collection[str]) -> dict[str, Path] | None:
    """LR images by the names of their HR images, where each has that and one prefix or suffix that all share."""
    length, rest = divmod(sum(map(len, images_L)) - sum(map(len, names_H)), len(images_L))
    if length < 1 or rest:
        return None
    for split in (before_suffix, behind_prefix):
        parts = {name: split(PurePosixPath(name), length) for name in images_L}
        if len({affix for _, affix in parts.values()}) == 1 and {name for name, _ in parts.values()} == set(names_H):
            return {parts[name][0]: path for name, path in images_L.items()}
    return None


def before_suffix(path: PurePosixPath, length: int) -> tuple[str, str]:
    """`sub/a_LR` -> `sub/a`, `_LR`."""
    return str(path.parent / path.name[:-length]), path.name[-length:]


def behind_prefix(path: PurePosixPath, length: int) -> tuple[str, str]:
    """`sub/LR_a` -> `sub/a`, `LR_`."""
    return str(path.parent / path.name[length:]), path.name[:length]


def check_scale(pairs: Sequence[Pair], *, scale: int) -> None:
    """Raise a `UserError` unless each LR image is its HR image divided by `scale`; the log says if it is rounded up."""
    unfit, rounded_up = [], 0
    for pair in pairs:
        size_H, size_L = image_size(pair.H), image_size(pair.L)
        down = tuple(size // scale for size in size_H)
        up = (ceil(size / scale) for size in size_H)
        if any(size not in fitting for size, *fitting in zip(size_L, down, up, strict=True)):
            unfit.append(f"{pair.H.name} is {size_H[1]}x{size_H[0]} and {pair.L.name} {size_L[1]}x{size_L[0]}")
        rounded_up += size_L != down
    if unfit:
        raise UserError(f"{pairs[0].H.parent}: sizes do not fit scale {scale}: {shorten(unfit)}")
    if rounded_up and dist.is_main():
        logger.warning(
            "%s: the sizes of %s LR images are rounded up; what they have beyond their HR images is cut off",
            pairs[0].L.parent,
            f"{rounded_up:,}",
        )
