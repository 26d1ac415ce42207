"""Test windows as a panel, bars by symbols, and rank correlations within each bar of it.

A rank correlation within a bar compares symbols with symbols: what moves them all alike adds
nothing to it. The windows of a bar are counted as one figure, however many there are, and the bars'
mean has the jackknife's interval over blocks of time (see `evaluation.verdict`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from data.bars.moments import moments_of
from data.market.labels import BUY, SELL
from evaluation.verdict import interval, time_blocks

LEAST_SYMBOLS = 10  # at a bar, for a correlation over them
RECENT_DAYS, RECENT_BARS = 5, 20  # of the past mean: the days where a day has bars, else the bars
_DIGITS = 7  # of a probability; float32 knows no more
_LEAST_RECENT = 0.25  # of those bars


@dataclass(frozen=True)
class Panel:
    """Where windows stand in a matrix of bars and symbols.

    Attributes:
        times: moments of the bars that have enough symbols, rising, (bars,).
        num_symbols: columns.
        rows: the windows that stand in it, (places,).
        bars: the bar of each of them, (places,).
        columns: the symbol of each of them, (places,).
        blocks: the block of time of each bar, (bars,).
    """

    times: np.ndarray
    num_symbols: int
    rows: np.ndarray
    bars: np.ndarray
    columns: np.ndarray
    blocks: np.ndarray

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Returns values (windows,) as float64 (bars, symbols), NaN where there is no window."""
        placed = np.full((len(self.times), self.num_symbols), np.nan)
        placed[self.bars, self.columns] = values[self.rows]
        return placed


def make_panel(
    times: np.ndarray, symbols: np.ndarray, known: np.ndarray, block_seconds: float
) -> Panel:
    """Returns the panel of the windows that are known, without bars of too few symbols.

    Windows stand in one bar where they are known together: see
    `data.bars.moments.moments_of`.

    Args:
        times: of the windows' last bars, datetime64 (windows,), in any order.
        symbols: codes, (windows,).
        known: windows that count, bool (windows,).
        block_seconds: length of a block; at least the span of a window and its label.
    """
    blocks = time_blocks(times, block_seconds)
    moments = moments_of(times, symbols)
    distinct, first, bars = np.unique(moments, return_index=True, return_inverse=True)
    counts = np.bincount(bars[known], minlength=len(distinct))
    kept = counts >= LEAST_SYMBOLS
    rows = np.flatnonzero(known & kept[bars])
    codes, columns = np.unique(symbols[rows], return_inverse=True)
    place = np.cumsum(kept) - 1
    return Panel(distinct[kept], len(codes), rows, place[bars[rows]], columns, blocks[first[kept]])


def most_symbols(times: np.ndarray, symbols: np.ndarray, known: np.ndarray) -> int:
    """Returns how many of the windows that are known, bool (windows,), the fullest bar has."""
    moments = moments_of(times, symbols)[known]
    return int(np.unique(moments, return_counts=True)[1].max()) if len(moments) else 0


def favour(probabilities: np.ndarray) -> np.ndarray:
    """Returns BUY less SELL of probabilities (windows, 3), (windows,).

    It is what the label's move is expected to be in units of its threshold, as far as classes
    tell. Log-odds would put a symbol that hardly ever moves as far ahead as one that moves often.
    """
    return even_out(np.asarray(probabilities[:, BUY] - probabilities[:, SELL], np.float64))


def even_out(values: np.ndarray) -> np.ndarray:
    """Returns values of probabilities without what only rounding tells apart, (windows,)."""
    return np.round(values, _DIGITS)


def recent_bars(times: np.ndarray, symbols: np.ndarray) -> int:
    """Returns the bars of the past mean: five days of them, or 20 where a day has one.

    Args:
        times: datetime64 (windows,).
        symbols: codes, (windows,).
    """
    days = np.asarray(times).astype("datetime64[D]").astype(np.int64)
    own_days = np.asarray(symbols, np.int64) * (int(days.max()) + 1) + days
    a_day = int(np.median(np.unique(own_days, return_counts=True)[1]))
    return RECENT_DAYS * a_day if a_day > 1 else RECENT_BARS


def recent_mean(values: np.ndarray, symbols: np.ndarray, num_bars: int) -> np.ndarray:
    """Returns the mean of a symbol's values over its bars before each row, without the row.

    Args:
        values: (rows,), sorted by symbol, then time.
        symbols: codes, (rows,).
        num_bars: that it goes back.

    Returns:
        float64 (rows,); NaN where fewer than a quarter of the bars are there.
    """
    position = _position(symbols)
    count = np.minimum(position, num_bars)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    here = np.arange(len(values))
    mean = (sums[here] - sums[here - count]) / np.maximum(count, 1)
    return np.where(count >= max(1, _LEAST_RECENT * num_bars), mean, np.nan)


def aged(values: np.ndarray, symbols: np.ndarray, num_bars: int) -> np.ndarray:
    """Returns the symbol's value `num_bars` bars of its own before each row, NaN if none, (rows,).

    The rows are sorted by symbol, then time.
    """
    old = np.full(len(values), np.nan)
    rows = np.flatnonzero(_position(symbols) >= num_bars)
    old[rows] = values[rows - num_bars]
    return old


def rank_correlations(said: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation in each row of two matrices, float64 (bars,).

    Ties share their mean rank. Where one side says the same of all symbols it is 0; with fewer
    than `LEAST_SYMBOLS` symbols that have both it is NaN.

    Args:
        said: (bars, symbols), NaN where unknown.
        came: the same.
    """
    both = np.isfinite(said) & np.isfinite(came)
    count = both.sum(axis=1)
    ranks = [_centred_ranks(side, both, count) for side in (said, came)]
    shared = (ranks[0] * ranks[1]).sum(axis=1)
    size = np.sqrt(np.prod([(own**2).sum(axis=1) for own in ranks], axis=0))
    found = np.divide(shared, size, out=np.zeros(len(shared)), where=size > 0)
    return np.where(count >= LEAST_SYMBOLS, found, np.nan)


def mean_over_bars(
    values: np.ndarray, blocks: np.ndarray, widest: float | None = None
) -> dict[str, Any]:
    """Returns the mean over the bars that have a value, with its interval over blocks of time.

    Args:
        values: (bars,), NaN where there is none.
        blocks: of each bar, (bars,).
        widest: the largest value possible; None where it has no bound.

    Returns:
        value (None without any) and interval (None without any, or where the value has no bound
        and there is one block).
    """
    known = np.isfinite(values)
    if not known.any():
        return {"value": None, "interval": None}
    own = np.unique(blocks[known], return_inverse=True)[1]
    sums, counts = np.bincount(own, values[known]), np.bincount(own)
    value, bound = float(values[known].mean()), np.inf if widest is None else widest
    if len(counts) < 2:
        return {"value": value, "interval": None if widest is None else [-widest, widest]}
    without = (sums.sum() - sums) / (counts.sum() - counts)
    return {"value": value, "interval": interval(value, without, widest=bound)}


def _position(symbols: np.ndarray) -> np.ndarray:
    """Returns how many rows of its symbol come before each row, (rows,)."""
    new = np.concatenate([[True], symbols[1:] != symbols[:-1]])
    starts = np.flatnonzero(new)
    return np.arange(len(symbols)) - starts[np.cumsum(new) - 1]


def _centred_ranks(values: np.ndarray, both: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns ranks within each row less their mean, 0 where not both are known."""
    ranks = rankdata(np.where(both, values, np.nan), axis=1, nan_policy="omit")
    return np.where(both, ranks - (count[:, None] + 1) / 2, 0.0)
