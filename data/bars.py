"""Reads and checks OHLCV bars of many symbols: one sorted frame."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from data.errors import InputError
from data.memory import release_memory

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
COLUMNS = ("timestamp", *NUMBERS)
_KNOWN = (*COLUMNS, "symbol")
SUFFIXES = (".csv.gz", ".csv", ".parquet", ".feather")
EPOCH_UNITS = [(1e11, "s"), (1e14, "ms"), (1e17, "us"), (np.inf, "ns")]


def read_bars(path: str | Path, *, note: Callable[[str], None] | None = None) -> pd.DataFrame:
    """Returns the checked bars of a file or of a folder of files.

    Args:
        path: a CSV (also .csv.gz), Parquet or Feather file, or a folder of them. Without a
            `symbol` column a file holds one symbol, named like the file.
        note: called with remarks such as ignored columns.

    Returns:
        A frame sorted by symbol, then time: `timestamp` (datetime64[ns, UTC], the bar's open),
        `symbol` (category), `open`, `high`, `low`, `close`, `volume` (float64).

    Raises:
        InputError: with a line for every fault: file, symbol, row (counted from 1).
    """
    faults, parts = [], []
    for file in _files(Path(path)):
        try:
            frame = _read_file(file, note or (lambda text: None))
            parts.append(_check(frame, file.name))
        except InputError as error:
            faults += error.faults
    if not faults:
        seen = pd.Series([name for part in parts for name in part["symbol"].cat.categories])
        twice = seen[seen.duplicated()]
        if len(twice):
            faults.append(f"a symbol must come from one file; {twice.iloc[0]} is in several")
    if faults:
        raise InputError(faults)
    bars = _sorted(pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts.pop())
    release_memory()
    return bars


def check_bars(frame: pd.DataFrame, source: str = "bars") -> pd.DataFrame:
    """Returns the checked and sorted bars of a frame in memory; see `read_bars`."""
    return _sorted(_check(frame.copy(), source))


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


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise InputError([f"bars must be a file ending in {', '.join(SUFFIXES)}, got {path}"])
        return [path]
    if not path.is_dir():
        raise InputError([f"need a file or folder of bars at {path}; there is none"])
    files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if not files:
        raise InputError([f"the folder {path} must hold files ending in {', '.join(SUFFIXES)}"])
    return files


def _read_file(file: Path, note: Callable[[str], None]) -> pd.DataFrame:
    try:
        frame, names = _parse(file)
    except (OSError, ValueError, pa.ArrowException, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError([f"{file.name} cannot be read: {reason}"]) from error
    frame.columns = [_plain(name) for name in frame.columns]
    extra = [name for name in names if name not in _KNOWN]
    if extra:
        note(f"{file.name}: columns ignored: {', '.join(extra)}")
        frame = frame.drop(columns=extra, errors="ignore")
    if "symbol" not in frame.columns:
        frame["symbol"] = file.name.removesuffix(".gz").rsplit(".", 1)[0]
    return frame


def _parse(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Returns the columns of a file, and the names of all that it has."""
    if file.name.endswith(".parquet"):
        return _parse_parquet(file)
    read = pa.feather.read_feather if file.name.endswith(".feather") else _read_csv
    frame = read(file)
    return frame, [_plain(name) for name in frame.columns]


def _parse_parquet(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads one column after another: a whole table would stand in memory beside the frame.

    In this thread and with a copy, because Arrow's allocator gives nothing back of what other
    threads took or of what columns still use.
    """
    columns = {}
    with pa.parquet.ParquetFile(file, read_dictionary=["symbol"]) as source:
        names = source.schema_arrow.names
        for name in (name for name in names if _plain(name) in _KNOWN):
            column = source.read(columns=[name], use_threads=False).column(0)
            columns[name] = column.to_pandas().copy()
            del column
            release_memory()
    return pd.DataFrame(columns, copy=False), [_plain(name) for name in names]


def _read_csv(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, low_memory=False)


def _plain(name) -> str:
    return str(name).strip().lower()


def _check(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    missing = [name for name in (*COLUMNS, "symbol") if name not in frame.columns]
    if missing:
        raise InputError(
            [
                f"{source} must have the columns {', '.join(COLUMNS)}; "
                f"it lacks {', '.join(missing)} (it has {', '.join(map(str, frame.columns))})"
            ]
        )
    if frame.empty:
        raise InputError([f"{source} must hold bars; it has no rows"])
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
        faults.append(f"{source}, row {row}: the symbol is missing")
    names = symbols.astype("category")
    names = names.cat.rename_categories([str(name) for name in names.cat.categories])
    return names.cat.remove_unused_categories()


def _timestamps(frame: pd.DataFrame, source: str, faults: list[str]) -> pd.Series:
    raw = frame["timestamp"]
    if pd.api.types.is_datetime64_any_dtype(raw):
        times = pd.to_datetime(raw, utc=True)
    elif (epochs := pd.to_numeric(raw, errors="coerce")).notna().mean() > 0.5:
        size = float(epochs.abs().max())
        unit = next(unit for limit, unit in EPOCH_UNITS if size < limit)
        times = pd.to_datetime(epochs, unit=unit, utc=True, errors="coerce")
    else:
        times = pd.to_datetime(raw.astype(str), utc=True, errors="coerce", format="ISO8601")
    what = "the timestamp must be an epoch time or ISO 8601 text"
    _report(times.isna(), what, frame, "timestamp", source, faults, raw)
    return times.astype("datetime64[ns, UTC]")


def _numbers(frame: pd.DataFrame, name: str, source: str, faults: list[str]) -> pd.Series:
    raw = frame[name]
    numbers = raw
    if raw.dtype != np.float64:
        numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    absent = raw.isna() | (raw.astype(str).str.strip() == "" if raw.dtype == object else False)
    _report(absent, f"{name} is missing", frame, name, source, faults)
    text = numbers.isna() & ~absent
    _report(text, f"{name} must be a number", frame, name, source, faults, raw)
    infinite = np.isinf(numbers)
    _report(infinite, f"{name} must be finite", frame, name, source, faults, raw)
    return numbers


def _check_values(frame: pd.DataFrame, source: str, faults: list[str]) -> None:
    for name in PRICES:
        bad = frame[name] <= 0
        _report(bad, f"{name} must be above 0", frame, name, source, faults, frame[name])
    bad = frame["volume"] < 0
    _report(bad, "volume must not be negative", frame, "volume", source, faults, frame["volume"])
    bad = frame["high"] < frame["low"]
    _report(bad, "high must not be below low", frame, "high", source, faults, frame["high"])
    if faults:
        return
    open_, high, low, close = (frame[name].to_numpy() for name in PRICES)
    slack = 1e-9 * high
    bad = np.maximum(open_, close) > high + slack
    bad |= np.minimum(open_, close) < low - slack
    _report(bad, "open and close must lie between low and high", frame, "open", source, faults)
    for symbol, times in frame.groupby("symbol", observed=True)["timestamp"]:
        steps = np.diff(times.to_numpy("datetime64[ns]")).astype(np.int64)
        for bad, word in [(steps == 0, "duplicate"), (steps < 0, "unsorted")]:
            if bad.any():
                row = int(times.index[int(bad.argmax()) + 1]) + 1
                faults.append(
                    f"{source}, symbol {symbol}, row {row}: timestamps must rise within a symbol; "
                    f"{int(bad.sum())} {word}"
                )


def _report(bad, what, frame, name, source, faults, shown=None) -> None:
    bad = np.asarray(bad, bool)
    if not bad.any():
        return
    row = int(bad.argmax())
    got = f", got {shown.iloc[row]!r}" if shown is not None else ""
    more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
    faults.append(f"{source}, symbol {frame['symbol'].iloc[row]}, row {row + 1}: {what}{got}{more}")


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the bars sorted by symbol; within a symbol they rise already."""
    symbols = frame["symbol"].astype("category")  # files of several symbols were put together
    frame["symbol"] = symbols.cat.set_categories(sorted(symbols.cat.categories))
    codes = frame["symbol"].cat.codes.to_numpy()
    if np.any(codes[1:] < codes[:-1]):
        order = np.argsort(codes, kind="stable")
        # One column after another, so that two whole frames never stand side by side.
        columns = {name: frame.pop(name).take(order) for name in list(frame.columns)}
        frame = pd.DataFrame(columns, copy=False)
    return frame.reset_index(drop=True)
