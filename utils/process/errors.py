"""The one exception for what a user can mend, and the one place that prints it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # a write fails by these without the file's name

LESS_MEMORY = (
    "Training needs less with a smaller datasets.train.dataloader_batch_size or H_size or with train.amp 'bf16', "
    "main_test_swinir.py with a smaller --tile"
)


class UserError(Exception):
    """One sentence that names the place (file, key, folder), what was found there and what was expected."""


def lacks_memory(error: Exception) -> bool:
    """Whether a GPU or this machine has no more memory to give."""
    # PyTorch's exceptions are known by name and text: small commands need not import it for this.
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Make a `UserError`, a refused file, a full disk or memory (all exit code 2), and Ctrl-C (130), one line."""
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
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        request = ". ".join(str(error).rpartition("DefaultCPUAllocator: ")[2].split(". ")[:2])
        sys.stderr.write(f"error: {request or 'out of memory'}. {LESS_MEMORY}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


class LostProcessError(UserError):
    """The processes do not reach each other, most often since one of them has ended."""
