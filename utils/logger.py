"""The KAIR log file, and figures that programs can read."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FORMAT = logging.Formatter("%(asctime)s.%(msecs)03d : %(message)s", datefmt="%y-%m-%d %H:%M:%S")


def log_to_terminal(*, quiet: bool) -> None:
    """Show the log on the terminal; `quiet` processes show only warnings."""
    logging.captureWarnings(capture=True)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(FORMAT)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)


def log_to_file(path: Path) -> logging.Handler:
    """Append the log to a file until the handler that is returned is removed."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(FORMAT)
    logging.getLogger().addHandler(handler)
    return handler


def stop_log_file(handler: logging.Handler) -> None:
    """Close a log file."""
    logging.getLogger().removeHandler(handler)
    handler.close()


def kair_position(*, epoch: int, step: int) -> str:
    """`epoch:  0, iter:     200`, as KAIR writes it."""
    return f"epoch:{epoch:3d}, iter:{step:8,d}"


class Journal:
    """A file of JSON objects, one a line, each of them with the iteration (`iter`) that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines; none where there is no file. A last line that was cut off is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Forget the other lines: those of iterations that a resumed run is about to repeat."""
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in self.read() if wanted(line)), encoding="utf-8")
        partial.replace(self.path)
