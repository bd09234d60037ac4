"""glibc's memory allocator, set for tensors."""

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Serve large tensors from memory that the process has, instead of new pages each time; only glibc needs it.

    Each training step allocates and frees the same few hundred megabytes; by default every tensor's pages go back to
    the system, and are zeroed and mapped again a moment later.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
