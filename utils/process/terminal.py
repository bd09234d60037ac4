"""What the log looks like on a terminal."""

import logging
import sys

from tqdm import tqdm

from utils.process.errors import printable_lines


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


def say(text: str) -> None:
    """Lines of a program's answer, above the progress bar where there is one."""
    with tqdm.external_write_mode():
        sys.stdout.write(f"{printable_lines(text)}\n")
        sys.stdout.flush()
