"""Keeps a process as small as what it holds: freed memory goes back to the system at once.

The C library holds on to freed blocks of up to 32 MB, and Arrow's allocator to its own: after many
columns were made and dropped, that is as much again as the columns that were kept.
"""

import ctypes
import sys

import pyarrow as pa


def release_memory() -> None:
    """Returns memory that the allocators hold unused to the system, as far as they can."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU library's
        if trim is not None:
            trim(0)
