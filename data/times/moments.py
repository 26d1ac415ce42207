"""When bars are known: at their close, to the 48th part of a bar."""

import itertools

import numpy as np

from data.times.grid import grid_ns

_FEW_BARS = 20  # of a symbol: then its bars are taken to be as long as those of most


def closes_of(times: np.ndarray, length: int) -> np.ndarray:
    """Returns when bars close, nanoseconds since 1970, rounded to the 48th part of a bar.

    Feeds stamp bars seconds late: without rounding no two symbols would share a moment.

    Args:
        times: at which bars open, datetime64[ns] (bars,).
        length: of a bar, nanoseconds.
    """
    unit = max(length // 48, 1)
    return (times.view(np.int64) + unit // 2) // unit * unit + length


def moments_of(times: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """Returns the moments of bars of many symbols: those that are known together share one.

    It is when each bar closes (see `closes_of`) less the usual length of a bar, so that of bars of
    one length it is the time at which they open, without the seconds by which feeds are late.

    Args:
        times: at which bars open, datetime64 (bars,), in any order.
        symbols: codes, (bars,).

    Returns:
        datetime64[ns] (bars,).
    """
    times = np.asarray(times).astype("datetime64[ns]")
    order = np.lexsort((times, symbols))
    ordered = np.asarray(symbols)[order]
    bounds = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1, append=ordered[-1:] + 1))
    parts = [order[start:stop] for start, stop in itertools.pairwise(bounds.tolist())]
    lengths = [grid_ns(times[own]) if len(own) > _FEW_BARS else 0 for own in parts]
    known = [length for length in lengths if length] or [grid_ns(times[own]) for own in parts]
    usual = int(np.median(known)) if known else 0
    moments = np.empty(len(times), np.int64)
    for own, length in zip(parts, lengths, strict=True):
        moments[own] = closes_of(times[own], length or usual) - usual
    return moments.view("datetime64[ns]")
