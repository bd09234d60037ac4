"""Writing files so that neither a kill, a full disk nor a power cut leaves half of one."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mtime_ns: int | None = None) -> None:
    """Make `data` the content of a file, on the disk itself; until that is done the file stays as it was.

    Args:
        path: the file.
        data: its content.
        mtime_ns: its time of modification, in ns since 1970; now, if None.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write the same file
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            if mtime_ns is not None:
                os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed write does not name its file
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds what was written to a file, or the names of the files in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
