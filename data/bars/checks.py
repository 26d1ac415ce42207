"""The checks of bars, and the one sorted frame that they give."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InputError, printable
from core.i18n import N_, _, ngettext
from data.bars.formats.faults import COLUMNS, NUMBERS, PRICES, Faults, check_columns
from data.bars.formats.own_columns import places_of
from data.bars.formats.table import plain_column
from data.bars.last_rows import merge_last_rows, runs
from data.times.timestamps import complaint, read_times

MOST_LETTERS = 200  # of a symbol
# Whatever a symbol's prices do between these, every feature has room in 32 bits.
LEAST_PRICE, LARGEST_PRICE, LARGEST_VOLUME = 1e-18, 1e18, 1e100
# Relative: what prices of 32 bits, or ones scaled by a rounded factor, miss each other by.
_ROUNDING = 1e-6


def check_bars(
    frame: pd.DataFrame, source: str = "bars", *, extra: Sequence[str] = ()
) -> pd.DataFrame:
    """Returns the checked and sorted bars of a frame in memory; see `data.bars.read.read_bars`."""
    names = list(frame.columns)
    columns = {name: [name] * names.count(name) for name in (*COLUMNS, "symbol")}
    check_columns(columns, names, source)
    places = {name: names.index(name) for name in columns}
    places |= places_of(names, extra, source, places)
    selected = frame.iloc[:, list(places.values())].reset_index(drop=True).copy()
    selected.columns = list(places)
    columns = {name: plain_column(selected[name], name, source) for name in places}
    bars = checked(columns, source, extra=extra)
    bars["timestamp"] = pd.Series(bars["timestamp"]).dt.tz_localize("UTC")
    return sorted_bars(pd.DataFrame(bars, copy=False))


def digest(frame: pd.DataFrame) -> str:
    """Returns the SHA-256 of checked bars, own columns too, as a hexadecimal text."""
    sha = hashlib.sha256()
    sha.update("\n".join(frame["symbol"].cat.categories).encode())
    sha.update(frame["symbol"].cat.codes.to_numpy(np.int32).tobytes())
    sha.update(frame["timestamp"].to_numpy("datetime64[ns]").tobytes())
    for name in NUMBERS:
        sha.update(np.ascontiguousarray(frame[name].to_numpy(np.float64)).tobytes())
    for name in sorted(set(frame.columns) - {*COLUMNS, "symbol"}):
        values = frame[name].to_numpy(np.float64)
        sha.update(f"\n{name}\n".encode())
        sha.update(np.where(np.isnan(values), np.nan, values).tobytes())  # there is one NaN
    return sha.hexdigest()


def checked(
    columns: dict[str, pd.Series],
    source: str,
    remarks: list[str] | None = None,
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the bars in canonical types, rows as they came; raises with a line per fault.

    Args:
        columns: `COLUMNS`, `symbol` and own ones as `plain_column` returns them, (bars,) each; they
            are taken out, so that a column is in memory once.
        source: what the faults name.
        remarks: what was put right is added to them.
        extra: names of the own columns, in which values may be missing.

    Returns:
        `COLUMNS` and own ones as arrays (bars,), the times datetime64[ns], and `symbol` as a
        Categorical: no frame, whose making takes longer than the checks of a small file.
    """
    if not len(columns["symbol"]):
        raise InputError("{source} must hold bars; it has no rows", source=source)
    symbols, lines = _symbols(columns.pop("symbol"), source)
    faults = Faults(source, symbols)
    faults.lines += lines
    bars: dict[str, Any] = {"timestamp": _timestamps(columns.pop("timestamp"), faults)}
    for name in NUMBERS:
        bars[name] = _numbers(columns.pop(name), name, faults)
    for name in dict.fromkeys(extra):
        bars[name] = _numbers(columns.pop(name), printable(name), faults, may_be_missing=True)
    price_remarks = [] if faults.lines else _check_prices(bars, faults)
    if not faults.lines:
        bars["symbol"] = symbols
        more = merge_last_rows(bars)
        _check_order(bars, Faults(source, bars["symbol"]), faults.lines)
        if remarks is not None:
            remarks += [*price_remarks, *more]
    if faults.lines:
        raise InputError(faults.lines)
    return bars


