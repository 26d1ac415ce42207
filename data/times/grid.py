"""The length of a bar, which is that of the grid that its times lie on, and when it is known.

Nights, quiet minutes and half days make the usual step longer than the bar: of two bars of four
hours a day every other step is twenty hours.
"""

import itertools

import numpy as np

from core.errors import InputError
from core.i18n import N_, _, date

DAY = 86_400_000_000_000  # nanoseconds
_MINUTE = 60_000_000_000
# A bar may come so much earlier or later than the grid says, in shares of its length: feeds are
# late by seconds, and months have 28 to 31 days.
_LATE = 0.1
_REGULAR = 0.75  # share of the steps that are one length: then it is the bar's
_ON_GRID = 0.9  # share of the steps that are multiples of a length: then it may be the bar's
# ... if so many steps are that length itself. Every step is a multiple of a second, so that for
# bars below a minute more is asked: bars of equal value come at any second.
_SEEN, _SEEN_BELOW_A_MINUTE = 0.05, 0.25
# Steps of bars of equal value are spread: of exponential ones 7 % lie within a tenth of a length.
_MOST_COMMON = 0.4
_DELAYS = 0.005  # of a bar's length
_CHUNK, _CHUNKS = 20, 3  # steps, and so many chunks of them in a row: bars of another length
_OTHER = 1.5  # times as long or as short
_FEWEST_STEPS = 20  # of fewer nothing can be told: their median is taken
_FEW_BARS = 20  # of a symbol: then its bars are taken to be as long as those of most


def bar_interval_ns(timestamps: np.ndarray) -> int:
    """Returns the length of one symbol's bars in nanoseconds, 1 for a single bar.

    Where the times lie on no grid it is the median of the steps.

    Args:
        timestamps: datetime64 (bars,), rising.
    """
    steps = _steps(timestamps)
    if not len(steps):
        return 1
    return interval_of_steps(steps) or max(int(np.median(steps)), 1)


def grid_ns(timestamps: np.ndarray) -> int:
    """Returns the same, and 0 where the times lie on no grid, as those of bars of equal value."""
    steps = _steps(timestamps)
    return interval_of_steps(steps) if len(steps) else 1


def interval_of_steps(steps: np.ndarray) -> int:
    """Returns the length of the bars that lie so far apart, 0 where their times have no grid.

    Args:
        steps: nanoseconds from each bar to the next of the same symbol, above 0, at least one.
    """
    middle = float(np.median(steps))
    near = np.abs(steps - middle) <= _LATE * middle
    if len(steps) < _FEWEST_STEPS or near.mean() >= _REGULAR:
        return _rounded(max(int(middle), 1))
    lengths, counts = np.unique(steps, return_counts=True)
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        least = _SEEN if length >= _MINUTE else _SEEN_BELOW_A_MINUTE
        if count >= least * len(steps) and _multiples(lengths, counts, length) >= _ON_GRID:
            return length
    length = int(lengths[counts.argmax()])
    near = np.abs(lengths - length) <= _LATE * length
    return length if counts[near].sum() >= _MOST_COMMON * len(steps) else 0


def check_one_length(symbol: str, timestamps: np.ndarray, length: int) -> None:
    """Raises InputError where a symbol has bars of another length for a while.

    A length that is learnt from all bars would then say of earlier ones when they closed what only
    later ones know.

    Args:
        symbol: to be named.
        timestamps: datetime64 (bars,), rising.
        length: of a bar, nanoseconds, from `grid_ns`.
    """
    steps = np.diff(timestamps.astype("datetime64[ns]", copy=False).view(np.int64))
    chunks = steps[: len(steps) // _CHUNK * _CHUNK].reshape(-1, _CHUNK)
    middle = np.median(chunks, axis=1)
    near = np.abs(chunks - middle[:, None]) <= _LATE * middle[:, None]
    ratio = np.maximum(middle / length, length / np.maximum(middle, 1))
    other = (near.mean(axis=1) >= _REGULAR) & (ratio > _OTHER)
    row = 0
    for is_other, run in itertools.groupby(other.tolist()):
        count = len([*run])
        if is_other and count >= _CHUNKS:
            raise InputError(
                "symbol {symbol}: beside the market its bars must be of one length; most are "
                "{usual} long, those from {time} UTC on {other}",
                symbol=symbol,
                usual=span(length / 1e9),
                other=span(middle[row] / 1e9),
                time=date(str(timestamps[row * _CHUNK])[:16].replace("T", " ")),
            )
        row += count


def no_grid(timestamps: np.ndarray) -> str:
    """Returns in words why bars are refused whose times have no grid."""
    low, high = np.quantile(_steps(timestamps), (0.1, 0.9)) / 1e9
    return _(
        "its bars must be of one length in time; they come {low} to {high} apart: bars of equal "
        "volume, value or ticks are not supported",
        low=span(low),
        high=span(high),
    )


def every(seconds: float) -> str:
    """Returns how often there is a bar in words: every 15 minutes."""
    for size, one, many in [
        (86400, N_("every day"), N_("every {count:g} days")),
        (3600, N_("every hour"), N_("every {count:g} hours")),
        (60, N_("every minute"), N_("every {count:g} minutes")),
    ]:
        if seconds >= size:
            count = seconds / size
            return _(one) if count == 1 else _(many, count=count)
    return _("every {count:g} seconds", count=seconds)


def span(seconds: float) -> str:
    """Returns a length of time in the largest unit that it reaches: 3.5 minutes, as `3.5 min`."""
    for size, unit in [(86400, N_("{count:.3g} d")), (3600, N_("{count:.3g} h"))]:
        if seconds >= size:
            return _(unit, count=seconds / size)
    if seconds >= 60:
        return _("{count:.3g} min", count=seconds / 60)
    return _("{count:.3g} s", count=seconds)


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


def _steps(timestamps: np.ndarray) -> np.ndarray:
    steps = np.diff(timestamps.astype("datetime64[ns]", copy=False).view(np.int64))
    return steps[steps > 0]


def _rounded(length: int) -> int:
    """Returns the whole hours or minutes that a length differs from by delays alone."""
    for unit in (60 * _MINUTE, _MINUTE):
        near = round(length / unit) * unit
        if near and abs(near - length) <= _DELAYS * length:
            return near
    return length


def _multiples(lengths: np.ndarray, counts: np.ndarray, length: int) -> float:
    """Returns the share of the steps that are near a multiple of a length."""
    times = np.round(lengths / length)
    near = (times >= 1) & (np.abs(lengths - times * length) <= _LATE * length)
    return float(counts[near].sum() / counts.sum())
