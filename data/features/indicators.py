"""Makes scale-free indicators of bars; row t uses bars up to t only."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import talib

from data.times.grid import interval_of_steps

FEATURE_NAMES = (
    "log_return_1",
    "log_return_3",
    "log_return_6",
    "log_return_12",
    "log_return_24",
    "range",
    "body",
    "natr",
    "rsi",
    "macd",
    "macd_signal",
    "macd_histogram",
    "ema_distance_12",
    "ema_distance_26",
    "ema_distance_50",
    "kama_distance",
    "bollinger_position",
    "bollinger_width",
    "stochastic_rsi",
    "williams_r",
    "cmo",
    "roc",
    "mfi",
    "obv_change",
    "realised_volatility",
    "relative_volume",
)
INTRADAY_NAMES = ("time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos")
# The slowest average (EMA 50) starts from the mean of its first 50 bars; 100 bars later that start
# weighs (49/51)^100 = 2 %, so a series that begins elsewhere gives nearly the same features.
WARM_UP_BARS = 150
# After so many bars where a series began is forgotten to single precision. The slowest is KAMA
# while prices go nowhere: a bar then takes (2/31)^2 of the way, and (1 - (2/31)^2)^5000 = 1e-9.
FORGOTTEN_AFTER_BARS = 5000
# All other features forget sooner; slowest is CMO 28, and (27/28)^1000 = 2e-16.
OTHERS_FORGET_AFTER_BARS = 1000
_LONGEST_SUM = 48  # bars
_DAY = 86_400_000_000_000  # nanoseconds


def is_intraday(bars: pd.DataFrame) -> bool:
    """Says whether the bars are shorter than a day."""
    steps = np.diff(bars["timestamp"].to_numpy("datetime64[ns]").astype(np.int64))
    if "symbol" in bars:
        codes = bars["symbol"].astype("category").cat.codes.to_numpy()
        steps = steps[codes[1:] == codes[:-1]]
    steps = steps[steps > 0]
    return bool(len(steps) and (interval_of_steps(steps) or np.median(steps)) < _DAY)


def fill_indicators(bars: pd.DataFrame, out: np.ndarray, *, intraday: bool) -> None:
    """Writes the indicators of the last of ONE symbol's bars into an array.

    All values are ratios, so prices and volumes may come in any unit. Where a denominator is 0
    (flat prices, no volume) the value is the neutral one: no move, middle of the range, usual
    volume.

    Args:
        bars: `timestamp`, `open`, `high`, `low`, `close`, `volume`, sorted by time, without a hole.
        out: float32 (rows, indicators), at most bars - WARM_UP_BARS rows; the columns are
            `FEATURE_NAMES`, then if `intraday` `INTRADAY_NAMES`.
        intraday: adds time of day and day of week (UTC) as sine and cosine.
    """
    if len(bars) > WARM_UP_BARS:  # TA-Lib refuses series shorter than its own look-back
        for position, column in enumerate(_columns(bars, len(out), intraday)):
            out[:, position] = column[len(column) - len(out) :]


def rolling_sum(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the sums of the last `window` values, (bars,); shorter sums at the start.

    Added term by term: a running sum keeps rounding residues of values that have left it, so
    that "no volume in this window" would not read as exactly 0.
    """
    total = values.astype(np.float64, copy=True)
    for lag in range(1, min(window, len(values))):
        total[lag:] += values[:-lag]
    return total


def realised_volatility(close: np.ndarray, window: int) -> np.ndarray:
    """Returns the root mean square of the last `window` one-bar log returns, (bars,)."""
    returns = np.diff(np.log(close), prepend=np.log(close[:1]))
    return np.sqrt(rolling_sum(returns**2, window) / window)


def _columns(bars: pd.DataFrame, num_rows: int, intraday: bool) -> Iterator[np.ndarray]:
    """Yields the columns in the order of the names, so that few exist at once.

    They have at least `num_rows` rows: those of the last bars, without more past than each needs.
    """
    # TA-Lib takes sums below 1e-14 for zero: prices relative to the first close keep tokens that
    # cost a millionth of a dollar away from that.
    past = bars["close"].to_numpy(np.float64)[-(num_rows + FORGOTTEN_AFTER_BARS) :]
    unit = past[0]
    past = past / unit
    recent = slice(-(num_rows + OTHERS_FORGET_AFTER_BARS), None)
    high, low = (bars[name].to_numpy(np.float64)[recent] / unit for name in ("high", "low"))
    close = past[recent]
    yield from _moves(bars["open"].to_numpy(np.float64)[recent] / unit, high, low, close)
    yield from _trend(close, past)
    yield from _oscillators(high, low, close)
    yield from _volume_columns(
        high, low, close, bars["volume"].to_numpy(np.float64)[recent], num_rows
    )
    if intraday:
        yield from _clock(bars["timestamp"].to_numpy("datetime64[ns]")[-num_rows:])


