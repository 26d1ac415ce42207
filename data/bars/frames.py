"""Bars of a frame in memory, as people hold them: times in a column or the index, in any order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import _
from data.bars.checks import checked
from data.bars.formats.nested import stacked, two_headers
from data.bars.formats.table import Table, of_frame
from data.bars.layouts import TIMES, plain, read_table
from data.times.timestamps import read_times

ONE_SYMBOL = "bars"  # the name of the only symbol of a frame that has no column for it


def read_frame(
    frame: Any, extra: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Returns the checked columns of a frame, rows sorted by symbol, then time.

    Args:
        frame: a pandas DataFrame, or whatever has a `to_pandas`, as those of Polars and PyArrow.
            Names of columns and forms of times are recognised as in files; the times may be the
            index, and so may the symbols. Times without a zone are UTC. Without symbols all bars
            are of one, which is called `ONE_SYMBOL`.
        extra: names of own columns that are wanted as well.

    Returns:
        columns as `data.bars.checks.checked` returns them, remarks, and names of columns that
        features could be made of.

    Raises:
        InputError: where it is no frame, or with a line for every fault.
    """
    raw, remarks, unused = read_table(_table(_of_pandas(frame)), _("the frame"), "", extra)
    if "symbol" not in raw:
        codes, kind = np.zeros(len(raw["timestamp"]), np.int8), pd.CategoricalDtype([ONE_SYMBOL])
        raw["symbol"] = pd.Series(pd.Categorical.from_codes(codes, dtype=kind))
    raw = {name: column.reset_index(drop=True) for name, column in raw.items()}
    order, source = _order(raw), _("the frame")
    if order is not None:
        raw = {name: column.iloc[order] for name, column in raw.items()}
        raw = {name: column.reset_index(drop=True) for name, column in raw.items()}
        source = _("the frame, sorted by symbol and time")
    columns = checked(raw, source, remarks, extra)
    return columns, remarks, unused


def _of_pandas(frame: Any) -> pd.DataFrame:
    if hasattr(frame, "collect") and hasattr(frame, "lazy"):  # a LazyFrame of Polars
        frame = frame.collect()
    if not isinstance(frame, pd.DataFrame) and hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if isinstance(frame, pd.DataFrame):
        return frame
    raise InputError(
        "bars must be a DataFrame, the path of a file or folder, or synthetic:NAME; got {kind}",
        kind=type(frame).__name__,
    )


def _table(frame: pd.DataFrame) -> Table:
    if isinstance(frame.columns, pd.RangeIndex):
        return of_frame(frame.reset_index(drop=True))
    names = [name if isinstance(name, tuple) else str(name) for name in frame.columns]
    parts = _from_index(frame.index, names)
    names = [*parts, *names]
    parts |= {len(parts) + i: frame.iloc[:, i] for i in range(frame.shape[1])}
    columns = [_without_periods(pd.Series(part).reset_index(drop=True)) for part in parts.values()]
    made = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    made = made.set_axis(pd.Index(names, tupleize_cols=False), axis=1)
    return of_frame(*stacked(names, made)) if two_headers(names) else of_frame(made)


def _from_index(index: pd.Index, names: Sequence) -> dict[Any, pd.Series]:
    """Returns the levels of an index that say something which no column does, by their names."""
    if isinstance(index, pd.RangeIndex) and index.name is None:
        return {}
    known = {plain(name[0] if isinstance(name, tuple) else name) for name in names}
    levels: dict[Any, pd.Series] = {}
    for number in range(index.nlevels):
        level = index.get_level_values(number)
        are_times = isinstance(level, (pd.DatetimeIndex, pd.PeriodIndex))
        if level.name is not None:
            name = str(level.name)
        elif are_times or index.nlevels == 1:
            name = "timestamp"
        else:
            name = "symbol"
        is_time = are_times or plain(name) in TIMES
        if plain(name) not in known and not (is_time and known & set(TIMES)):
            levels[name] = level.to_series()
    return levels


def _without_periods(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.PeriodDtype):
        return values.dt.to_timestamp()
    return values


def _order(raw: dict[str, pd.Series]) -> np.ndarray | None:
    """Returns the rows sorted by symbol, then time; None where they are."""
    times = read_times(raw["timestamp"]).to_numpy("datetime64[ns]").view(np.int64)
    codes = raw["symbol"].astype("category").cat.codes.to_numpy()
    order = np.lexsort((times, codes))
    return None if (order == np.arange(len(order))).all() else order