def _symbols(symbols: pd.Series, source: str) -> tuple[Any, list[str]]:
    """Returns the symbols without blanks around them, and a fault where one is none."""
    raw = symbols.astype("category").array
    texts = [str(name).strip() for name in raw.categories]
    codes = raw.codes
    used = np.bincount(codes.astype(np.int64) + 1, minlength=len(texts) + 1)[1:] > 0
    faulty = np.array([*map(_is_no_symbol, texts), True])  # the last: missing
    lines = []
    if faulty[:-1].any() or (codes < 0).any():
        bad = faulty[codes]
        row = int(bad.argmax())
        text = texts[codes[row]] if codes[row] >= 0 else ""
        lines = [_no_symbol(source, row, text)] if bad.any() else []
    elif used.all() and len(set(texts)) == len(texts):
        return raw.rename_categories(dict(zip(raw.categories, texts, strict=True))), []
    places: dict[str, int] = {}  # printable, as the faults name them
    for place in np.flatnonzero(used):
        places.setdefault(printable(texts[place]), len(places))
    new = np.array([places.get(printable(text), -1) for text in texts] + [-1])
    return pd.Categorical.from_codes(new[codes], dtype=pd.CategoricalDtype(list(places))), lines


def _no_symbol(source: str, row: int, text: str) -> str:
    if not text:
        return _("{source}, row {row}: the symbol is missing", source=source, row=str(row + 1))
    return _(
        "{source}, row {row}: a symbol must have at most {most} letters and no control "
        "characters, got {value!r}",
        source=source,
        row=str(row + 1),
        most=MOST_LETTERS,
        value=printable(text),
    )


def _is_no_symbol(text: str) -> bool:
    return (
        not text
        or len(text) > MOST_LETTERS
        or not text.replace("\N{NO-BREAK SPACE}", " ").isprintable()
    )


def _timestamps(raw: pd.Series, faults: Faults) -> np.ndarray:
    times = _writable(read_times(raw).to_numpy("datetime64[ns]"))
    bad = np.isnat(times)
    if bad.any():
        faults.add(bad, complaint(raw.iloc[int(bad.argmax())]), raw)
    return times


def _numbers(
    raw: pd.Series, name: str, faults: Faults, *, may_be_missing: bool = False
) -> np.ndarray:
    if raw.dtype.kind == "M":  # times are no numbers
        raw = raw.astype(str).where(raw.notna())
    numbers = raw
    if raw.dtype != np.float64:
        numbers = pd.to_numeric(raw, errors="coerce")
    numbers = numbers.to_numpy(np.float64, na_value=np.nan)
    if np.isfinite(numbers).all():
        return _writable(numbers)
    absent = raw.isna().to_numpy()
    if not pd.api.types.is_numeric_dtype(raw):
        absent = absent | (raw.astype(str).str.strip() == "").to_numpy()
    if not may_be_missing:
        faults.add(absent, _("{name} is missing", name=name))
    text = np.isnan(numbers) & ~absent
    dollars = text.any() and "$" in str(raw.iloc[int(text.argmax())])
    what = _("{name} must be a number", name=name)
    if dollars:
        what = _("{name} must be a number without the sign of a currency", name=name)
    faults.add(text, what, raw)
    faults.add(np.isinf(numbers), _("{name} must be finite", name=name), raw)
    return _writable(numbers)


def _writable(values: np.ndarray) -> np.ndarray:
    """Returns values that nobody else holds, as what pandas gave out only to be read."""
    try:
        values.flags.writeable = True
    except ValueError:  # the memory of a file
        return values.copy()
    return values


