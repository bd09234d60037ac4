"""The one exception for what a user can mend, and the one place that prints it."""

import errno
import hashlib
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 200  # characters of a key or value that a message shows
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # a write may fail by these without the file's name
FILES = (errno.EMFILE, errno.ENFILE)
MEMORY = (errno.ENOMEM, errno.EAGAIN)  # the second where no process or thread can be started

LESS_MEMORY = (
    "Training needs less with a smaller datasets.train.dataloader_batch_size or H_size or with train.amp 'bf16', "
    "main_test_swinir.py with a smaller --tile"
)
MORE_MEMORY = "The programs of this project need gigabytes of address space: raise the limit (ulimit -v)"
# How PyTorch, the loader of libraries and Python say that memory is short, in exceptions of other kinds.
NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|failed to map segment|can't start new thread|std::bad_alloc"
    r"|could not create a (primitive|memory object)|NULL without setting|without exception set",  # oneDNN, then Python
    re.IGNORECASE,
)
TO_TEXT = (RuntimeError, ImportError, OSError, SystemError)


class UserError(Exception):
    """Sentences, one a line, that name the place (file, key, folder), what was found there and what was expected."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class NoBatchError(UserError):
    """No further batch can be had; what was trained so far is whole and can be saved."""


class LostProcessError(UserError):
    """The processes do not reach each other, most often since one of them has ended."""


@contextmanager
def errors_about(place: object) -> Iterator[None]:
    """Put `place`, such as a file or folder, in front of the text of any `UserError` that the block raises."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def lacks_memory(error: BaseException) -> bool:
    """Whether a GPU or this machine has no more memory, or threads, to give."""
    # PyTorch's exceptions are known by name and text: small commands need not import it for this.
    told = isinstance(error, TO_TEXT) and NO_MEMORY.search(str(error)) is not None
    by_number = isinstance(error, OSError) and error.errno in MEMORY
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or told or by_number:
        return True
    return isinstance(error.__context__, MemoryError)  # a library gave it another name


def sentences(error: BaseException) -> list[str]:
    """What to tell a user of an error, one sentence a line; nothing for a mistake of ours, which needs a traceback."""
    if isinstance(error, UserError):
        return [str(sentence) for sentence in error.args]
    if lacks_memory(error):
        request = ". ".join(str(error).rpartition("DefaultCPUAllocator: ")[2].split("\n")[0].split(". ")[:2])
        mend = MORE_MEMORY if isinstance(error, ImportError) else LESS_MEMORY
        return [f"{request or 'out of memory'}. {mend}"]
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        if error.errno in FILES:
            return [f"{place}{error.strerror}; raise the limit (ulimit -n)"]
        if place or error.errno in DISK:
            return [f"{place}{error.strerror}"]
    return []


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Make a `UserError`, a refused file, a full disk or memory (all exit code 2), and Ctrl-C (130), one line each."""
    try:
        yield
    except Exception as error:
        lines = sentences(error)
        if not lines:
            raise
        tell(*(line if line.startswith("  ") else f"error: {line}" for line in lines))  # indented: what belongs to it
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        tell("interrupted")
        raise SystemExit(130) from None


def tell(*lines: str) -> None:
    """Write lines to stderr, unless another process that torchrun started here has written the same to the same place.

    The first process that comes here writes them, even if the others have no error, so that none is lost.
    """
    text = "".join(f"{printable(line, math.inf)}\n" for line in lines)
    if not said_by_another(text):
        sys.stderr.write(text)
        sys.stderr.flush()


def said_by_another(text: str) -> bool:
    """Whether a process of this start of torchrun has said the same; if not, notes that this one does."""
    private = os.environ.get("TORCHELASTIC_ERROR_FILE", "")  # in a folder of this process, in that of this start
    try:
        place = os.fstat(sys.stderr.fileno())  # torchrun can give each process a log file of its own
        said = hashlib.sha256(f"{place.st_dev} {place.st_ino} {text}".encode()).hexdigest()[:16]
        if private:
            Path(private).parent.with_name(f"{said}.said").touch(exist_ok=False)
    except FileExistsError:
        return True
    except (OSError, ValueError):  # without a note both say it, which is better than neither
        return False
    return False


def printable(text: str, longest: float = LONGEST) -> str:
    """Text from outside, fit for one line of a terminal: control characters escaped, and cut if it is too long."""
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return line if len(line) <= longest else f"{line[: int(longest)]}..."


def printable_lines(text: str) -> str:
    """Lines of ours that may name things from outside: as `printable`, but uncut, and their ends stay."""
    return "\n".join(printable(line, math.inf) for line in text.split("\n"))
