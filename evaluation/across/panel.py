"""Test windows as a panel, bars by symbols, and rank correlations within each bar of it.

A rank correlation within a bar compares symbols with each other: a move common to all adds nothing.
The windows of a bar count as one figure, however many there are, and the mean over bars has a
jackknife interval over blocks of time (see `evaluation.verdict`).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from data.market.labels import BUY, SELL
from data.times.grid import moments_of
from evaluation.figures.scores import Estimate
from evaluation.verdict import interval, time_blocks

LEAST_SYMBOLS = 10  # at a bar, for a correlation over them
RECENT_DAYS, RECENT_BARS = 5, 20  # of the past mean: the days where a day has bars, else the bars
_DAY = np.timedelta64(86_400_000_000_000, "ns")
_TRADES = 0.1  # a weekday trades if it has this share of the windows of the busiest one
_DIGITS = 7  # of a probability; float32 knows no more
_LEAST_RECENT = 0.25  # of that time


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
    """Returns the panel of the known windows, without bars of too few symbols.

    Windows that become known together share a bar: see `data.times.grid.moments_of`.

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
    """Returns the number of known windows, bool (windows,), in the fullest bar."""
    moments = moments_of(times, symbols)[known]
    return int(np.unique(moments, return_counts=True)[1].max()) if len(moments) else 0


def favour(probabilities: np.ndarray) -> np.ndarray:
    """Returns BUY less SELL of probabilities (windows, 3), (windows,).

    This is the expected move of the label in units of its threshold, as far as classes show it.
    Log-odds would rank a symbol that hardly ever moves as high as one that moves often.
    """
    return even_out(np.asarray(probabilities[:, BUY] - probabilities[:, SELL], np.float64))


def even_out(values: np.ndarray) -> np.ndarray:
    """Returns values from probabilities, with differences due to rounding removed, (windows,)."""
    return np.round(values, _DIGITS)


def recent_span(times: np.ndarray, symbols: np.ndarray) -> np.timedelta64:
    """Returns the calendar time of the past mean: five days of trading.

    For daily bars it is 20 days of trading, and for longer bars 20 bars. In a market that closes at
    weekends, five days of trading are a week.

    Args:
        times: datetime64 (windows,), in any order.
        symbols: codes, (windows,).

    Returns:
        timedelta64[ns].
    """
    times = times.astype("datetime64[ns]")
    order = np.lexsort((times, symbols))
    steps = np.diff(times[order])[np.diff(symbols[order]) == 0]
    step = np.median(steps[steps > 0]) if (steps > 0).any() else _DAY
    if step > 1.5 * _DAY:
        return RECENT_BARS * step
    days = times.astype("datetime64[D]")
    weekdays = days[(days > days.min()) & (days < days.max())].astype(np.int64) % 7  # whole ones
    offered = min(max(int((days.max() - days.min()).astype(np.int64)) - 1, 1), 7)
    counts = np.bincount(weekdays, minlength=1)
    traded = np.count_nonzero(counts >= max(_TRADES * counts.max(), 1))
    num_days = RECENT_DAYS if step < 0.75 * _DAY else RECENT_BARS
    return num_days * (offered / max(traded, 1)) * _DAY


def recent_mean(
    values: np.ndarray, symbols: np.ndarray, times: np.ndarray, span: np.timedelta64
) -> np.ndarray:
    """Returns the mean of a symbol's values over the time before each row, without the row.

    Args:
        values: (rows,), sorted by symbol, then time.
        symbols: codes, (rows,).
        times: datetime64 (rows,).
        span: length of that time.

    Returns:
        float64 (rows,); NaN if the rows before cover less than a quarter of the span.
    """
    here = np.arange(len(values))
    begins, first = here - _position(symbols), np.empty(len(values), np.int64)
    for start, stop in itertools.pairwise([*np.unique(begins).tolist(), len(values)]):
        part = times[start:stop]
        first[start:stop] = start + np.searchsorted(part, part - span)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    mean = (sums[here] - sums[first]) / np.maximum(here - first, 1)
    return np.where((here > first) & (times - times[first] >= _LEAST_RECENT * span), mean, np.nan)


def aged(values: np.ndarray, symbols: np.ndarray, num_bars: int) -> np.ndarray:
    """Returns the symbol's value `num_bars` of its bars before each row, NaN if none, (rows,).

    The rows are sorted by symbol, then time.
    """
    old = np.full(len(values), np.nan)
    rows = np.flatnonzero(_position(symbols) >= num_bars)
    old[rows] = values[rows - num_bars]
    return old


def rank_correlations(answers: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation in each row of two matrices, float64 (bars,).

    Ties share their mean rank. It is 0 if one side is the same for all symbols, and NaN if fewer
    than `LEAST_SYMBOLS` symbols have both.

    Args:
        answers: (bars, symbols), NaN where unknown.
        returns: the same.
    """
    both = np.isfinite(answers) & np.isfinite(returns)
    count = both.sum(axis=1)
    ranks = [_centred_ranks(side, both, count) for side in (answers, returns)]
    shared = (ranks[0] * ranks[1]).sum(axis=1)
    size = np.sqrt(np.prod([(side**2).sum(axis=1) for side in ranks], axis=0))
    correlations = np.divide(shared, size, out=np.zeros(len(shared)), where=size > 0)
    return np.where(count >= LEAST_SYMBOLS, correlations, np.nan)


def mean_over_bars(values: np.ndarray, blocks: np.ndarray, widest: float | None = None) -> Estimate:
    """Returns the mean over the bars that have a value, with its interval over blocks of time.

    Args:
        values: (bars,), NaN where there is none.
        blocks: of each bar, (bars,).
        widest: the largest value possible; None where it has no bound.

    Returns:
        the value (None without any bar) and its interval (None without any bar, or where the value
        has no bound and there is one block).
    """
    known = np.isfinite(values)
    if not known.any():
        return Estimate(None, None)
    numbers = np.unique(blocks[known], return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values[known]), np.bincount(numbers)
    value, bound = float(values[known].mean()), np.inf if widest is None else widest
    if len(counts) < 2:
        return Estimate(value, None if widest is None else [-widest, widest])
    without = (sums.sum() - sums) / (counts.sum() - counts)
    return Estimate(value, interval(value, without, widest=bound))


def _position(symbols: np.ndarray) -> np.ndarray:
    """Returns how many rows of its symbol come before each row, (rows,)."""
    new = np.concatenate([[True], symbols[1:] != symbols[:-1]])
    starts = np.flatnonzero(new)
    return np.arange(len(symbols)) - starts[np.cumsum(new) - 1]


def _centred_ranks(values: np.ndarray, both: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns ranks within each row less their mean, 0 where not both are known."""
    ranks = rankdata(np.where(both, values, np.nan), axis=1, nan_policy="omit")
    return np.where(both, ranks - (count[:, None] + 1) / 2, 0.0)
