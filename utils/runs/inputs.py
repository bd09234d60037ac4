"""The option files of one command: read, checked, and their weights and images looked for, before torch is loaded."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path

from utils.options.load import BACKSLASH, has_single_backslash, load
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.runs.variants import Variant

FETCH_IMAGES = "python -m data.download fetches DIV2K, Set5 and others"
FETCH_WEIGHTS = "python -m model_zoo.download fetches official weights"


def load_all(
    paths: Sequence[Path], overrides: Sequence[str] = (), variants: Sequence[Variant] = (Variant(),)
) -> list[Options]:
    """Read option files that are to run one after another, each in its variants; see that inputs are there or will be.

    Raises:
        UserError: as `load`, or two files are the same task, or inputs are missing; all are named.
    """
    loaded: list[Options] = []
    missing: dict[str, str] = {}
    hints: set[str] = set()
    for path, variant in product(paths, variants):
        options = load(path, [*overrides, *variant.overrides])
        options = options.renamed(options.task + variant.suffix)
        earlier = [other.task_folder.resolve() for other in loaded]
        if options.task_folder.resolve() in earlier:
            raise UserError(f"{path}: task: {options.task!r} is the task of an earlier file, too")
        for key, weights in weights_of(options).items():
            file = Path(weights)
            if not file.is_file() and not any(folder in file.resolve().parents for folder in earlier):
                instead = nearest(file)
                missing.setdefault(weights, f"{path}: {key}: there is no file {weights}{instead}")
                hints |= set() if instead else {FETCH_WEIGHTS}
        for key, folder in image_folders(options):
            if not folder.exists():
                instead = nearest(folder)
                missing.setdefault(str(folder), f"{path}: {key}: there is no folder {folder}{instead}")
                hints |= set() if instead else {FETCH_IMAGES}
        loaded.append(options)
    if missing:
        hints |= {BACKSLASH} if any(map(has_single_backslash, paths)) else set()
        raise UserError(*missing.values(), *(f"  {hint}" for hint in sorted(hints)))
    return loaded


def nearest(path: Path) -> str:
    """` (there is NAME)`, of what its folder has instead of a path, or nothing if no name there is like it."""
    there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return "".join(f" (there is {path.with_name(name)})" for name in get_close_matches(path.name, there, n=1))


def weights_of(options: Options) -> dict[str, str]:
    """The files of weights that a task begins with or goes on with, by their keys."""
    folder = options.models_folder
    begun = checkpoints.complete(folder) or checkpoints.of_kair(folder)
    keys = [] if begun else ["pretrained_netG", "pretrained_netE"]
    keys += [] if options.train.distillation_type == "none" else ["pretrained_netTeacher"]
    named = {f"path.{key}": getattr(options.path, key) for key in keys}
    return {key: weights for key, weights in named.items() if weights is not None}


def image_folders(options: Options) -> Iterator[tuple[str, Path]]:
    """The folders of images that a task reads, each with its key."""
    for name, dataset in options.datasets.by_key().items():
        for folders in dataset.folders:
            yield f"datasets.{name}.dataroot_H", folders.H
            if folders.L is not None:
                yield f"datasets.{name}.dataroot_L", folders.L
