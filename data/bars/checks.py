"""The checks of bars, and the one sorted frame that they give."""

import hashlib

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _, ngettext
from data.bars.timestamps import complaint, read_times

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
COLUMNS = ("timestamp", *NUMBERS)


def check_bars(frame: pd.DataFrame, source: str = "bars") -> pd.DataFrame:
    """Returns the checked and sorted bars of a frame in memory; see `data.bars.read.read_bars`."""
    return sorted_bars(checked(frame.copy(), source))


def bar_interval(timestamps: pd.Series) -> np.timedelta64:
    """Returns the median spacing of one symbol's bars."""
    return np.median(np.diff(timestamps.to_numpy("datetime64[ns]"))).astype("timedelta64[ns]")


def digest(frame: pd.DataFrame) -> str:
    """Returns the SHA-256 of checked bars as a hexadecimal text."""
    sha = hashlib.sha256()
    sha.update("\n".join(frame["symbol"].cat.categories).encode())
    sha.update(frame["symbol"].cat.codes.to_numpy(np.int32).tobytes())
    sha.update(frame["timestamp"].to_numpy("datetime64[ns]").tobytes())
    for name in NUMBERS:
        sha.update(np.ascontiguousarray(frame[name].to_numpy(np.float64)).tobytes())
    return sha.hexdigest()


def checked(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Returns the bars in canonical types, rows as they came; raises with a line per fault."""
    missing = [name for name in (*COLUMNS, "symbol") if name not in frame.columns]
    if missing:
        raise InputError(
            [
                _(
                    "{source} must have the columns {columns}; it lacks {missing} (it has {found})",
                    source=source,
                    columns=", ".join(COLUMNS),
                    missing=", ".join(missing),
                    found=", ".join(map(str, frame.columns)),
                )
            ]
        )
    if frame.empty:
        raise InputError([_("{source} must hold bars; it has no rows", source=source)])
    frame = frame[[*COLUMNS, "symbol"]].reset_index(drop=True)
    faults: list[str] = []
    frame["symbol"] = _symbols(frame["symbol"], source, faults)
    frame["timestamp"] = _timestamps(frame, source, faults)
    for name in NUMBERS:
        frame[name] = _numbers(frame, name, source, faults)
    if not faults:
        _check_values(frame, source, faults)
    if faults:
        raise InputError(faults)
    return frame


def _symbols(symbols: pd.Series, source: str, faults: list[str]) -> pd.Series:
    if symbols.isna().any():
        row = int(symbols.isna().to_numpy().argmax()) + 1
        faults.append(_("{source}, row {row}: the symbol is missing", source=source, row=row))
    names = symbols.astype("category")
    names = names.cat.rename_categories([str(name) for name in names.cat.categories])
    counts = np.bincount(names.cat.codes.to_numpy() + 1, minlength=len(names.cat.categories) + 1)
    return names.cat.remove_unused_categories() if (counts[1:] == 0).any() else names


def _timestamps(frame: pd.DataFrame, source: str, faults: list[str]) -> pd.Series:
    raw = frame["timestamp"]
    times = read_times(raw)
    bad = times.isna().to_numpy()
    if bad.any():
        what = complaint(raw.iloc[int(bad.argmax())])
        _report(bad, what, frame, "timestamp", source, faults, raw)
    return times


def _numbers(frame: pd.DataFrame, name: str, source: str, faults: list[str]) -> pd.Series:
    raw = frame[name]
    numbers = raw
    if raw.dtype != np.float64:
        numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    absent = raw.isna()
    if not pd.api.types.is_numeric_dtype(raw):
        absent |= raw.astype(str).str.strip() == ""
    _report(absent, _("{name} is missing", name=name), frame, name, source, faults)
    text = numbers.isna() & ~absent
    dollars = text.any() and "$" in str(raw.iloc[int(text.to_numpy().argmax())])
    what = _("{name} must be a number", name=name)
    if dollars:
        what = _("{name} must be a number without the sign of a currency", name=name)
    _report(text, what, frame, name, source, faults, raw)
    infinite = np.isinf(numbers)
    _report(infinite, _("{name} must be finite", name=name), frame, name, source, faults, raw)
    return numbers


def _check_values(frame: pd.DataFrame, source: str, faults: list[str]) -> None:
    for name in PRICES:
        bad = frame[name] <= 0
        what = _("{name} must be above 0", name=name)
        _report(bad, what, frame, name, source, faults, frame[name])
    bad = frame["volume"] < 0
    what = _("volume must not be negative")
    _report(bad, what, frame, "volume", source, faults, frame["volume"])
    bad = frame["high"] < frame["low"]
    _report(bad, _("high must not be below low"), frame, "high", source, faults, frame["high"])
    if faults:
        return
    open_, high, low, close = (frame[name].to_numpy() for name in PRICES)
    slack = 1e-9 * high
    bad = np.maximum(open_, close) > high + slack
    bad |= np.minimum(open_, close) < low - slack
    what = _("open and close must lie between low and high")
    _report(bad, what, frame, "open", source, faults)
    if _rises(frame):
        return
    for symbol, times in frame.groupby("symbol", observed=True)["timestamp"]:
        steps = np.diff(times.to_numpy("datetime64[ns]")).astype(np.int64)
        if len(steps) and (steps < 0).all():
            continue  # newest first: turned round when sorted
        for bad, told in [
            (steps == 0, N_("{place}: timestamps must rise within a symbol; {count} duplicate")),
            (steps < 0, N_("{place}: timestamps must rise within a symbol; {count} unsorted")),
        ]:
            if bad.any():
                row = int(times.index[int(bad.argmax()) + 1]) + 1
                place = _place(source, symbol, row)
                faults.append(_(told, place=place, count=int(bad.sum())))


def _rises(frame: pd.DataFrame) -> bool:
    """Says whether the bars lie symbol after symbol with rising times, as most do."""
    codes = frame["symbol"].cat.codes.to_numpy()
    times = frame["timestamp"].to_numpy("datetime64[ns]")
    later = times[1:] > times[:-1]
    return bool(np.all((codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & later)))


def _report(bad, what, frame, name, source, faults, shown=None) -> None:
    bad = np.asarray(bad, bool)
    if not bad.any():
        return
    row = int(bad.argmax())
    fault = f"{_place(source, frame['symbol'].iloc[row], row + 1)}: {what}"
    if shown is not None:
        fault += _(", got {value!r}", value=shown.iloc[row])
    more = int(bad.sum()) - 1
    if more:
        fault += ngettext(" (and {n} more rows)", " (and {n} more rows)", more)
    faults.append(fault)


def _place(source: str, symbol: str, row: int) -> str:
    return _("{source}, symbol {symbol}, row {row}", source=source, symbol=symbol, row=row)


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
