"""Nested tables made flat: JSON answers, and headers of two rows (a field and a ticker)."""

import ast
import json

import pandas as pd

from core.errors import InputError
from core.i18n import _

FIELDS = {"open", "high", "low", "close", "adjclose", "adj close", "volume"}
LISTS = ("results", "bars", "data", "candles", "values", "prices")
SYMBOLS = ("symbol", "ticker")


def two_headers(names: list) -> bool:
    """Says whether the names are pairs of a field and a ticker, in either order."""
    pairs = [pair for pair in map(_pair, names) if pair is not None]
    pairs = [pair for pair in pairs if {"price", "ticker"} != {p.lower() for p in pair}]
    return len(pairs) >= 5 and any(_fields(pairs[-5:], level) for level in (0, 1))


def stacked(names: list, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns one row for each time and ticker, and a remark."""
    pairs = [_pair(name) for name in names]
    last = [pair for pair in pairs if pair is not None]
    level = 0 if _fields(last[-5:], 0) else 1
    index = next(i for i, pair in enumerate(pairs) if not _is_field(pair, level))
    parts = []
    for ticker in dict.fromkeys(pair[1 - level] for pair in pairs if _is_field(pair, level)):
        part = {"Date": frame.iloc[:, index], "symbol": ticker}
        for i, pair in enumerate(pairs):
            if _is_field(pair, level) and pair[1 - level] == ticker:
                part[pair[level]] = frame.iloc[:, i]
        fields = [name for name in part if name not in ("Date", "symbol")]
        parts.append(pd.DataFrame(part).dropna(how="all", subset=fields))
    whole = pd.concat(parts, ignore_index=True)
    return whole, [_("header of two rows, field and ticker; empty rows of a ticker left out")]


def _pair(name) -> tuple[str, str] | None:
    if isinstance(name, str) and name.startswith("('"):
        name = ast.literal_eval(name)
    return name if isinstance(name, tuple) and len(name) == 2 else None


def _is_field(pair, level: int) -> bool:
    return pair is not None and pair[level].strip().lower() in FIELDS


def _fields(pairs: list[tuple[str, str]], level: int) -> bool:
    other = all(pair[1 - level].strip().lower() not in FIELDS for pair in pairs)
    named = all(pair[1 - level].strip() and not _number(pair[1 - level]) for pair in pairs)
    return other and named and all(_is_field(pair, level) for pair in pairs)


def _number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()


def from_json(content: bytes, source: str) -> pd.DataFrame:
    """Returns the frame of a JSON file: lists, records, columns, an answer that wraps them."""
    try:
        value = json.loads(content)
    except ValueError:
        try:
            value = [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            raise InputError(
                _("{source} cannot be read: it is no JSON ({error})", source=source, error=error)
            ) from error
    frame = _frame(value)
    if frame is None:
        raise InputError(
            _(
                "{source} must hold a list of bars, or one under {lists}",
                source=source,
                lists=", ".join(LISTS),
            )
        )
    return frame


def _frame(value) -> pd.DataFrame | None:
    if isinstance(value, list):
        if value and all(isinstance(row, list | dict) for row in value):
            return pd.DataFrame(value)
        return pd.DataFrame() if not value else None
    if not isinstance(value, dict):
        return None
    if {"columns", "data"} <= value.keys():
        frame = pd.DataFrame(value["data"], columns=value["columns"])
        return frame.assign(index=value["index"]) if "index" in value else frame
    for key in LISTS:
        if isinstance(value.get(key), list):
            frame = _frame(value[key])
            given = next((value[s] for s in SYMBOLS if isinstance(value.get(s), str)), None)
            if frame is not None and given and not {"symbol", "ticker"} & set(frame.columns):
                frame["symbol"] = given
            return frame
        if isinstance(value.get(key), dict):
            return _frame(value[key])
    if value and all(isinstance(rows, list) for rows in value.values()):
        if all(rows and isinstance(rows[0], dict) for rows in value.values()):
            parts = [pd.DataFrame(rows).assign(symbol=name) for name, rows in value.items()]
            return pd.concat(parts, ignore_index=True)
        return pd.DataFrame(value) if len({len(rows) for rows in value.values()}) == 1 else None
    if value and all(isinstance(column, dict) for column in value.values()):
        frame = pd.DataFrame(value)
        if {"close", "c"} & {str(name).strip().lower() for name in frame.index}:
            frame = frame.T
        return frame.reset_index(names="index")
    return None
