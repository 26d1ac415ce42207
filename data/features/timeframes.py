"""Features of coarser bars: each ends with the row's own bar, so it has closed when the row has.

A coarse bar of k is the last k bars of the symbol, the one before it the k before those. They are
made anew at every row, so that no row waits for a coarse bar to close and none sees one that has
not; and all look back a fixed number of bars.
"""

from collections.abc import Iterator
from functools import reduce

import numpy as np
import pandas as pd
import talib

from data.features.indicators import rolling_sum

COLUMNS = (
    "log_return_1",
    "log_return_3",
    "log_return_12",
    "log_return_24",
    "realised_volatility",
    "bollinger_position",
    "williams_r",
    "relative_volume",
)
PAST_COARSE_BARS = 25  # that the longest of them looks at
_SPAN, _BOLLINGER, _WILLIAMS = 24, 20, 14  # coarse bars
_ROUNDING = 1e-9  # a spread of log prices below it is none


def timeframe_names(factor: int) -> tuple[str, ...]:
    """Returns the names of the columns of coarse bars that are `factor` bars long."""
    return tuple(f"x{factor}_{name}" for name in COLUMNS)


def fill_timeframe(bars: pd.DataFrame, factor: int, out: np.ndarray) -> None:
    """Writes the features of coarse bars at the last of ONE symbol's bars into an array.

    Args:
        bars: as `data.features.indicators.fill_indicators` takes them.
        factor: bars in a coarse bar, at least 2.
        out: float32 (rows, columns), at most bars - PAST_COARSE_BARS * factor rows.
    """
    past = len(out) + PAST_COARSE_BARS * factor
    high, low, close = (
        np.log(bars[name].to_numpy(np.float64)[-past:]) for name in ("high", "low", "close")
    )
    volume = bars["volume"].to_numpy(np.float64)[-past:]
    for position, column in enumerate(_columns(high, low, close, volume, factor)):
        out[:, position] = column[len(column) - len(out) :]


def _columns(high, low, close, volume, factor: int) -> Iterator[np.ndarray]:
    """Yields the columns in the order of the names, (bars,); prices are logarithms."""
    steps = close - _before(close, factor)
    yield steps
    for span in (3, 12, 24):
        yield close - _before(close, span * factor)
    yield np.sqrt(_coarse_mean(steps**2, factor, _SPAN))
    mean = _coarse_mean(close, factor, _BOLLINGER)
    variance = sum(
        (_before(close, lag * factor) - mean) ** 2 / _BOLLINGER for lag in range(_BOLLINGER)
    )
    flat = variance <= _ROUNDING**2
    # The bands lie two deviations off, so that the position is 0.5 at the upper one.
    yield np.where(flat, 0.0, (close - mean) / (4 * np.sqrt(np.where(flat, 1.0, variance))))
    top = talib.MAX(high, timeperiod=_WILLIAMS * factor)
    bottom = talib.MIN(low, timeperiod=_WILLIAMS * factor)
    flat = ~(top - bottom > _ROUNDING)
    yield np.where(flat, 0.0, (close - bottom) / np.where(flat, 1.0, top - bottom) - 0.5)
    traded = rolling_sum(volume, factor)
    usual = _coarse_mean(traded, factor, _SPAN)
    ratio = np.divide(traded, usual, out=np.ones(len(usual)), where=usual > 0)
    yield np.log1p(ratio)


def _coarse_mean(values: np.ndarray, factor: int, span: int) -> np.ndarray:
    """Returns the mean of the values of each row's last `span` coarse bars, (bars,)."""
    return reduce(np.add, (_before(values, lag * factor) for lag in range(span))) / span


def _before(values: np.ndarray, lag: int) -> np.ndarray:
    """Returns the values some bars before each, the first one where there is none."""
    return np.concatenate([np.full(min(lag, len(values)), values[0]), values[: len(values) - lag]])
