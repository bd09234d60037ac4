"""What is said where another process of the run has ended."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from utils.process.errors import UserError

COMMUNICATION = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
OWN_FAULT = re.compile(r"unhandled cuda error|invalid usage", re.IGNORECASE)  # NCCL's, where no process is lost


class LostProcessError(UserError):
    """The processes do not reach each other, most often since one of them has ended."""


@contextmanager
def lost_process_explained(rank: int) -> Iterator[None]:
    """Turn the error that PyTorch raises if process `rank` does not reach another one into a `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        if OWN_FAULT.search(str(error)) or not COMMUNICATION.search(str(error)):
            raise
        raise LostProcessError(
            f"process {rank} does not reach the others; if one has ended, torchrun's summary says which was first "
            f"({str(error).splitlines()[0]})"
        ) from error
