"""The newest day, week or month in two rows, as Yahoo gives it before it is over: made one."""

from typing import Any

import numpy as np

from core.i18n import _
from data.bars.formats.faults import NUMBERS

_DAY = 86_400_000_000_000  # nanoseconds
_FEWEST = 5  # steps that tell the length of a bar
_ALIKE = 0.02  # relative: two rows of one day have nearly the same prices
_PERIODS = {"D": (_DAY, _DAY), "W": (7 * _DAY, 7 * _DAY), "M": (28 * _DAY, 31 * _DAY)}


def merge_last_rows(bars: dict[str, Any]) -> list[str]:
    """Makes one of a symbol's newest two rows where both are of one day, week or month.

    The one has the older row's time and open, the newer one's close, the extremes of both, and the
    volume of a day that was told twice or of both parts of a week. Of own columns it has the newer
    value that is there.

    Args:
        bars: `symbol` (a Categorical) and the columns, (bars,) each, rows as they came; changed.

    Returns:
        a remark where some were merged.
    """
    times = bars["timestamp"].astype("datetime64[ns]", copy=False).view(np.int64)
    pairs = [_pair(times, rows) for rows in runs(bars["symbol"].codes)]
    pairs = [pair for pair in pairs if pair is not None and _is_one(bars, *pair)]
    if not pairs:
        return []
    older, newer, _kind = pairs[0]
    remark = _(
        "the newest bar of {symbol} comes in two rows, {older} and {newer}: merged",
        symbol=bars["symbol"][older],
        older=str(older + 1),
        newer=str(newer + 1),
    )
    extra = [name for name in bars if name not in (*NUMBERS, "timestamp", "symbol")]
    for name in (*NUMBERS, *extra):
        bars[name] = bars[name].copy()  # may be the memory of a file or of a frame
    for pair in pairs:
        _merge(bars, *pair)
        for name in extra:
            values, (older, newer, _kind) = bars[name], pair
            values[older] = values[older] if np.isnan(values[newer]) else values[newer]
    kept = np.ones(len(times), bool)
    kept[[newer for _older, newer, _kind in pairs]] = False
    for name in list(bars):
        bars[name] = bars[name][kept]
    return [remark]


def runs(codes: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each symbol, in the order of the file."""
    if not len(codes) or (codes == codes[0]).all():
        return [np.arange(len(codes))]
    if (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
    else:
        order = np.arange(len(codes))
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _pair(times: np.ndarray, rows: np.ndarray) -> tuple[int, int, str] | None:
    """Returns the older and the newer of the two newest rows, if they are of one period."""
    if len(rows) < _FEWEST + 2:
        return None
    ends = times[rows[[0, 1, 2, -3, -2, -1]]]
    falls = ends[0] > ends[2]
    older, newer = (rows[1], rows[0]) if falls else (rows[-2], rows[-1])
    step = times[newer] - times[older]
    if not 0 <= step < 31 * _DAY:
        return None
    usual = np.abs(np.median(np.diff(times[rows[-50:]] if not falls else times[rows[:50]])))
    for kind, (low, high) in _PERIODS.items():
        if low <= usual <= high and _same_period(times[[older, newer]], kind):
            return int(older), int(newer), kind
    return None


def _same_period(times: np.ndarray, kind: str) -> bool:
    days = times.view("datetime64[ns]").astype("datetime64[D]")
    if kind == "W":
        return len({int(day.astype(np.int64) + 3) // 7 for day in days}) == 1
    return len(set(days.astype(f"datetime64[{kind}]"))) == 1


def _is_one(bars: dict[str, Any], older: int, newer: int, kind: str) -> bool:
    """Says whether two rows of a day tell the same; parts of a week or a month need not."""
    steps = [bars[name][newer] / bars[name][older] - 1 for name in NUMBERS[:4]]
    return kind != "D" or max(map(abs, steps)) < _ALIKE


def _merge(bars: dict[str, Any], older: int, newer: int, kind: str) -> None:
    high, low, close, volume = (bars[name] for name in NUMBERS[1:])
    inside = high[newer] <= high[older] and low[newer] >= low[older]
    twice = inside and close[newer] == close[older]
    high[older] = max(high[older], high[newer])
    low[older] = min(low[older], low[newer])
    close[older] = close[newer]
    if kind == "D":
        volume[older] = volume[newer]
    else:
        both = volume[older], volume[newer]
        volume[older] = max(both) if twice else sum(both)
