"""The checkpoints of a task, each a set of files that counts as a whole or not at all.

A set consists of its parts, `<step>_G.pth`, `_E.pth`, `_P.pth` and `_state.pth`, written in this order, and of the
manifest `<step>_checkpoint.json`, which is written last and holds the SHA-256 of every part.

KAIR's files in the same folder, which has no manifests, are read where a task begins in it, and never changed.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from utils.process.errors import UserError
from utils.process.files import write_whole

logger = logging.getLogger(__name__)

PARTS = ("G", "E", "P", "state")  # P only where there are translators
MEMBER = re.compile(r"(\d+)_(?:[GEP]\.pth|state\.pth|checkpoint\.json)")
KAIR_LIST = "kair.json"


def part_path(folder: Path, step: int, part: str) -> Path:
    """`<step>_<part>.pth`."""
    return folder / f"{step}_{part}.pth"


def manifest_path(folder: Path, step: int) -> Path:
    """`<step>_checkpoint.json`."""
    return folder / f"{step}_checkpoint.json"


def save(folder: Path, step: int, parts: Mapping[str, bytes]) -> None:
    """Write one checkpoint.

    Args:
        parts: the content of each file, in the order of `PARTS`.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    checksums = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.partial"):  # of a save that was killed
            leftover.unlink()
        for part, content in parts.items():
            checksums[part] = checksum(content)
            write_whole(part_path(folder, step, part), content)
        write_whole(manifest_path(folder, step), json.dumps({"sha256": checksums}, indent=2).encode())
    except OSError as error:
        for written in members(folder).get(step, []):
            written.unlink()
        raise UserError(
            f"{folder}: the checkpoint of iteration {step:,} cannot be written ({error.strerror}); "
            "earlier checkpoints are untouched"
        ) from error


def newest(folder: Path) -> int | None:
    """The step of the last checkpoint that is complete and intact; None where there is none yet.

    Those passed over are logged. What a first save that was killed has left is renamed to `*.cut_off`.

    Raises:
        UserError: there are checkpoints, but none of them is complete and intact.
    """
    steps = sorted(members(folder), reverse=True)
    for step in steps:
        fault = find_fault(folder, step)
        if fault is None:
            return step
        logger.warning("%s: passing over the checkpoint of iteration %s: %s", folder, f"{step:,}", fault)
    if steps and not (len(steps) == 1 and may_be_cut_off(members(folder).get(steps[0], []))):
        raise UserError(f"{folder}: no checkpoint is complete and intact; restore one, or give the task another name")
    for step in steps:  # otherwise two that were cut off would look like damage
        set_aside(folder, step)
    return None


def may_be_cut_off(files: Sequence[Path]) -> bool:
    """Whether files of one set may be all that a killed save has written: the first parts, and no manifest."""
    written = {path.stem.partition("_")[2] for path in files}
    orders = (PARTS, [part for part in PARTS if part != "P"])
    return any(written == set(order[: len(written)]) for order in orders)


def set_aside(folder: Path, step: int) -> None:
    """Rename the parts of a set, the last ones first: what another process meets meanwhile may be cut off, too."""
    for part in reversed(PARTS):
        path = part_path(folder, step, part)
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.name}.cut_off"))


def find_fault(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    manifest = manifest_path(folder, step)
    if not manifest.exists():
        return f"it is incomplete, {manifest.name} is missing"
    try:
        checksums = dict(json.loads(manifest.read_bytes())["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        checksums = {}
    written = {part for part in PARTS if part_path(folder, step, part).exists()}
    if not checksums or not written <= checksums.keys() <= set(PARTS):
        return f"{manifest.name} is damaged"
    for part, expected in checksums.items():
        path = part_path(folder, step, part)
        try:
            found = checksum(path.read_bytes())
        except OSError as error:
            return f"{path.name} cannot be read ({error.strerror})"
        if found != expected:
            return f"{path.name} is damaged, its checksum is not that of {manifest.name}"
    return None


def checksum(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def members(folder: Path) -> dict[int, list[Path]]:
    """The files of each checkpoint, complete or not, but for KAIR's; the manifest, where there is one, comes first."""
    kair = of_kair(folder)
    return {step: paths for step, paths in all_members(folder).items() if step not in kair}


def all_members(folder: Path) -> dict[int, list[Path]]:
    """The same, with KAIR's."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.glob("*_*")):
        if match := MEMBER.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append(path)
    return {step: sorted(paths, key=lambda path: path.suffix != ".json") for step, paths in found.items()}


def of_kair(folder: Path) -> list[int]:
    """The steps of the checkpoints that KAIR has written, in their order.

    They are the weights in a folder that has nothing of ours, or those that were listed when a task began there.

    Raises:
        UserError: the list is damaged.
    """
    path = folder / KAIR_LIST
    if path.exists():
        try:
            return [int(step) for step in json.loads(path.read_bytes())["steps"]]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f'{path}: damaged; it should list KAIR\'s iterations, as in {{"steps": [5000]}}') from error
    found = all_members(folder)
    names = {path.name.partition("_")[2] for paths in found.values() for path in paths}
    if (folder.parent / "options.json").exists() or not names <= {"G.pth", "E.pth", "P.pth"}:
        return []
    return sorted(step for step in found if part_path(folder, step, "G").exists())


def list_kair(folder: Path) -> None:
    """Keep the steps of KAIR's checkpoints, if any, before a task begins that will write its own beside them."""
    if steps := of_kair(folder):
        write_whole(folder / KAIR_LIST, json.dumps({"steps": steps}).encode())


def complete(folder: Path) -> list[int]:
    """The steps of the checkpoints that have been written whole, in their order."""
    return sorted(step for step in members(folder) if manifest_path(folder, step).exists())


def delete_others(folder: Path, kept: Collection[int | None]) -> None:
    """Delete all checkpoints except those of the steps in `kept`: manifests first, so that no half set looks whole."""
    for step, paths in members(folder).items():
        if step not in kept:
            for path in paths:
                path.unlink(missing_ok=True)  # another process may delete it at the same time
