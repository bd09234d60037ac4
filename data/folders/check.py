"""One look at every image before it is used, and one error that names all the bad ones.

What is refused and what becomes of unusual images is in `docs/data.md`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.folders.derived import lr_folder
from data.folders.files import files_below, is_image, list_images, shorten
from utils.imaging.io import image_size, read_image
from utils.imaging.metrics import smallest_judged
from utils.options.datasets import ImageSet
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import UserError
from utils.process.machine import cores
from utils.process.terminal import Bar

read_rgb = partial(read_image, channels=3)
TOO_FEW = "pixels are too few for "
NAMED = 15  # images with the same problem that have a line each


class Demand(NamedTuple):
    """What is asked of one image file."""

    path: Path
    read: Callable[[Path], np.ndarray] | None = read_rgb
    """How to decode it, which takes about 0.1 s for 2K; None: its header is enough."""
    smallest: int = 1
    """Pixels in height and in width."""
    reason: str = ""
    """What needs so many."""
    multiple: int = 0
    """Of what `smallest` has to be a multiple if the user may lower it; 0: it is fixed."""


class Problem(NamedTuple):
    """What is wrong with one image.

    Attributes:
        kind: what is wrong, in words; problems of the same kind are reported together.
        found: what was found in this image, if that differs between images with the same kind of problem.
        allows: the largest demand that this image meets, if the user may lower what is demanded.
    """

    path: Path
    kind: str
    found: str = ""
    allows: int = 0

    def __str__(self) -> str:
        return f"{self.path}: {self.found}{self.kind}"


def check_experiments(experiments: Sequence[Options]) -> None:
    """Check the images of all datasets; of a task that has begun before, only their headers.

    Raises:
        UserError: a folder is missing or holds no image, or as `check_images`.
    """
    check_images(chain.from_iterable(map(demands, experiments)))


def check_images(wanted: Iterable[Demand]) -> None:
    """Read the images, shared out over the processes, on the cores of each.

    Raises:
        UserError: images cannot be read or are too small, on every process; all are named, or of many the first of
            each kind.
    """
    share = list(dict.fromkeys(wanted))[dist.rank() :: dist.world_size()]
    problems = []
    with ThreadPoolExecutor(cores()) as pool, Bar("checking images", total=len(share), shown=dist.is_main()) as bar:
        for problem in pool.map(problem_of, share):
            problems += [problem] if problem else []
            bar.update()
    problems = dist.gather(problems)
    if problems:
        raise UserError(*describe(set(problems)))


def describe(problems: Iterable[Problem]) -> Iterator[str]:
    """Each problem, or where many images have the same, the first of them and how many more there are; what helps."""
    alike: dict[str, list[Problem]] = {}
    for problem in sorted(problems):
        alike.setdefault(problem.kind, []).append(problem)
    for kind, of_kind in sorted(alike.items()):
        if len(of_kind) <= NAMED:
            yield from map(str, of_kind)
        else:
            yield f"{kind}: {shorten(f'{problem.path} {problem.found}'.rstrip() for problem in of_kind)}"
        if largest := min(problem.allows for problem in of_kind):
            yield f"{kind.removeprefix(TOO_FEW)}: the largest that all images allow is {largest}"


def problem_of(demand: Demand) -> Problem | None:
    """What is wrong with one image."""
    path = demand.path
    try:
        str(path).encode()
        height, width = image_size(path)
        if demand.read and demand.read(path).shape[:2] != (height, width):
            return Problem(path, f"its pixels are not the {width}x{height} that its header says")
    except UnicodeEncodeError:
        return Problem(path, "the name is not UTF-8")
    except UserError as error:
        return Problem(path, str(error).removeprefix(f"{path}: "))
    side = min(height, width)
    if side < demand.smallest:
        allows = side - side % demand.multiple if demand.multiple else 0
        return Problem(path, f"{TOO_FEW}{demand.reason}", found=f"{width}x{height} ", allows=allows)
    return None


def demands(options: Options) -> Iterator[Demand]:
    """What an experiment asks of its images."""
    begun = options.task_folder.exists()  # it is made only after this check
    like = Demand(Path(), read=None if begun else read_rgb)
    train, smallest = options.datasets.train, smallest_judged(options.scale)
    reason = f"datasets.train.H_size {train.H_size}"
    crop = like._replace(smallest=train.H_size, reason=reason, multiple=options.scale)
    yield from of_dataset(train, options, like_H=crop, like_L=like)
    judged = like._replace(smallest=smallest, reason=f"SSIM, which needs {smallest}")
    for test in options.datasets.tests:
        yield from of_dataset(test, options, like_H=judged, like_L=like)


def of_dataset(dataset: ImageSet, options: Options, *, like_H: Demand, like_L: Demand) -> Iterator[Demand]:
    """What is asked of HR images, and of the LR images that are there already."""
    for folder_H, folder_L in dataset.folders:
        yield from (like_H._replace(path=path) for path in list_images(folder_H))
        made = lr_folder(folder_H, scale=options.scale, cache=options.path.cache_folder)
        if folder_L is not None:
            yield from (like_L._replace(path=path) for path in list_images(folder_L))
        elif made.is_dir():
            yield from (like_L._replace(path=path) for path in filter(is_image, files_below(made)))
