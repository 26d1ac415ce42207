"""Features of own columns of the bars, such as a funding rate; row t uses bars up to t only.

A value counts for at most so many bars after its own as a window may miss; where none is known,
before the first and after that, the feature is 0. Each is one of three transforms:

- `level`: the value itself.
- `change`: the difference to the bar before, in units of the root mean square of the last 96 such
  differences. A log change would be as free of the unit, but of positive columns alone, and
  whether a column stays positive is not known before its end.
- `zscore`: the value less the mean of the last 96, in units of their standard deviation.

The last 96 have the bar's own among them, so a jump after a flat stretch is seen at once. Both are
at most 10 in size, and 0 where fewer than 24 of the 96 are known or all are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from core.errors import InputError
from data.bars.formats.faults import COLUMNS
from data.features.indicators import FEATURE_NAMES, INTRADAY_NAMES

LEVEL, CHANGE, ZSCORE = TRANSFORMS = ("level", "change", "zscore")
_WINDOW, _FEWEST = 96, 24
_LARGEST = 10.0
_BLOCK = 8192  # rows that stay in the cache
_ROUNDING = 8 * np.finfo(np.float64).eps  # relative; less is no difference


@dataclass(frozen=True)
class ExtraColumn:
    """A feature of an own column of the bars.

    Attributes:
        column: its name in the bars.
        transform: one of `TRANSFORMS`.
    """

    column: str
    transform: str = LEVEL

    @property
    def feature_name(self) -> str:
        """The name among the features."""
        return f"{self.column}_{self.transform}"

    def __str__(self):
        return f"{self.column}:{self.transform}"


def parse_extra(text: str) -> tuple[ExtraColumn, ...]:
    """Returns the features that a text such as "funding_rate, open_interest:change" asks for.

    Args:
        text: columns and transforms (`level` where there is none), divided by commas.

    Raises:
        InputError: in one line, for an unknown transform, a feature twice, a column that all bars
            have, or a name that another feature has.

    Examples:
        >>> [str(column) for column in parse_extra("funding_rate, open_interest:change")]
        ['funding_rate:level', 'open_interest:change']
    """
    parsed: list[ExtraColumn] = []
    for part in filter(None, map(str.strip, text.split(","))):
        column, colon, transform = map(str.strip, part.rpartition(":"))
        new = ExtraColumn(column, transform.lower()) if colon else ExtraColumn(transform)
        _check(new, parsed, part)
        parsed.append(new)
    return tuple(parsed)


def columns_of(columns: Sequence[ExtraColumn]) -> tuple[str, ...]:
    """Returns the columns that the bars must have, each once."""
    return tuple(dict.fromkeys(feature.column for feature in columns))


def extra_past_bars(max_gap_bars: int) -> int:
    """Returns how many bars before a row reach it.

    The first of 96 differences needs the bar before it, whose value may be `max_gap_bars` older.
    """
    return _WINDOW + max_gap_bars


def fill_extra(
    bars: pd.DataFrame, columns: Sequence[ExtraColumn], out: np.ndarray, *, max_gap_bars: int
) -> None:
    """Writes the features of own columns of the last of ONE symbol's bars into an array.

    Args:
        bars: without a hole in time, the own columns as float64; NaN where a value is not known.
        columns: features to make.
        out: float32 (rows, columns), at most bars - `extra_past_bars(max_gap_bars)` rows.
        max_gap_bars: bars after its own for which a value counts.
    """
    num_rows = len(out)
    for position, column in enumerate(columns if num_rows else ()):
        num_bars = num_rows + extra_past_bars(max_gap_bars)
        values = bars[column.column].to_numpy(np.float64)[-num_bars:]
        values, known = _filled(values, max_gap_bars)
        made = _MADE[column.transform](values, known, num_rows)
        largest = np.finfo(np.float32).max
        out[:, position] = np.clip(made, -largest, largest)


def _check(column: ExtraColumn, before: Sequence[ExtraColumn], part: str) -> None:
    if not column.column:
        raise InputError(
            "EXTRA_COLUMNS must name a column before each colon, got {part!r}", part=part
        )
    if column.transform not in TRANSFORMS:
        raise InputError(
            "EXTRA_COLUMNS: a transform must be one of {transforms}, got {part!r}",
            transforms=", ".join(TRANSFORMS),
            part=part,
        )
    if column.column.lower() in (*COLUMNS, "symbol"):
        raise InputError(
            "EXTRA_COLUMNS must name columns beside those of all bars ({columns}, symbol), got "
            "{part!r}",
            columns=", ".join(COLUMNS),
            part=part,
        )
    if column in before:
        raise InputError("EXTRA_COLUMNS must name each feature once, got {part!r} twice", part=part)
    names = [*FEATURE_NAMES, *INTRADAY_NAMES, *(other.feature_name for other in before)]
    if column.feature_name in names:
        raise InputError(
            "EXTRA_COLUMNS: {part!r} would be called {name}, as another feature is; rename "
            "the column",
            part=part,
            name=column.feature_name,
        )


def _filled(values: np.ndarray, oldest: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the last known values, 0 where it is too old or there is none, and where known."""
    places = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isfinite(values), places, -1))
    known = (last >= 0) & (places - last <= oldest)
    return np.where(known, values[last], 0.0), known