def _check_prices(bars: dict[str, Any], faults: Faults) -> list[str]:
    """Returns a remark where highs and lows missed other prices by rounding and were put right."""
    if not _in_range(bars):
        _add_beyond(bars, faults)
    open_, high, low, close = (bars[name] for name in PRICES)
    if (high * (1 + _ROUNDING) < low).any():
        faults.add(high * (1 + _ROUNDING) < low, _("high must not be below low"), high)
    if faults.lines:
        return []
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    slack = 1e-9 * high
    missed = (top > high + slack) | (bottom < low - slack) | (low > high)
    if not missed.any():
        return []
    bad = (top > high * (1 + _ROUNDING)) | (bottom < low * (1 - _ROUNDING))
    faults.add(bad, _("open and close must lie between low and high"))
    if faults.lines:
        return []
    bars["high"] = np.where(missed, np.maximum(top, high), high)
    bars["low"] = np.where(missed, np.minimum(bottom, low), low)
    told = ngettext(
        "high or low was off by rounding in {n} row (first: row {row}) and was corrected",
        "high or low was off by rounding in {n} rows (first: row {row}) and was corrected",
        int(missed.sum()),
        row=str(int(missed.argmax()) + 1),
    )
    return [told]


def _in_range(bars: dict[str, Any]) -> bool:
    """Says whether all prices and volumes may be, which is sooner told than which may not."""
    volume = bars["volume"]
    return bool((volume >= 0).all() and (volume <= LARGEST_VOLUME).all()) and all(
        (bars[name] >= LEAST_PRICE).all() and (bars[name] <= LARGEST_PRICE).all() for name in PRICES
    )


def _add_beyond(bars: dict[str, Any], faults: Faults) -> None:
    """Adds a fault for each kind of price or volume that cannot be."""
    for name in PRICES:
        faults.add(bars[name] <= 0, _("{name} must be above 0", name=name), bars[name])
        beyond = (bars[name] > LARGEST_PRICE) | (bars[name] > 0) & (bars[name] < LEAST_PRICE)
        faults.add(beyond, _beyond(name, LEAST_PRICE, LARGEST_PRICE), bars[name])
    volume = bars["volume"]
    faults.add(volume < 0, _("volume must not be negative"), volume)
    faults.add(volume > LARGEST_VOLUME, _beyond("volume", 0, LARGEST_VOLUME), volume)


def _beyond(name: str, least: float, largest: float) -> str:
    return _(
        "{name} must lie between {least:g} and {largest:g}", name=name, least=least, largest=largest
    )


def _check_order(bars: dict[str, Any], faults: Faults, lines: list[str]) -> None:
    """Adds a line for each symbol whose times do not rise."""
    codes, times = bars["symbol"].codes, bars["timestamp"]
    if _rises(codes, times):
        return
    for rows in runs(codes):
        steps = np.diff(times[rows]).astype(np.int64)
        if len(steps) and (steps < 0).all():
            continue  # newest first: turned round when sorted
        for bad, message in [
            (steps == 0, N_("{place}: timestamps must rise within a symbol; duplicates: {count}")),
            (steps < 0, N_("{place}: timestamps must rise within a symbol; out of order: {count}")),
        ]:
            if bad.any():
                place = faults.place(int(rows[int(bad.argmax()) + 1]))
                lines.append(_(message, place=place, count=int(bad.sum())))


def _rises(codes: np.ndarray, times: np.ndarray) -> bool:
    """Says whether the bars lie symbol after symbol with rising times, as most do."""
    later = times[1:] > times[:-1]
    return bool(np.all((codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & later)))


def sorted_bars(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the bars sorted by symbol, then time."""
    symbols = frame["symbol"].astype("category")  # files of several symbols were put together
    frame["symbol"] = symbols.cat.set_categories(sorted(symbols.cat.categories))
    codes = frame["symbol"].cat.codes.to_numpy()
    times = frame["timestamp"].to_numpy("datetime64[ns]")
    same = codes[1:] == codes[:-1]
    order = None
    if np.any(same & (times[1:] < times[:-1])):
        order = np.lexsort((times, codes))
    elif np.any(codes[1:] < codes[:-1]):
        order = np.argsort(codes, kind="stable")
        sorted_times = times[order]
        if np.any((np.diff(codes[order]) == 0) & (sorted_times[1:] < sorted_times[:-1])):
            order = np.lexsort((times, codes))
    if order is not None:
        # One column after another, so that two whole frames never stand side by side.
        columns = {name: frame.pop(name).take(order) for name in list(frame.columns)}
        frame = pd.DataFrame(columns, copy=False)
    return frame.reset_index(drop=True)
