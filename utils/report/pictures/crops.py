"""Where methods differ: windows of the restored images beside the baseline and the ground truth.

Images are (H, W, C) uint8.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from utils.imaging.io import encode, read_image
from utils.imaging.metrics import luma, psnr
from utils.imaging.tensors import to_tensor
from utils.report.pictures.picture import Picture, Strip, file_name
from utils.report.problems import Problem, baseline_image, hr_image, missing_image
from utils.report.results import Comparison
from utils.report.tasks import Judged

CROP = 96  # height and width of the windows, in HR pixels
MAX_IMAGES = 3  # of each test set
FRAME = (213, 94, 0)  # Okabe and Ito's vermilion
Window = tuple[slice, slice]


def strips(of: Comparison, name: str, *, prefix: str) -> list[Strip]:
    """Strips of the images of a test set whose PSNR differs most between the methods, each shown by its first run.

    Args:
        name: of the test set in the comparison.
        prefix: what the names of the files begin with.
    """
    problem = of.problems[name]
    judged = [of_set for _, (of_set,) in of.judgements([problem])]
    of_images = [compare_runs(problem, judged, i, prefix=prefix) for i in most_different_images(judged)]
    without_images = not any(strip.pictures for strip in of_images)
    return [replace(strip, title="") for strip in of_images[:1]] if without_images else of_images


def most_different_images(judged: Sequence[Judged]) -> list[int]:
    """Up to MAX_IMAGES of the images, those with the largest spread of PSNR on Y between the methods first."""
    psnr_y = np.array([of_method.figures["psnr_y"][0] for of_method in judged])
    return [int(i) for i in np.argsort(-np.ptp(psnr_y, axis=0), kind="stable")[:MAX_IMAGES]]


def compare_runs(problem: Problem, judged: Sequence[Judged], index: int, *, prefix: str) -> Strip:
    """One image: where the window is, the baseline, every method that kept its image, and the ground truth."""
    result = judged[0].results[index]
    paths = {of_set.runs[0].name: kept_image(of_set, index) for of_set in judged}
    channels = problem.setting.channels
    restored = {name: read_image(path, channels=channels) for name, path in paths.items() if path.is_file()}
    missing = missing_image([result])
    if missing or not restored:
        reason = f"{missing} is not there" if missing else "no task kept its restored image"
        return Strip(result.name, note=f"no images: {reason}")
    images = {problem.setting.baseline: baseline_image(result, problem.setting), **restored}
    size = np.min([image.shape[:2] for image in images.values()], axis=0)  # LR sizes may cut the borders
    images = {name: image[: size[0], : size[1]] for name, image in images.items()}
    hr = hr_image(result, problem.setting, size)
    return Strip(result.name, crops(images, hr, prefix=f"{prefix}_{result.name}"))


def kept_image(judged: Judged, index: int) -> Path:
    """Where the first run of a method keeps its image of a result."""
    validation, run = judged.validations[0], judged.runs[0]
    return run.image_path(validation.problem.dataset, validation.results[index])


def crops(images: dict[str, np.ndarray], hr: np.ndarray, *, prefix: str) -> list[Picture]:
    """The pictures of a strip, of images by name, the baseline first: its error chooses a single task's window."""
    competing = list(images.values())
    window = most_different_window(competing[1:] if len(competing) > 2 else competing, hr)
    where = Picture(
        file_name(prefix, "where"), encode(framed(hr, window)), "the frame shows the window", ["whole image"]
    )
    pictures = [where]
    for name, image in ({"ground truth": hr} | images).items():
        caption = [name] if image is hr else [name, f"{crop_psnr(image[window], hr[window]):.2f} dB"]
        pictures.append(
            Picture(file_name(prefix, name), encode(image[window]), f"window: {', '.join(caption)}", caption)
        )
    return pictures


def crop_psnr(image: np.ndarray, hr: np.ndarray) -> float:
    """PSNR on Y in dB of a window."""
    return psnr(*(luma(to_tensor(x)) for x in (image, hr)), border=0).item()


def most_different_window(images: Sequence[np.ndarray], hr: np.ndarray) -> Window:
    """The window of up to CROP x CROP pixels where the squared errors of the images differ most from each other."""
    height, width = (min(CROP, size) for size in hr.shape[:2])
    errors = [((image.astype(np.float32) - hr) ** 2).mean(axis=2) for image in images]
    spread = np.std(errors, axis=0)
    mean = cv2.blur(spread, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[: spread.shape[0] - height + 1, : spread.shape[1] - width + 1]
    top, left = (int(i) for i in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + height), slice(left, left + width)


def framed(image: np.ndarray, window: Window) -> np.ndarray:
    """The image in colour, small, with a frame around the window."""
    rows, columns = window
    scale = 2 * CROP / max(image.shape[:2])
    colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    small = cv2.resize(colour, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    first = (round(scale * columns.start), round(scale * rows.start))
    last = (round(scale * columns.stop) - 1, round(scale * rows.stop) - 1)
    return cv2.rectangle(small, first, last, FRAME, thickness=2)
