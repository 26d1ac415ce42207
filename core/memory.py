"""Freed memory goes back to the system while bars are read, and stays while a network is trained.

Reading: the C library holds on to freed blocks of up to 32 MB, and Arrow's allocator to its own:
after many columns were made and dropped, that is as much again as the columns that were kept.
Reading bars, making the rows and labelling them must take no more than half of the features beside
them, so memory is given up at these points and nowhere else:

- `data.bars.formats` and `data.bars.read` read a file column by column, each of which Arrow would
  keep;
- `data.market.parts.by_symbol` divides the bars by symbol and lets go of the undivided ones, then
  of a symbol's bars, and of all that was made on the way to its rows, when the next symbol is asked
  for;
- `data.market.market` has found the windows, and later has dropped what only the labels are made
  of.

Training: what the compiler left in the heaps of its threads is given up after the first epoch
(`models.training.callbacks.callback_list`), what is left between the fits of the baselines beside
it (`evaluation.baselines.fold`), and what a fold's training left once it has ended
(`recipe.run.run`). Nothing else is: each compiled step asks for one block of tens or hundreds of MB
and frees it. The C library would map that block anew each time, and the system would clear every
page of it: 40 % of a step's time, measured on two cores (26 ms instead of 15 with sequences, 42
instead of 24 with windows). Threads keep their own heaps: one that all shared made them wait for
each other (61,000 waits instead of 9,000 in three epochs, mostly of the compiler) and steps 8 %
slower.
"""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

# Of mallopt in the GNU library: its malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = 1 << 30  # bytes


def release_memory() -> None:
    """Returns memory that the allocators hold unused to the system, as far as they can."""
    import pyarrow as pa  # not above: what starts the backend imports nothing heavy

    pa.default_memory_pool().release_unused()
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Has the C library keep what is freed, up to 1 GiB, until `release_memory` is called.

    The heap grows by 1 GiB of addresses at a time: pages that were never used take no memory. A
    threshold for mapped blocks would not do: TensorFlow sets its own where it reads a generator.
    """
    _set(_MMAP_MAX, 0)
    _set(_TOP_PAD, _KEPT)
    _set(_TRIM_THRESHOLD, _KEPT)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Has Python's collector pass over what is imported inside, then and ever after.

    A million objects come with TensorFlow and live as long as the process; looking through them
    again and again took 1.7 of 39 seconds of a small run.
    """
    gc.collect()  # what is garbage now would never be found
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _set(parameter: int, value: int) -> None:
    option = _of_c_library("mallopt")
    if option is not None:
        option(parameter, value)


def _of_c_library(name: str):
    """Returns a function that only the GNU C library has, or None."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
