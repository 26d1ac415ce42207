"""Keeps a process as small as what it holds: freed memory goes back to the system at once.

The C library holds on to freed blocks of up to 32 MB, and Arrow's allocator to its own: after many
columns were made and dropped, that is as much again as the columns that were kept. Reading bars,
making the rows and labelling them must take no more than half of the features beside them, so
memory is given up at these points and nowhere else:

- `data.files` and `data.bars` read a file column by column, each of which Arrow would keep;
- `data.rows.by_symbol` divides the bars by symbol and lets go of the undivided ones, then of a
  symbol's bars, and of all that was made on the way to its rows, when the next symbol is asked for;
- `data.market` has found the windows, and later has dropped what only the labels are made of.
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
