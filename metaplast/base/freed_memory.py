"""Keep freed memory in the process, for calls that need the same memory again and again."""

from __future__ import annotations

import ctypes
from functools import cache

# The parameters M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc.
_TRIM, _MAP = -1, -3
# The largest block that glibc serves from memory that it keeps.
_LARGEST_BLOCK = 2**25
MOST_KEPT = 2**28


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep up to 256 MB of freed memory; return whether it does.

    Otherwise the library returns blocks of a few megabytes to the system at once, and the system
    fills each new block with zeros, which can take as long as the arithmetic. Only glibc has this
    setting; with other libraries, this does nothing.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(tell(_MAP, _LARGEST_BLOCK)) and bool(tell(_TRIM, MOST_KEPT))
