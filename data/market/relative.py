"""Labels relative to the market: a symbol's move less the market's over the same bars.

The market's move from one moment to another is the trimmed mean of the log moves of all symbols
that have a bar at both, each weighing the same.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.i18n import _
from data.features.indicators import rolling_sum
from data.features.settings import LEAST_SYMBOLS, FeatureSettings
from data.features.universe import Universe, trimmed
from data.market.labels import VOLATILITY_BARS, in_units
from data.times.grid import closes_of, grid_ns

MARKET = "market"
REFERENCES = ("none", MARKET)
# A symbol takes part from so many bars on: then the length of its bars is sure.
SETTLED_BARS = 20
_COMMON = 0.05  # share of all moments from which a step between two of them is worth a table


def relative_in_words() -> str:
    """Returns what SELL and BUY say where labels are relative to the market."""
    return _(
        "SELL and BUY are relative to the market: they say which symbols will do worse or better "
        "than the mean of all, not where prices go."
    )


class MarketMoves:
    """The market's moves between moments.

    Args:
        closes: when the bars of each symbol close, nanoseconds since 1970, rising, (bars,).
        logs: logarithms of the closing prices of each symbol, (bars,).
        lengths: of a bar of each symbol, nanoseconds.
        least: symbols without which there is no market.
    """

    def __init__(
        self,
        closes: Sequence[np.ndarray],
        logs: Sequence[np.ndarray],
        lengths: Sequence[int],
        least: int,
    ):
        self._universe = Universe(closes, lengths, settled=SETTLED_BARS)
        self._logs = np.concatenate(logs)
        self._least = least
        self._tables: dict[int, np.ndarray] = {}

    def between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Returns the log move of the market between pairs of moments.

        Args:
            first: moments at which bars of any symbol close, nanoseconds since 1970, (pairs,).
            last: later ones.

        Returns:
            float64 (pairs,); NaN where too few symbols have a bar at both.
        """
        times = self._universe.times
        start, stop = np.searchsorted(times, first), np.searchsorted(times, last)
        steps = stop - start
        moves, left = np.empty(len(first)), np.ones(len(first), bool)
        lengths, counts = np.unique(steps, return_counts=True)
        for step in lengths[counts >= _COMMON * len(times)].tolist():
            places = np.flatnonzero(steps == step)
            moves[places], left[places] = self._table(step)[start[places]], False
        first, last = first[left], last[left]
        others = np.empty(len(first))
        for part in self._universe.chunks(len(first)):
            before, after = self._universe.at(first[part]), self._universe.at(last[part])
            others[part] = self._moves(before, after)
        moves[left] = others
        return moves

    def _table(self, step: int) -> np.ndarray:
        """Returns the move from each moment to that so many moments later."""
        if step not in self._tables:
            count = len(self._universe.times) - step
            table = np.empty(count)
            for part in self._universe.chunks(count):
                later = slice(part.start + step, min(part.stop, count) + step)
                before = self._universe.at_places(slice(part.start, later.stop - step))
                table[part] = self._moves(before, self._universe.at_places(later))
            self._tables[step] = table
        return self._tables[step]

    def _moves(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Returns the market's moves between the bars of all symbols, (moments,)."""
        moves = self._logs[after] - self._logs[before]
        moves[(before < 0) | (after < 0)] = np.nan
        return trimmed(moves, self._least)[0]


def relative_scores(
    logs: np.ndarray, closes: np.ndarray, market: MarketMoves, method: str, horizon: int
) -> np.ndarray:
    """Returns the scores of one symbol's bars relative to the market: BUY above k, SELL below -k.

    Args:
        logs: of the closes, without a hole, (bars,).
        closes: when the bars close, nanoseconds since 1970, (bars,).
        market: its moves.
        method: "fixed": by which factor the symbol beats the market, less 1. "volatility": the log
            move less the market's in units of the past volatility of that difference, times the
            root of the horizon.
        horizon: bars.

    Returns:
        float32 (bars,); NaN in the last `horizon` rows and where there is no market.
    """
    moves = np.full(len(logs), np.nan)
    count = max(len(logs) - horizon, 0)
    moves[:count] = logs[horizon:] - logs[:count] - market.between(closes[:count], closes[horizon:])
    if method == "fixed":
        return np.expm1(moves).astype(np.float32)
    return in_units(moves, relative_scale(logs, closes, market, horizon))


def relative_scale(
    logs: np.ndarray, closes: np.ndarray, market: MarketMoves, horizon: int
) -> np.ndarray:
    """Returns the usual size of one symbol's log move less the market's over the horizon.

    Args:
        logs: of the closes, without a hole, (bars,).
        closes: when the bars close, nanoseconds since 1970, (bars,).
        market: its moves.
        horizon: bars.

    Returns:
        float64 (bars,), of the last `VOLATILITY_BARS` one-bar moves up to each row; NaN where half
        of them have no market.
    """
    steps = np.zeros(len(logs))
    steps[1:] = np.diff(logs) - market.between(closes[:-1], closes[1:])
    known = ~np.isnan(steps)
    number = np.minimum(np.arange(1, len(logs) + 1), VOLATILITY_BARS)
    if not known.all():
        number = rolling_sum(known, VOLATILITY_BARS)
    squares = rolling_sum(np.where(known, steps, 0.0) ** 2, VOLATILITY_BARS)
    usual = np.sqrt(np.divide(squares, number, out=np.full(len(logs), np.nan), where=number > 0))
    usual[number < VOLATILITY_BARS / 2] = np.nan
    return usual * np.sqrt(horizon)


def market_scores(
    symbols: Sequence[pd.DataFrame], method: str, horizon: int, features: FeatureSettings
) -> list[np.ndarray]:
    """Returns the relative scores of the bars of many symbols, each without a hole.

    Args:
        symbols: the bars of each: `timestamp` and `close`.
        method: see `relative_scores`.
        horizon: bars.
        features: of which the least number of symbols is taken.

    Returns:
        float32 (bars,) for each symbol.
    """
    market, parts = _all_moves(symbols, features.market_min_symbols)
    return [relative_scores(*part, market, method, horizon) for part in parts]


def market_scales(
    symbols: Sequence[pd.DataFrame], horizon: int, least: int = LEAST_SYMBOLS
) -> list[np.ndarray]:
    """Returns `relative_scale` of the bars of many symbols, each without a hole.

    Args:
        symbols: the bars of each: `timestamp` and `close`.
        horizon: bars.
        least: symbols without which there is no market.
    """
    market, parts = _all_moves(symbols, least)
    return [relative_scale(*part, market, horizon) for part in parts]


def _all_moves(symbols: Sequence[pd.DataFrame], least: int):
    """Returns the market's moves, and logarithms and times of the closes of each symbol."""
    times = [own["timestamp"].to_numpy("datetime64[ns]") for own in symbols]
    lengths = [grid_ns(own) for own in times]
    closes = [closes_of(own, length) for own, length in zip(times, lengths, strict=True)]
    logs = [np.log(own["close"].to_numpy(np.float64)) for own in symbols]
    return MarketMoves(closes, logs, lengths, least), [*zip(logs, closes, strict=True)]