def _level(values: np.ndarray, known: np.ndarray, num_rows: int) -> np.ndarray:
    return values[-num_rows:]


def _change(values: np.ndarray, known: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns steps by the root mean square of the last ones, (rows,)."""
    values = values / 4  # the step between the largest numbers is one, too
    both = known[1:] & known[:-1]
    steps = np.where(both, np.diff(values), 0.0)
    steps[np.abs(steps) <= _ROUNDING * np.abs(values[1:])] = 0.0
    largest = _rolling(np.abs(steps), both).max().to_numpy()[-num_rows:]

    def squares(rows: slice, unit: np.ndarray) -> np.ndarray:
        return reduce(np.add, ((lagged[rows] / unit) ** 2 for lagged in _lagged(steps, num_rows)))

    def result(rows: slice, unit: np.ndarray, num: np.ndarray) -> np.ndarray:
        return steps[-num_rows:][rows] / unit / np.sqrt(squares(rows, unit) / num)

    return _by_block(result, largest, _number(both, num_rows), both[-num_rows:])


def _zscore(values: np.ndarray, known: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns distances from the mean of the last values by their deviation, (rows,).

    Both come from the distances to the bar's own value, so that nothing is lost of values that are
    large against their deviation.
    """
    values = values / 4
    current, series = values[-num_rows:], np.where(known, values, np.nan)
    window = _rolling(series, known)
    top, bottom = (made.to_numpy()[-num_rows:] for made in (window.max(), window.min()))
    largest = np.fmax(top - current, current - bottom)
    largest[largest <= _ROUNDING * np.abs(current)] = 0.0

    def result(rows: slice, unit: np.ndarray, num: np.ndarray) -> np.ndarray:
        total, squares = np.zeros(len(unit)), np.zeros(len(unit))
        lagged = zip(_lagged(values, num_rows), _lagged(known, num_rows), strict=True)
        for before, counts in lagged:
            distance = (before[rows] - current[rows]) / unit * counts[rows]
            total += distance
            squares += distance**2
        mean = total / num
        return -mean / np.sqrt(squares / num - mean**2)

    return _by_block(result, largest, _number(known, num_rows), known[-num_rows:])


def _rolling(values: np.ndarray, known: np.ndarray):
    return pd.Series(np.where(known, values, np.nan)).rolling(_WINDOW, min_periods=_FEWEST)


def _lagged(values: np.ndarray, num_rows: int):
    """Yields the values of the bars of all rows, of the bars before them, and so on."""
    stop = len(values)
    for lag in range(_WINDOW):
        yield values[stop - num_rows - lag : stop - lag]


def _number(known: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns how many of the last values are known, (rows,)."""
    total = np.concatenate([[0], np.cumsum(known)])
    return total[len(total) - num_rows :] - total[len(total) - num_rows - _WINDOW : -_WINDOW]


def _by_block(result, unit: np.ndarray, num: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns what is made of some rows after the others, 0 where their unit is 0 or not known.

    Args:
        result: returns the values of some rows, of their unit and their number.
        unit: the largest size in a row's window, (rows,); NaN where too few are known.
        num: how many are known, (rows,).
        known: whether a row's own value is, (rows,) bool.
    """
    made = np.zeros(len(unit))
    usable = known & (unit > 0)
    for start in range(0, len(unit), _BLOCK):
        rows = slice(start, start + _BLOCK)
        units = np.where(usable[rows], unit[rows], 1.0)
        with np.errstate(all="ignore"):
            block = result(rows, units, np.maximum(num[rows], 1))
        made[rows] = np.where(usable[rows], np.clip(block, -_LARGEST, _LARGEST), 0.0)
    return made


_MADE = {LEVEL: _level, CHANGE: _change, ZSCORE: _zscore}
