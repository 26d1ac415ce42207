"""A table of a file: what its columns are called, and a way to read some of them."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pandas as pd

from core.errors import InputError, printable


@dataclass
class Table:
    """The columns of a file.

    Args:
        names: of all columns, as the file writes them; None where it has no header.
        width: number of columns.
        read: given positions, and which of them are texts and numbers (a text does not say),
            returns these columns by position.
        first: the first row's values as texts, where they are known before reading.
        remarks: what had to be done to read it.
        semicolons: whether they stand between the columns, as where commas mark decimals.
    """

    names: list[str] | None
    width: int
    read: Callable[[Sequence[int], Sequence[int], Sequence[int]], dict[int, pd.Series]]
    first: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    semicolons: bool = False


def of_frame(frame: pd.DataFrame, remarks: Sequence[str] = ()) -> Table:
    """Returns the table of a frame; columns named by numbers mean that there is no header."""
    names = None if isinstance(frame.columns, pd.RangeIndex) else [str(n) for n in frame.columns]

    def read(positions, *_):
        return {position: frame.iloc[:, position] for position in positions}

    first = [_text(value) for value in frame.iloc[0]] if len(frame) else []
    return Table(names, frame.shape[1], read, first, list(remarks))


def plain_column(values: pd.Series, name: str, source: str) -> pd.Series:
    """Returns a column as numbers, times or texts, whatever the file's library made of it.

    Args:
        values: of the column, (rows,).
        name: as the file writes it.
        source: the file's name.

    Raises:
        InputError: where it holds lists, structures or spans of time.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        inner = values.cat.categories.dtype
        return values if pd.api.types.is_string_dtype(inner) else _plain(values, name, source)
    if pd.api.types.is_timedelta64_dtype(values.dtype) or values.dtype.kind in "cV":
        raise _unusable(name, source, str(values.dtype))
    return _plain(values, name, source) if values.dtype == object else values


def _plain(values: pd.Series, name: str, source: str) -> pd.Series:
    values = values.astype(object)
    kinds = set(map(type, values))
    kinds.discard(type(None))
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if not issubclass(kind, (str, bytes, bool, int, float, Decimal, datetime.date, np.generic)):
            raise _unusable(name, source, kind.__name__)
    if all(issubclass(kind, (bool, int, float, Decimal, np.number)) for kind in kinds):
        return values.map(_number).astype(np.float64) if kinds else values
    if all(issubclass(kind, datetime.date) for kind in kinds):
        return pd.to_datetime(values, utc=True, errors="coerce")
    texts = [None if _is_missing(value) else _text(value) for value in values]
    return pd.Series(texts, index=values.index, dtype=object)


def _number(value) -> float:
    try:
        return np.nan if value is None else float(value)
    except (OverflowError, ValueError):  # of integers with hundreds of digits, signalling NaN
        return np.inf


def _is_missing(value) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def _text(value) -> str:
    if _is_missing(value):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int) and abs(value) > 10**300:  # Python refuses to write out longer ones
        return "inf"
    return str(value)


def _unusable(name: str, source: str, kind: str) -> InputError:
    return InputError(
        "{source}: the column {name} must hold numbers, times or texts, it holds {kind}",
        source=source,
        name=printable(name),
        kind=printable(kind),
    )
