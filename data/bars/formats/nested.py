"""Nested tables made flat: JSON answers, and headers of two rows (a field and a ticker)."""

import ast
import json
import re

import pandas as pd

from core.errors import InputError, printable
from core.i18n import _
from data.bars.formats.packed import Source

PRICES = {"open", "high", "low", "close"}
FIELDS = PRICES | {"adjclose", "adj close", "volume"}
LISTS = ("results", "bars", "data", "candles", "values", "prices")
SYMBOLS = ("symbol", "ticker")
TAKEN = ("timestamp", "symbol")  # columns of the stacked table
# What Python makes of a JSON text takes 8 to 14 times its length, if it is one of bars.
SHARE_OF_JSON = 0.25  # of the bytes that a text may have
SHORTEST_BAR = 12  # bytes of a bar in JSON, with its brackets
MOST_LETTERS = 500  # of a pair of names
# What a name is not but a first row of numbers may be: 1,230.50 or 8.16e-06.
_NUMERAL = re.compile(r"[-+\s\d.,'$€£%]*(?:\d[eE][-+]?\d+)?\s*|nan|inf", re.IGNORECASE)


def two_headers(names: list, *, named: bool = False) -> bool:
    """Says whether the names are pairs of a field and a ticker, in either order.

    Args:
        names: of the columns.
        named: whether the name of the index follows below, which rows of numbers do not have.
    """
    pairs = [_pair(name) for name in names]
    level = _level([pair for pair in pairs if pair is not None], named)
    return level is not None and _index(pairs, level) is not None


