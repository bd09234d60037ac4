"""HR and LR images that belong together, by their names."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from data.folders.files import list_images, shorten
from utils.imaging.io import image_size
from utils.process.errors import UserError


class Pair(NamedTuple):
    """The files of one HR image and its LR image."""

    H: Path
    L: Path


def pair_images(folder_H: Path, folder_L: Path, *, scale: int) -> list[Pair]:
    """Pair the images of two folders by relative name, where LR names may end in `x<scale>`.

    Raises:
        UserError: a folder is missing or empty, an image has no partner, or sizes do not fit the scale.
    """
    images_H = by_name(folder_H)
    images_L = by_name(folder_L, suffix=f"x{scale}", unless=images_H.keys())
    problems = [
        f"{side} without a partner: {shorten(names)}"
        for side, names in (
            (f"HR images in {folder_H}", images_H.keys() - images_L.keys()),
            (f"LR images in {folder_L}", images_L.keys() - images_H.keys()),
        )
        if names
    ]
    if problems:
        raise UserError("; ".join(problems))
    pairs = [Pair(path, images_L[name]) for name, path in images_H.items()]
    check_scale(pairs, scale=scale)
    return pairs


def by_name(folder: Path, *, suffix: str = "", unless: Collection[str] = ()) -> dict[str, Path]:
    """Image files by their path below `folder`, without extension and, unless it is one of those names, `suffix`.

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


def check_scale(pairs: Sequence[Pair], *, scale: int) -> None:
    """Raise a `UserError` unless each LR image is its HR image divided by `scale`, rounded down."""
    unfit = []
    for pair in pairs:
        (height, width), size_L = image_size(pair.H), image_size(pair.L)
        if (height // scale, width // scale) != size_L:
            unfit.append(f"{pair.H.name} is {width}x{height} and {pair.L.name} {size_L[1]}x{size_L[0]}")
    if unfit:
        raise UserError(f"{pairs[0].H.parent}: sizes do not fit scale {scale}: {shorten(unfit)}")
