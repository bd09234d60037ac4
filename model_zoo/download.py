"""Download the official SwinIR weights: python -m model_zoo.download SwinIR-M_x4."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.download import fetch
from utils.process.errors import UserError, exit_on_user_error

FOLDER = Path(__file__).parent
TABLE = FOLDER / "official.json"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published file and what selects it; a selector that is None plays no part in the choice."""

    name: str
    file: str
    url: str
    size: int | None
    sha256: str | None
    task: str
    scale: int
    training_patch_size: int | None = None
    noise: int | None = None
    jpeg: int | None = None
    large_model: bool | None = None

    def selectors(self) -> dict[str, Any]:
        """The selectors that play a part, in the order of the fields."""
        names = ("task", "scale", "training_patch_size", "noise", "jpeg", "large_model")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def official() -> list[Weights]:
    """All published weights."""
    return [Weights(**entry) for entry in json.loads(TABLE.read_text(encoding="utf-8"))]


def find(
    *,
    task: str,
    scale: int = 1,
    training_patch_size: int | None = None,
    noise: int | None = None,
    jpeg: int | None = None,
    large_model: bool = False,
) -> Weights:
    """The published weights for a task; arguments that do not matter to the task are ignored.

    Raises:
        UserError: none are published for this choice.
    """
    asked = {"task": task, "scale": scale, "training_patch_size": training_patch_size}
    asked |= {"noise": noise, "jpeg": jpeg, "large_model": large_model}
    of_task = [weights for weights in official() if weights.task == task]
    for weights in of_task:
        if all(asked[name] == value for name, value in weights.selectors().items()):
            return weights
    if not of_task:
        tasks = ", ".join(sorted({weights.task for weights in official()}))
        raise UserError(f"official weights: none for task {task!r}, the choices are {tasks}")
    found = ", ".join(f"{name}={asked[name]!r}" for name in of_task[0].selectors())
    choices = "; ".join(", ".join(f"{k}={v!r}" for k, v in w.selectors().items() if k != "task") for w in of_task)
    raise UserError(f"official weights: none for {found}, the choices for this task are {choices}")


def ensure(path: Path) -> Path:
    """`path` itself, downloaded first if it is missing and named like official weights.

    Raises:
        UserError: there is no such file and no official one of that name, or the download failed.
    """
    if path.exists():
        return path
    for weights in official():
        if weights.file == path.name:
            return fetch(weights.url, path, size=weights.size, sha256=weights.sha256)
    raise UserError(
        f"{path} does not exist and is not one of the official weights (python -m model_zoo.download --help lists them)"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    table = {weights.name: weights for weights in official()}
    parser = argparse.ArgumentParser(
        prog="python -m model_zoo.download",
        description=__doc__,
        epilog="\n  ".join(["names:", *table]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="name", choices=table, help="one of those listed below")
    arguments = parser.parse_args(argv)
    with exit_on_user_error():
        for weights in map(table.__getitem__, arguments.names):
            path = fetch(weights.url, FOLDER / weights.file, size=weights.size, sha256=weights.sha256)
            sys.stdout.write(f"{weights.name}: {path}\n")


if __name__ == "__main__":
    main()
