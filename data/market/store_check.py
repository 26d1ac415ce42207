"""The index of a feature store, checked: somebody may have edited it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.contract import is_count, is_number, is_text
from core.i18n import _
from core.texts import printable

_MOST_ROWS = 1 << 40
_DTYPES = {"features": np.dtype(np.float32), "timestamps": np.dtype("datetime64[ns]")}


def check_index(index: Any) -> None:
    """Raises ValueError where an index is none that a store has.

    Args:
        index: its value of JSON, see `data.market.store_folder.read_index`.
    """
    if not isinstance(index, dict):
        raise _odd("index", index)
    rows, columns = index.get("rows"), index.get("columns")
    if not is_count(rows, 0, _MOST_ROWS):
        raise _odd("rows", rows)
    if not isinstance(columns, dict) or not all(map(_is_column, columns.items())):
        raise _odd("columns", columns)


def check_facts(index: Mapping[str, Any]) -> None:
    """Raises ValueError where what a checked index says of its rows is not what `make_rows` says.

    Args:
        index: see `check_index`.
    """
    facts, columns, rows = (index[name] for name in ("facts", "columns", "rows"))
    if not isinstance(facts, dict):
        raise _odd("facts", facts)
    for name in ("feature_names", "symbol_names"):
        found = facts.get(name)
        if not isinstance(found, list) or not found or not all(map(is_text, found)):
            raise _odd(name, found)
    width = columns.get("features", {}).get("shape")
    if width != [len(facts["feature_names"])]:
        raise _odd("features", width)
    if not isinstance(facts.get("intraday"), bool):
        raise _odd("intraday", facts.get("intraday"))
    if not is_number(facts.get("interval_seconds"), 1e-9):
        raise _odd("interval_seconds", facts.get("interval_seconds"))
    bounds, dropped = facts.get("bounds"), facts.get("dropped")
    if not isinstance(bounds, list) or not all(is_count(place, 0, rows) for place in bounds):
        raise _odd("bounds", bounds)
    if bounds[:1] != [0] or bounds[-1] != rows or bounds != sorted(set(bounds)):
        raise _odd("bounds", bounds)
    if not isinstance(dropped, dict) or not all(map(is_count, dropped.values())):
        raise _odd("dropped", dropped)


def _is_column(column: tuple[str, Any]) -> bool:
    name, kind = column
    if not name.isidentifier() or not isinstance(kind, dict):
        return False
    dtype, shape = kind.get("dtype"), kind.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > 1:
        return False
    if not all(is_count(side, 1, 1 << 20) for side in shape):
        return False
    found = np.dtype(dtype)
    return found == _DTYPES.get(name, found) and found.kind in "fiubM"


def _odd(name: str, value: Any) -> ValueError:
    return ValueError(_("{name} cannot be {value}", name=name, value=printable(repr(value))))