def _moves(open_, high, low, close) -> Iterator[np.ndarray]:
    logs = np.log(close)
    for span in (1, 3, 6, 12, 24):
        yield np.concatenate([np.zeros(span), logs[span:] - logs[:-span]])
    yield (high - low) / close
    yield (close - open_) / close
    yield talib.NATR(high, low, close, timeperiod=14) / 100
    yield _guarded(talib.RSI(close, timeperiod=14) / 100 - 0.5, _flat(close, 15), 0.0)


def _trend(close, past) -> Iterator[np.ndarray]:
    lines = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    yield from (line / close for line in lines)
    del lines
    for span in (12, 26, 50):
        yield close / talib.EMA(close, timeperiod=span) - 1
    yield close / talib.KAMA(past, timeperiod=10)[-len(close) :] - 1
    upper, middle, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    width = np.subtract(upper, lower, out=upper)
    flat = _flat(close, 20) | ~(width > 0)
    position = _guarded((close - lower) / np.where(flat, 1.0, width) - 0.5, flat, 0.0)
    # 20 values lie within sqrt(19) deviations of their mean; beyond that is rounding.
    yield np.clip(position, -1.09, 1.09)
    yield _guarded(width / middle, flat, 0.0)


def _oscillators(high, low, close) -> Iterator[np.ndarray]:
    rsi = _guarded(talib.RSI(close, timeperiod=14), _flat(close, 15), 50.0)
    top, bottom = talib.MAX(rsi, timeperiod=14), talib.MIN(rsi, timeperiod=14)
    # A spread of RSI points below 1e-9 is rounding (TA-Lib's STOCHRSI would divide by it).
    flat = ~(top - bottom > 1e-9)
    yield _guarded((rsi - bottom) / np.where(flat, 1.0, top - bottom) - 0.5, flat, 0.0)
    flat = talib.MAX(high, timeperiod=14) <= talib.MIN(low, timeperiod=14)
    yield _guarded(talib.WILLR(high, low, close, timeperiod=14) / 100 + 0.5, flat, 0.0)
    # TA-Lib's CMO is 2 RSI - 100 of the same span: another span, to say something new.
    yield _guarded(talib.CMO(close, timeperiod=28) / 100, _flat(close, 29), 0.0)
    yield talib.ROC(close, timeperiod=48) / 100


def _volume_columns(high, low, close, volume, num_rows) -> Iterator[np.ndarray]:
    # TA-Lib's MFI reads money flows below 1 as none; the factor is far above any unit of volume.
    mfi = talib.MFI(high, low, close, volume * 1e9, timeperiod=14)[-(num_rows + _LONGEST_SUM) :]
    # What follows are sums of a fixed number of bars: no more past than that is needed.
    high, low, close, volume = (
        values[-(num_rows + _LONGEST_SUM) :] for values in (high, low, close, volume)
    )
    still = rolling_sum(_money_flow(high, low, close, volume), 14) <= 0
    yield _guarded(np.clip(mfi / 100, 0, 1) - 0.5, still, 0.0)
    del mfi
    signed = np.sign(np.diff(close, prepend=close[:1])) * volume  # one bar's step of the OBV
    total = rolling_sum(volume, 14)
    yield _ratio(rolling_sum(signed, 14), total, 0.0)
    yield realised_volatility(close, 24)
    yield np.log1p(_ratio(volume, rolling_sum(volume, _LONGEST_SUM) / _LONGEST_SUM, 1.0))


def _money_flow(high, low, close, volume) -> np.ndarray:
    typical = (high + low + close) / 3
    return np.where(np.diff(typical, prepend=typical[:1]) != 0, typical * volume, 0.0)


def _clock(times: np.ndarray) -> Iterator[np.ndarray]:
    since_epoch = times.astype(np.int64)
    day = 2 * np.pi * (since_epoch % _DAY) / _DAY
    # 1970-01-01 was a Thursday: day 3 of a week that starts on Monday.
    week = 2 * np.pi * ((since_epoch // _DAY + 3) % 7) / 7
    for angle in (day, week):
        for function in _CIRCLE:
            yield function(angle)


_CIRCLE: tuple[Callable[[np.ndarray], np.ndarray], ...] = (np.sin, np.cos)


def _flat(prices: np.ndarray, window: int) -> np.ndarray:
    """Says where the last `window` prices are all the same, (bars,) bool."""
    return talib.MAX(prices, timeperiod=window) <= talib.MIN(prices, timeperiod=window)


def _guarded(values: np.ndarray, undefined: np.ndarray, neutral: float) -> np.ndarray:
    return np.where(undefined, neutral, values)


def _ratio(top: np.ndarray, bottom: np.ndarray, neutral: float) -> np.ndarray:
    """Returns top / bottom, and the neutral value where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(len(top), neutral), where=bottom > 0)
