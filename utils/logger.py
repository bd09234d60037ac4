"""The KAIR log file, and figures that programs can read."""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.errors import UserError
from utils.files import write_whole

FORMAT = logging.Formatter("%(asctime)s.%(msecs)03d : %(message)s", datefmt="%y-%m-%d %H:%M:%S")
POSITION = re.compile(r"<epoch:\s*\d+, iter:\s*([\d,]+)")


class TerminalHandler(logging.StreamHandler):
    """Writes above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def log_to_terminal(*, quiet: bool) -> None:
    """Show the log on the terminal; `quiet` processes show only warnings."""
    logging.captureWarnings(capture=True)
    handler = TerminalHandler(sys.stdout)
    handler.setFormatter(FORMAT)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)


class LogFile(WatchedFileHandler):
    """A log file that `keep_log` may rewrite meanwhile, and whose errors end the run instead of being printed."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in logging)
        """Raise the error that kept a record from being written, as a `UserError`."""
        raise UserError(f"{self.baseFilename}: cannot be written ({sys.exc_info()[1]})")


def log_to_file(path: Path) -> logging.Handler:
    """Append the log to a file until the handler that is returned is removed."""
    handler = LogFile(path, encoding="utf-8")
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


def keep_log(path: Path, wanted: Callable[[int, str], bool]) -> None:
    """Forget those lines of a log file that name an iteration and are not `wanted(iteration, line)`."""

    def keeps(line: str) -> bool:
        position = POSITION.search(line)
        return line.endswith("\n") and (position is None or wanted(int(position[1].replace(",", "")), line))

    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)  # it may end in a letter
        write_whole(path, "".join(line for line in lines if keeps(line)).encode())


class Journal:
    """A file of JSON objects, one a line, each of them with the iteration (`iter`) that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def read(self) -> list[dict[str, Any]]:
        """All lines; none where there is no file. A last line that was cut off is left out.

        Raises:
            UserError: another line is damaged.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: str, number: int) -> dict[str, Any]:
        try:
            return json.loads(line)
        except ValueError as error:
            raise UserError(f"{self.path}: line {number} is damaged; without that line the task goes on") from error

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Forget the other lines: those of iterations that a resumed run is about to repeat."""
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in self.read() if wanted(line)).encode())
