"""Reads and checks the files of finished runs: somebody may have edited them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from core.errors import InputError, printable
from core.foreign import check_regular, reading
from data.market.labels import CLASS_NAMES
from evaluation.figures.plain import Mismatch, from_plain
from recipe.run import folder as files

T = TypeVar("T")
_ROUNDING = 1e-4  # of the sum of a window's probabilities
_CODES = {"label": (0, 1, 2), "call": (0, 1, 2), "side": (-1, 0, 1)}


def value_of(path: Path, names: Sequence[str | int], holds: Callable[[Any], bool]) -> Any:
    """Returns one value of a JSON file.

    Args:
        path: of the file, which holds an object.
        names: keys and indices that lead to the value.
        holds: the condition that it must meet.

    Raises:
        InputError: where there is no such value.
    """
    value: Any = files.read_json(path)
    for name in names:
        if isinstance(value, list):
            value = value[name] if isinstance(name, int) and name < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    if not holds(value):
        raise InputError(
            "{path} was not written by a run: {name} is {value}",
            path=path,
            name=".".join(map(str, names)),
            value=printable(repr(value)),
        )
    return value


def read(kind: type[T], path: Path) -> T:
    """Returns the fields of a dataclass from a JSON file.

        >>> read(BlockSummary, run / "metrics.json").verdict.block_seconds
        43200.0

    Raises:
        InputError: where the file holds something else.
    """
    try:
        return from_plain(kind, files.read_json(path))
    except Mismatch as mismatch:
        raise InputError(
            "{path} was not written by a run of this version: {name} is {value}",
            path=path,
            name=mismatch.name,
            value=printable(repr(mismatch.value)),
        ) from None


def predictions(path: Path) -> pd.DataFrame:
    """Returns the table of a run's windows: timestamp, symbol, label, call, side, p_sell, ...

    Raises:
        InputError: where it is no such table.
    """
    name = printable(str(path), 300)
    check_regular(path, name)
    with reading(name, KeyError, TypeError):
        table = pd.read_parquet(path)
        columns = [f"p_{name.lower()}" for name in CLASS_NAMES]
        faults = [column for column in columns if not _are_shares(table.get(column))]
        faults += [
            column
            for column, codes in _CODES.items()
            if not (column in table and set(table[column]) <= set(codes))
        ]
        if not faults and not np.allclose(table[columns].sum(axis=1), 1, atol=_ROUNDING):
            faults = columns
        if not _are_times(table.get("timestamp")):
            faults.append("timestamp")
        if not _are_texts(table.get("symbol")):
            faults.append("symbol")
    if faults or not len(table):
        raise InputError(
            "{path} must be the predictions of a finished run: {error}",
            path=path,
            error=", ".join(faults) or "0",
        )
    return table


def _are_shares(column: Any) -> bool:
    return column is not None and column.dtype.kind == "f" and bool(column.between(0, 1.001).all())


def _are_texts(column: Any) -> bool:
    return column is not None and all(isinstance(value, str) for value in column.unique())


def _are_times(column: Any) -> bool:
    return (
        column is not None
        and isinstance(column.dtype, pd.DatetimeTZDtype)
        and not column.isna().any()
    )
