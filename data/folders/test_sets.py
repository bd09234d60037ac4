"""The folders of a test: which belong together, and what the results of their images are called."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from data.folders.files import list_images
from utils.process.errors import UserError

LAYOUT = re.compile(r"HR|LR|GT|LQ|LR_bicubic|[xX]\d")  # folders inside a test set


class SetFolders(NamedTuple):
    """One test set: its name and its folders, of which one may be missing."""

    name: str
    lq: Path | None
    gt: Path | None

    def result_names(self) -> dict[str, str]:
        """What the result of each image is called, by the path of its ground truth, or of itself if it has none.

        It is the path below the folder, without its suffix unless two images differ in that only.
        """
        folder = self.gt or self.lq
        assert folder is not None
        files = list_images(folder)
        full = {path: path.relative_to(folder) for path in files}
        claims = Counter(name for path in full.values() for name in (path, path.with_suffix("")))
        return {
            str(path): (name.with_suffix("") if claims[name.with_suffix("")] == 1 else name).as_posix()
            for path, name in full.items()
        }


def pair_folders(folders_lq: Sequence[Path], folders_gt: Sequence[Path]) -> list[SetFolders]:
    """The test sets of both lists, whose folders belong together in their order; one list may be empty.

    Raises:
        UserError: there are no folders, or not as many of one kind as of the other, or one holds no images, or two test
            sets have the same name even with their numbers behind it.
    """
    if not folders_lq and not folders_gt:
        raise UserError("neither --folder_lq nor --folder_gt is given")
    if folders_lq and folders_gt and len(folders_lq) != len(folders_gt):
        raise UserError(f"{len(folders_lq)} folders in --folder_lq, but {len(folders_gt)} in --folder_gt")
    for folder in [*folders_lq, *folders_gt]:
        list_images(folder)
    names = set_names(folders_gt or folders_lq)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"two test sets would be called {twice[0]}, as their results are: rename one of the folders")
    return [
        SetFolders(name, lq, gt)
        for name, lq, gt in zip_longest(names, folders_lq, folders_gt)  # a list of no folders makes them None
    ]


def result_labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Names for the results of images whose file name occurs in two folders of a test set: `Set5_baby`.

    All other results are named after their files.

    Raises:
        UserError: two results would have the same name; or as `list_images`.
    """
    files = [
        (name, path) for name, folder in zip(set_names(folders), folders, strict=True) for path in list_images(folder)
    ]
    sets_of: dict[str, set[str]] = {}
    for name, path in files:
        sets_of.setdefault(path.stem, set()).add(name)
    labels = {path: f"{name}_{path.stem}" for name, path in files if len(sets_of[path.stem]) > 1}
    named: dict[str, Path] = {}
    for _, path in files:
        first = named.setdefault(labels.get(path, path.stem), path)
        if first != path:
            raise UserError(f"{first} and {path} have the same name, by which their results would be kept")
    return labels


def set_names(folders: Sequence[Path]) -> list[str]:
    """The `set_name` of each folder, with its number behind it where several have the same."""
    names = [set_name(folder) for folder in folders]
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names, start=1)]


def set_name(folder: Path) -> str:
    """`Set5` for `testsets/Set5`, `testsets/Set5/HR` and `testsets/Set5/LR_bicubic/X4`."""
    path = folder.resolve()
    named = [part for part in path.parts[1:] if not LAYOUT.fullmatch(part)]  # the first part is the root
    return named[-1] if named else path.name
