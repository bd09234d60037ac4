"""The KAIR log file of a run."""

import logging
import re
import sys
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path

from utils.process.errors import UserError
from utils.process.files import write_whole
from utils.process.terminal import PlainFormatter

POSITION = re.compile(r"<epoch:\s*\d+, iter:\s*([\d,]+)")


class LogFile(WatchedFileHandler):
    """A log file that `keep_log` may rewrite meanwhile, and whose errors end the run instead of being printed."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in logging)
        """Raise the error that kept a record from being written, as a `UserError`."""
        raise UserError(f"{self.baseFilename}: cannot be written ({sys.exc_info()[1]})")


def log_to_file(path: Path) -> logging.Handler:
    """Append the log to a file until the handler that is returned is removed."""
    handler = LogFile(path, encoding="utf-8")
    handler.setFormatter(PlainFormatter())
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
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)  # the end may be cut off
        write_whole(path, "".join(line for line in lines if keeps(line)).encode())