def stacked(names: list, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns one row for each time and ticker, and remarks."""
    pairs = [_pair(name) for name in names]
    level = _level([pair for pair in pairs if pair is not None], named=True) or 0
    index, tickers, parts = _index(pairs, level), _tickers(pairs, level), []
    if index is None:
        raise ValueError("no column has the times")
    for ticker in tickers:
        part = {"timestamp": frame.iloc[:, index], "symbol": ticker}
        for i, pair in enumerate(pairs):
            if pair is None or pair[1 - level] != ticker:
                continue
            if pair[level].strip().lower() not in TAKEN:
                part[pair[level]] = frame.iloc[:, i]
        fields = [name for name in part if name.strip().lower() in FIELDS]
        parts.append(pd.DataFrame(part).dropna(how="all", subset=fields))
    remarks = [_("header of two rows, field and ticker; empty rows of a ticker left out")]
    return pd.concat(parts, ignore_index=True), remarks


def _pair(name) -> tuple[str, str] | None:
    if isinstance(name, str) and name.startswith("('") and len(name) < MOST_LETTERS:
        try:
            name = ast.literal_eval(name)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    match name:
        case (str(first), str(second)) if isinstance(name, tuple):
            return first, second
    return None


def _is_field(pair, level: int) -> bool:
    return pair is not None and pair[level].strip().lower() in FIELDS


def _tickers(pairs: list, level: int) -> list[str]:
    return list(dict.fromkeys(pair[1 - level] for pair in pairs if _is_field(pair, level)))


def _index(pairs: list, level: int) -> int | None:
    """Returns which column has the times: the first of no ticker."""
    tickers = set(_tickers(pairs, level))
    of_none = (i for i, pair in enumerate(pairs) if pair is None or pair[1 - level] not in tickers)
    return next(of_none, None)


def _level(pairs: list[tuple[str, str]], named: bool) -> int | None:
    """Returns which of the two rows has the fields, None where neither is one of fields."""
    for level in (0, 1):
        fields = [pair for pair in pairs if _is_field(pair, level)]
        tickers = [pair[1 - level].strip() for pair in fields]
        if (
            {pair[level].strip().lower() for pair in fields} >= PRICES
            and all(ticker and ticker.lower() not in FIELDS for ticker in tickers)
            and (named or not all(_NUMERAL.fullmatch(ticker) for ticker in tickers))
            and not _mixed(tickers)
        ):
            return level
    return None


def _mixed(tickers: list[str]) -> bool:
    """Says whether some are numbers and some are not, as in a first row with a fault."""
    return len({_NUMERAL.fullmatch(ticker) is None for ticker in tickers}) > 1


def from_json(source: Source) -> pd.DataFrame:
    """Returns the frame of a JSON file: lists, records, columns, an answer that wraps them."""
    with source.open(share=SHARE_OF_JSON) as stream:
        content = stream.read()
    if content.count(b"[") + content.count(b"{") > len(content) / SHORTEST_BAR + 1000:
        raise InputError("{source} must hold bars; it is mostly brackets", source=source.name)
    try:
        value = json.loads(content)
    except ValueError:
        try:
            value = [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            told = printable(str(error), 200)
            raise InputError(
                "{source} cannot be read: it is not valid JSON ({error})",
                source=source.name,
                error=told,
            ) from error
    frame = _frame(value)
    if frame is None:
        raise InputError(
            "{source} must hold a list of bars, or one under {lists}",
            source=source.name,
            lists=", ".join(LISTS),
        )
    return frame


def _frame(value) -> pd.DataFrame | None:
    if isinstance(value, list):
        return _of_list(value)
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return _of_split(value)
    for key, inner in value.items():
        if key in LISTS and isinstance(inner, list | dict):
            return _named(_frame(inner), _symbol(value))
        if key.lower().startswith("time series") and isinstance(inner, dict):  # Alpha Vantage
            return _named(_frame(inner), _symbol(value))
    if not value:
        return None
    if all(
        isinstance(rows, list) and rows and isinstance(rows[0], dict) for rows in value.values()
    ):
        return _together({name: _of_list(rows) for name, rows in value.items()})
    if all(isinstance(answer, dict) and _wraps(answer) for answer in value.values()):
        return _together({name: _frame(answer) for name, answer in value.items()})
    if all(isinstance(column, dict) for column in value.values()):
        return _of_dicts(value)
    columns = {name: rows for name, rows in value.items() if isinstance(rows, list)}
    same = len({len(rows) for rows in columns.values()}) == 1
    return pd.DataFrame(columns) if len(columns) > 4 and same else None


def _of_list(rows: list) -> pd.DataFrame | None:
    if all(isinstance(row, dict) for row in rows):
        return pd.DataFrame(rows)
    if not all(isinstance(row, list) for row in rows):
        return None
    width = len(rows[0])
    return pd.DataFrame(rows) if all(len(row) == width for row in rows) else None


def _of_split(value: dict) -> pd.DataFrame | None:
    names, rows, index = value["columns"], value["data"], value.get("index")
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    frame = pd.DataFrame(rows, columns=[str(name) for name in names])
    if isinstance(index, list) and len(index) == len(rows):
        frame = frame.assign(index=index)
    return frame


def _of_dicts(value: dict) -> pd.DataFrame:
    frame = pd.DataFrame(value)
    names = {str(name).strip().lower() for name in frame.index}
    if {"close", "c", "4. close"} & names:
        frame = frame.T
    return frame.reset_index(names="index")


def _together(parts: dict[str, pd.DataFrame | None]) -> pd.DataFrame | None:
    """Returns the frames of several symbols under one another."""
    known = [_named(part, name) for name, part in parts.items()]
    if any(part is None for part in known):
        return None
    return pd.concat([part for part in known if part is not None], ignore_index=True)


def _wraps(answer: dict) -> bool:
    return any(key in LISTS and isinstance(inner, list) for key, inner in answer.items())


def _named(frame: pd.DataFrame | None, symbol: str | None) -> pd.DataFrame | None:
    if frame is None or symbol is None or set(SYMBOLS) & set(frame.columns):
        return frame
    return frame.assign(symbol=symbol)


def _symbol(answer: dict) -> str | None:
    """Returns the symbol that an answer tells beside its bars, or in its meta data."""
    metas = [value for key, value in answer.items() if key.lower().startswith("meta")]
    for part in [answer, *metas]:
        for key, text in part.items() if isinstance(part, dict) else ():
            if re.sub(r"^\d+\.\s*", "", key).lower() in SYMBOLS and isinstance(text, str):
                return text
    return None
