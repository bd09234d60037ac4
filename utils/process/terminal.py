"""What the log looks like on a terminal."""

import logging
import sys

from tqdm import tqdm

FORMAT = logging.Formatter("%(asctime)s.%(msecs)03d : %(message)s", datefmt="%y-%m-%d %H:%M:%S")


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
