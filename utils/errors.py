"""The one exception for what a user can mend, and the one place that prints it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # a write fails by these without the file's name


class UserError(Exception):
    """One sentence that names the place (file, key, folder), what was found there and what was expected."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Make a `UserError`, a file that the system refuses or a full disk (exit code 2), and Ctrl-C (130), one line."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"error: {place}{error.strerror}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None
