"""Download the published image sets: python -m data.download Set5 DIV2K --scale 4."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.contrib.concurrent import thread_map

from utils.download import extract_zip, fetch, folder_for
from utils.process.errors import UserError, exit_on_user_error

TABLE = Path(__file__).with_name("datasets.json")
TRAINING_SETS = ("BSD400", "DIV2K")
THREADS = 8


@dataclass(frozen=True)
class Entry:
    """One published file; an archive also says which folder it brings and how many images belong in it."""

    path: str
    url: str
    size: int
    sha256: str
    archive: str = ""
    folder: str = ""
    images: int = 0


def load_table() -> dict[str, list[Entry]]:
    """The published files of every set, by the set's name."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return {name: [Entry(**entry) for entry in entries] for name, entries in table.items()}


def download_set(name: str, *, scale: int) -> Path:
    """Bring one set into `testsets` or `trainsets` of the working directory, with its LR images of `scale`.

    Raises:
        UserError: a download or an extraction failed, or the set has no LR images of `scale`.
    """
    root = Path("trainsets" if name in TRAINING_SETS else "testsets")
    entries = load_table()[name]
    archives = [entry for entry in entries if entry.archive]
    if archives:
        for archive in _archives_of_scale(name, archives, scale=scale):
            _fetch_archive(archive, root / name)
    else:
        _fetch_files(name, entries, root)
    kinds = {Path(entry.path).parts[1] for entry in entries if not entry.archive}
    if "HR" in kinds and "LR_bicubic" not in kinds:
        from data.folders.derived import make_bicubic_lr  # imports PyTorch, which help should not have to wait for

        make_bicubic_lr(root / name / "HR", root / name / "LR_bicubic" / f"X{scale}", scale=scale)
    return root / name


def _archives_of_scale(name: str, archives: Sequence[Entry], *, scale: int) -> list[Entry]:
    """The HR archives and the LR archives of `scale`; UserError if there are none of that scale."""
    low = [entry for entry in archives if "LR" in entry.folder]
    wanted = [entry for entry in low if entry.folder.endswith(f"/X{scale}")]
    if not wanted:
        choices = ", ".join(sorted({entry.folder.rpartition("/X")[2] for entry in low}))
        raise UserError(f"{name}: no LR images of scale {scale} are published, the choices are {choices}")
    return [entry for entry in archives if entry not in low or entry in wanted]


def _fetch_archive(entry: Entry, folder: Path) -> None:
    """Download, extract and delete one archive, unless the folder that it brings already holds all its images."""
    images = folder / entry.folder
    if _count(images) >= entry.images:
        return
    archive = fetch(entry.url, folder / entry.path, size=entry.size, sha256=entry.sha256)
    extract_zip(archive, folder)
    if _count(images) < entry.images:
        raise UserError(f"{images}: expected {entry.images} images from {archive}, found {_count(images)}")
    archive.unlink()


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.png"))


def _fetch_files(name: str, entries: Sequence[Entry], root: Path) -> None:
    """Download loose files side by side; the first failure ends the rest."""

    def one(entry: Entry) -> Path:
        return fetch(entry.url, root / entry.path, size=entry.size, sha256=entry.sha256)

    with folder_for(root / name):
        thread_map(one, entries, max_workers=THREADS, desc=name, unit="file", disable=None)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.download", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="name", choices=load_table(), help=", ".join(load_table()))
    parser.add_argument("--scale", type=int, choices=(2, 3, 4, 8), default=4, help="of the LR images (default: 4)")
    arguments = parser.parse_args(argv)
    with exit_on_user_error():
        for name in arguments.names:
            folder = download_set(name, scale=arguments.scale)
            sys.stdout.write(f"{name}: complete in {folder}\n")


if __name__ == "__main__":
    main()
