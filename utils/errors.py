"""The one exception for what a user can mend, and the one place that prints it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """One sentence that names the place (file, key, folder), what was found there and what was expected."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Make a `UserError` or a file that the system refuses (exit code 2), and Ctrl-C (130), one line on stderr."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from what is saved\n")
        raise SystemExit(130) from None
