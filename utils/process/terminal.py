"""What the log looks like on a terminal."""

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType

from tqdm import tqdm

from utils.process.errors import printable_lines

logger = logging.getLogger(__name__)

EVERY = 30.0  # seconds between lines that stand for a bar


class PlainFormatter(logging.Formatter):
    """KAIR's form, in which names from outside cannot steer a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d : %(message)s", datefmt="%y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """One record, control characters escaped."""
        return printable_lines(super().format(record))


class TerminalFormatter(PlainFormatter):
    """The same, with what a record has `beside` its message: what the log file does not keep."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        line, beside = super().format(record), getattr(record, "beside", "")
        return f"{line} | {beside}" if beside else line


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
    handler.setFormatter(TerminalFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)


class Bar:
    """How far work on many images is: a bar on a terminal, elsewhere a line of the log from time to time.

    Args:
        done: images that are done already.
        shown: whether to say anything.
    """

    def __init__(self, title: str, *, total: int, done: int = 0, shown: bool = True) -> None:
        self.title, self.total, self.done, self.earlier = title, total, done, done
        self.start = self.told = time.monotonic()
        self.bar = tqdm(
            desc=title,
            total=total,
            initial=done,
            unit="image",
            delay=1,
            leave=None,  # unless it stands below another
            disable=None if shown else True,  # None: unless it is not a terminal
        )
        self.in_lines = shown and self.bar.disable

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.bar.close()
        if self.told > self.start:
            took = timedelta(seconds=round(time.monotonic() - self.start))
            logger.info("%s: %s images in %s", self.title, f"{self.done - self.earlier:,}", took)

    def update(self) -> None:
        """One image is done."""
        self.bar.update()
        self.done += 1
        now = time.monotonic()
        if self.in_lines and now - self.told >= EVERY:
            each = (now - self.start) / (self.done - self.earlier)
            left = timedelta(seconds=round((self.total - self.done) * each))
            logger.info("%s: %s of %s images, about %s to go", self.title, f"{self.done:,}", f"{self.total:,}", left)
            self.told = now


def say(text: str) -> None:
    """Lines of a program's answer, above the progress bar where there is one."""
    with tqdm.external_write_mode():
        sys.stdout.write(f"{printable_lines(text)}\n")
        sys.stdout.flush()
