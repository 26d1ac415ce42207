"""Finds windows of two splits whose spans of time meet, on any symbols.

Written without the help of the split itself.

A window's span runs from its first bar to the last bar of its label. Two spans keep apart where the
later one begins after the earlier one and the embargo of its symbol's bars have ended. Whichever of
the two comes first, and however the splits were made: every pair is looked at.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data.market.market import Fold, Market
from data.market.split import SPLITS


@dataclass(frozen=True)
class Meeting:
    """Two splits whose spans meet, and the earliest window of the second one that does.

    Attributes:
        splits: names of the two splits.
        row: the first bar's of that window.
        reached: the time that a window of the first split reaches, with label and embargo.
    """

    splits: tuple[str, str]
    row: int
    reached: np.datetime64


def meetings(
    market: Market, fold: Fold, *, sequence_length: int, future_window: int, embargo_bars: int
) -> list[Meeting]:
    """Returns one meeting for every pair of splits that has any.

    Args:
        market: that the fold is of.
        fold: whose windows are looked at, all of them.
        sequence_length: bars of a window.
        future_window: bars of a label.
        embargo_bars: bars that must lie between two spans.
    """
    intervals = _intervals(market)
    pairs = []
    for one, other in combinations(SPLITS, 2):
        begins, reaches = [], []
        for name in (one, other):
            ends = getattr(fold, name).astype(np.int64)
            begins.append(market.timestamps[ends - sequence_length + 1].astype(np.int64))
            reaches.append(_bar_after(market, intervals, ends, future_window + embargo_bars))
        met = _first_met(begins, reaches)
        if met is not None:
            number, reached = met
            row = int(getattr(fold, other)[number]) - sequence_length + 1
            pairs.append(Meeting((one, other), row, np.datetime64(reached, "ns")))
    return pairs


def _intervals(market: Market) -> np.ndarray:
    """Returns the median spacing of each symbol's bars in nanoseconds, int64 (symbols,)."""
    times = market.timestamps.astype(np.int64)
    times_by_symbol = (times[market.symbols == code] for code in range(len(market.symbol_names)))
    return np.array(
        [np.median(np.diff(part)) if len(part) > 1 else 1 for part in times_by_symbol], np.int64
    )


def _bar_after(market: Market, intervals, rows: np.ndarray, num_bars: int) -> np.ndarray:
    """Returns the time of the bar so many bars after each row, int64 nanoseconds (rows,).

    Beyond the last bar of its symbol the bars go on at their usual spacing.
    """
    codes = market.symbols[rows]
    last = np.searchsorted(market.symbols, codes, side="right") - 1
    missing = np.maximum(rows + num_bars - last, 0)
    times = market.timestamps[rows + num_bars - missing].astype(np.int64)
    return times + missing * intervals[codes]


def _first_met(begins: list[np.ndarray], reaches: list[np.ndarray]) -> tuple[int, int] | None:
    """Returns the earliest span of the second group that meets one of the first, or None.

    Args:
        begins: first times of the two groups of spans, (spans,) each.
        reaches: their last times with the embargo.

    Returns:
        its number, and the last time of the span that it meets.
    """
    order = np.argsort(begins[0], kind="stable")
    first, reach = begins[0][order], np.maximum.accumulate(reaches[0][order])
    # Of the spans that begin before another one's end, the longest-reaching meets it or none does.
    place = np.searchsorted(first, reaches[1], side="right") - 1
    met = np.flatnonzero((place >= 0) & (reach[place] >= begins[1]))
    if not len(met):
        return None
    number = met[np.argmin(begins[1][met])]
    return int(number), int(reach[place[number]])
