"""What a validation measured: how images were degraded, and which images. Only figures of the same can be compared.

Images are (H, W, C) uint8, tensors (C, H, W) in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from utils.evaluation.evaluate import ImageResult
from utils.evaluation.restorer import bicubic
from utils.evaluation.tasks import DATASET_KINDS, Kind
from utils.imaging.degradations import jpeg, noisy, reader
from utils.imaging.io import image_size, read_image
from utils.imaging.metrics import judged_border
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.schema import Options
from utils.runs.checkpoints import checksum

FILES, BICUBIC, UNKNOWN = "from files", "made by bicubic", "of unknown origin"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How images are degraded and judged.

    Attributes:
        strength: standard deviation of the noise in grey levels, or JPEG quality; 0 where images come in pairs.
        lr: where LR images come from; empty where they are made by noise or JPEG.
        border: HR pixels left out on each side.
    """

    kind: Kind
    scale: int
    channels: int
    border: int
    strength: float = 0
    lr: str = ""

    def __str__(self) -> str:
        degraded = {
            "sr": f"x{self.scale}, LR images {self.lr}",
            "noise": f"noise of {self.strength:g} grey levels",
            "jpeg": f"JPEG of quality {self.strength:g}",
        }
        border = f"{self.border} pixels of border left out" if self.border else "no border left out"
        return f"{degraded[self.kind]}, {'RGB' if self.channels == 3 else 'gray'}, {border}"

    @property
    def baseline(self) -> str:
        """What an image is called before any network has seen it."""
        return ("bicubic" if self.scale > 1 else "input") if self.kind == "sr" else "degraded image"


@dataclass(frozen=True)
class Problem:
    """A test set as it was measured; another name of the same images is the same problem.

    Attributes:
        dataset: the name of the test set.
        files: what tells each image from others, in the order of the results.
        folder: where the ground truth is.
    """

    setting: Setting
    files: tuple[str, ...]
    dataset: str = field(compare=False)
    folder: Path = field(compare=False)


def setting_of_task(options: Options, dataset: str) -> Setting:
    """How training degrades a test set; if the options no longer name it, its LR images are of unknown origin."""
    test = next((test for test in options.datasets.tests if test.name == dataset), None)
    scale, kind = options.scale, DATASET_KINDS[test.dataset_type] if test else "sr"
    border = judged_border(scale)
    if test is None:
        return Setting(kind=kind, scale=scale, channels=options.n_channels, border=border, lr=UNKNOWN)
    strength = {"sr": 0, "noise": test.sigma, "jpeg": test.quality_factor}[kind]
    lr = "" if kind != "sr" else FILES if test.dataroot_L else BICUBIC
    return Setting(kind=kind, scale=scale, channels=options.n_channels, border=border, strength=strength, lr=lr)


def problem_of(setting: Setting, dataset: str, results: Sequence[ImageResult]) -> Problem:
    """The problem that a validation measured; `results` must not be empty."""
    paths = [result.H_path for result in results]
    if setting.kind == "sr" and setting.lr != BICUBIC:  # otherwise the ground truth decides what the LR images are
        paths += [result.L_path for result in results]
    return Problem(setting, tuple(map(identity, paths)), dataset, Path(results[0].H_path).parent)


@cache
def identity(path: str) -> str:
    """What tells an image from others: the SHA-256 of its file, or its path where it is not on this machine."""
    return checksum(Path(path).read_bytes()) if Path(path).is_file() else path


def missing_image(results: Sequence[ImageResult]) -> str | None:
    """The first LR or HR image that is not on this machine."""
    paths = [path for result in results for path in (result.L_path, result.H_path)]
    return next((path for path in paths if not Path(path).is_file()), None)


def baseline_image(result: ImageResult, setting: Setting) -> np.ndarray:
    """The LR image of a result, up-sampled, or the degraded image, (H, W, C) uint8."""
    image = lr_image(result, setting)
    return to_image(bicubic(setting.scale)(image[None])[0] if setting.scale > 1 else image)


def lr_image(result: ImageResult, setting: Setting) -> Tensor:
    """What was restored, the LR or the degraded image, (C, H, W) in [0, 1], noise beyond."""
    if setting.kind != "sr":
        degrade = noisy(setting.strength) if setting.kind == "noise" else jpeg(int(setting.strength))
        return unit_range(degrade(clean_image(result, setting)))
    height, width = (size // setting.scale for size in image_size(Path(result.H_path)))
    return unit_range(to_tensor(read_image(Path(result.L_path), channels=setting.channels)[:height, :width]))


def clean_image(result: ImageResult, setting: Setting) -> np.ndarray:
    """The whole ground truth of a result, (H, W, C) uint8."""
    return reader(jpeg=setting.kind == "jpeg", channels=setting.channels)(Path(result.H_path))


def hr_image(result: ImageResult, setting: Setting, size: Sequence[int]) -> np.ndarray:
    """The ground truth of a result, (H, W, C) uint8, cut to the (H, W) of the restored image."""
    return clean_image(result, setting)[: size[0], : size[1]]
