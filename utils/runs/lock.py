"""One run of a task at a time."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.process.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def task_lock(folder: Path) -> Iterator[None]:
    """Keep other processes, on this host or another, from running the task of this folder meanwhile.

    The system releases the lock of a process that dies. It is a POSIX lock, which data-loading
    processes that outlive the run for a moment do not keep, and which network file systems know, too.

    Raises:
        UserError: another process runs the task, or the file system has no locks.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("a+", encoding="utf-8") as file:
        file.seek(0)
        owner = file.read().strip()
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(
                f"{folder}: {owner or 'another process'} is running this task; "
                "wait for it to end, or give the task another name"
            ) from error
        except OSError as error:
            raise UserError(f"{folder}: nothing can be locked here ({error.strerror}); move path.root") from error
        if owner:
            logger.warning("%s: %s ran this task and did not end properly; going on in its place", folder, owner)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
