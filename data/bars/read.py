"""Reads the bars of many symbols from files and folders: one checked, sorted frame."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import _
from core.memory import release_memory
from data.bars.checks import check_bars, checked, sorted_bars
from data.bars.formats.faults import COLUMNS
from data.bars.formats.own_columns import NoSuchColumn, not_used
from data.bars.formats.packed import Source
from data.bars.frames import read_frame
from data.bars.layouts import read_layout
from data.bars.names import COPY, files_of, first_of, most_frequent, named, symbol_of
from data.bars.synthetic import PREFIX, read_synthetic

LOOSE = 1.5  # months differ in length, timeframes by more than this
_MANY_ROWS = 100_000  # of which the memory is worth to be given back
_ALIKE = 0.9  # share of the times that a second download has in common with the first


@dataclass
class _Part:
    """The bars of one file.

    Args:
        symbols: of the file.
        codes: which of them a row is of, (bars,).
        columns: `timestamp` as datetime64[ns], the numbers and own ones, (bars,) each.
    """

    symbols: list[str]
    codes: np.ndarray
    columns: dict[str, np.ndarray]

    def by_symbol(self) -> list[tuple[str, np.ndarray]]:
        """Returns the times of each symbol, in the order of the file."""
        times = self.columns["timestamp"]
        if len(self.symbols) == 1:
            return [(self.symbols[0], times)]
        order = np.argsort(self.codes, kind="stable")
        bounds = np.searchsorted(self.codes[order], np.arange(len(self.symbols) + 1))
        spans = zip(self.symbols, bounds[:-1], bounds[1:], strict=True)
        return [(symbol, times[order[first:last]]) for symbol, first, last in spans]


def read_bars(
    path: Any,
    *,
    extra: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
    unpacked_bytes: int | None = None,
) -> pd.DataFrame:
    """Returns the checked bars of a file, a folder of files, a made-up market or a frame.

    Args:
        path: a CSV, text, JSON (each also packed with gzip, bzip2, xz or Zstandard), zip, Parquet,
            Feather or Arrow file in any layout that `data.bars.layouts` knows; a folder of them;
            or a market such as `synthetic:walk?bars=5000&symbols=8&seed=1`. Without a column for
            it, a file's symbol is in its name. Or a frame, see `data.bars.frames.read_frame`.
        extra: names of own columns that are wanted as well, such as a funding rate; where none is
            written so, case does not count. Values may be missing.
        note: called with what was recognised, once for each kind of file, and with the names of
            columns that are not used.
        progress: called after each of several files with the share of their bytes that was read.
        unpacked_bytes: see `data.bars.formats.packed.Source`.

    Returns:
        A frame sorted by symbol, then time: `timestamp` (datetime64[ns, UTC], the bar's open),
        `symbol` (category), `open`, `high`, `low`, `close`, `volume` and own ones (float64).

    Raises:
        InputError: with a line for every fault: file, symbol, row (counted from 1).

    Examples:
        >>> bars = read_bars("synthetic:walk?bars=300&symbols=2")  # or "bars.csv", "folder/"
        >>> len(bars), sorted(bars.columns)
        (600, ['close', 'high', 'low', 'open', 'symbol', 'timestamp', 'volume'])
    """
    note = note or (lambda text: None)
    if not isinstance(path, (str, Path)):
        return _of_frame(path, extra, note)
    if str(path).startswith(PREFIX):
        bars = read_synthetic(str(path))
        return check_bars(bars, str(path), extra=extra) if extra else bars
    faults: list[str] = []
    kinds: dict[str, list[str]] = {}
    lacking: dict[str, list[str]] = {}
    others: dict[str, None] = {}
    parts: dict[str, _Part] = {}
    sources = [Source(file, unpacked_bytes) for file in files_of(Path(path), note)]
    sizes = _sizes(sources)
    reached = np.cumsum(sizes)
    for source, size, end in zip(sources, sizes, reached, strict=True):
        if progress is not None and source is not sources[0]:
            progress((end - size) / max(reached[-1], 1))
        try:
            parts[source.name], remarks, unused = _read(source, extra)
        except NoSuchColumn as error:
            lacking.setdefault(error.what, []).append(source.name)
            continue
        except InputError as error:
            faults += error.faults
            continue
        others |= dict.fromkeys(unused)
        if remarks:
            kinds.setdefault("; ".join(remarks), []).append(source.path.name)
    for text, names in kinds.items():
        note(f"{first_of(names)}: {text}")
    if others:
        note(not_used(list(others)))
    faults += [f"{first_of(names)}: {text}" for text, names in lacking.items()]
    faults = faults or _overlaps(parts) or _steps_of_files(parts)
    if faults:
        raise InputError(faults)
    bars = _together(parts, extra, Path(path).name, note)
    release_memory()
    return bars


def _of_frame(frame: Any, extra: Sequence[str], note: Callable[[str], None]) -> pd.DataFrame:
    columns, remarks, unused = read_frame(frame, extra)
    for text in remarks:
        note(_("the frame") + f": {text}")
    if unused:
        note(not_used(unused))
    symbols = columns.pop("symbol")
    part = _Part(list(symbols.categories), symbols.codes, columns)
    return _together({"": part}, extra, _("the frame"), note)


def _together(
    parts: dict[str, _Part], extra: Sequence[str], source: str, note: Callable[[str], None]
) -> pd.DataFrame:
    """Returns the bars of all parts, sorted, of one timeframe."""
    bars = sorted_bars(_joined(parts, extra))
    _one_interval(bars, source)
    for text in _doubles(bars):
        note(text)
    return bars


def _sizes(sources: list[Source]) -> list[int]:
    """Returns the sizes of the files in bytes; raises with a line for each that has no end."""
    sizes, faults = [], []
    for source in sources:
        try:
            sizes.append(source.check_regular())
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return sizes


def _read(source: Source, extra: Sequence[str]) -> tuple[_Part, list[str], list[str]]:
    raw, remarks, unused = read_layout(source, extra)
    unnamed = "symbol" not in raw
    if unnamed:
        codes = np.zeros(len(raw["timestamp"]), np.int8)
        kind = pd.CategoricalDtype([named(source.path).symbol])
        raw["symbol"] = pd.Series(pd.Categorical.from_codes(codes, dtype=kind))
    more: list[str] = []
    columns = checked(raw, source.name, more, extra)
    symbol = columns.pop("symbol")
    symbols, codes = list(symbol.categories), symbol.codes
    if unnamed:
        symbols = [symbol_of(source.path, columns["timestamp"])]
        remarks.append(_("symbol from the file's name"))
    part = _Part(symbols, codes, columns)
    if len(codes) > _MANY_ROWS:
        release_memory()
    if _falls(part):
        more.append(_("newest first, turned round"))
    return part, [*remarks, *more], unused


def _falls(part: _Part) -> bool:
    first = np.flatnonzero(part.codes == part.codes[0])[:2]
    times = part.columns["timestamp"]
    return len(first) > 1 and bool(times[first[1]] < times[first[0]])


def _joined(parts: dict[str, _Part], extra: Sequence[str]) -> pd.DataFrame:
    """Returns the bars of all files, and lets go of them a column after another."""
    places: dict[str, int] = {}
    codes = []
    for part in parts.values():
        new = np.array([places.setdefault(symbol, len(places)) for symbol in part.symbols])
        codes.append(new.astype(np.int32)[part.codes])
    columns = {}
    for name in dict.fromkeys([*COLUMNS, *extra]):
        pieces = [part.columns.pop(name) for part in parts.values()]
        columns[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        del pieces
    columns["timestamp"] = pd.Series(columns["timestamp"]).dt.tz_localize("UTC")
    columns["symbol"] = pd.Categorical.from_codes(
        np.concatenate(codes), dtype=pd.CategoricalDtype(list(places))
    )
    return pd.DataFrame(columns, copy=False)


def _overlaps(parts: dict[str, _Part]) -> list[str]:
    """Returns a fault for each symbol whose files are not one after another in time."""
    spans: dict[str, list] = {}
    for name, part in parts.items() if len(parts) > 1 else ():
        for symbol, times in part.by_symbol():
            spans.setdefault(symbol, []).append((times.min(), times.max(), name))
    faults = []
    for symbol, ranges in spans.items():
        ranges.sort()
        for (_first, last, before), (first, _last, after) in itertools.pairwise(ranges):
            if first <= last:
                faults.append(
                    _(
                        "files of one symbol must not overlap; {symbol} is in {before} until "
                        "{last} and in {after} from {first}: remove one",
                        symbol=symbol,
                        before=before,
                        last=pd.Timestamp(last, tz="UTC"),
                        after=after,
                        first=pd.Timestamp(first, tz="UTC"),
                    )
                )
                break
    return faults


def _steps_of_files(parts: dict[str, _Part]) -> list[str]:
    """Returns a fault where two files differ in their most frequent step."""
    steps = {}
    for name, part in parts.items() if len(parts) > 1 else ():
        lengths = np.concatenate([np.abs(np.diff(times)) for _symbol, times in part.by_symbol()])
        if len(lengths) > 1:
            steps[name] = most_frequent(lengths)
    extremes = _unlike(steps)
    if not extremes:
        return []
    return [
        _(
            "all files must have one timeframe; {low} has a bar every {low_step}, {high} every "
            "{high_step}: give each timeframe by itself",
            **extremes,
        )
    ]


def _unlike(steps: dict[str, np.timedelta64]) -> dict[str, Any]:
    """Returns which steps are shortest and longest, where they are of two timeframes; else {}."""
    if not steps or max(steps.values()) <= LOOSE * min(steps.values()):
        return {}
    low, high = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    lengths = {"low_step": pd.Timedelta(steps[low]), "high_step": pd.Timedelta(steps[high])}
    return {"low": low, "high": high, **lengths}


def _doubles(bars: pd.DataFrame) -> list[str]:
    """Returns a note for symbols that have the same bars as another, as a second download has."""
    codes, names = bars["symbol"].cat.codes.to_numpy(), list(bars["symbol"].cat.categories)
    bounds = np.searchsorted(codes, np.arange(len(names) + 1))
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    close, volume = bars["close"].to_numpy(), bars["volume"].to_numpy()
    seen: dict[tuple, int] = {}
    pairs = []
    for code, name in enumerate(names):
        rows = slice(bounds[code], bounds[code + 1])
        key = (rows.stop - rows.start, times[rows.start], close[rows].sum())
        match = COPY.fullmatch(name)
        if match and match["symbol"] in names:
            pairs.append((names.index(match["symbol"]), code))
        elif seen.setdefault(key, code) != code:
            pairs.append((seen[key], code))
    copies: dict[int, list[str]] = {}
    for first, second in pairs:
        one, other = (slice(bounds[code], bounds[code + 1]) for code in (first, second))
        _both, left, right = np.intersect1d(
            times[one], times[other], assume_unique=True, return_indices=True
        )
        alike = [values[one][left] == values[other][right] for values in (close, volume)]
        same = int((alike[0] & alike[1]).sum())
        if same and same >= _ALIKE * min(one.stop - one.start, other.stop - other.start):
            copies.setdefault(first, [names[first]]).append(names[second])
    return [
        _("{names} have the same bars; if one is a second download, remove it", names=same)
        for same in (first_of(alike, 3) for alike in copies.values())
    ]


def _one_interval(bars: pd.DataFrame, source: str) -> None:
    """Refuses symbols of different timeframes; the median is enough where all agree."""
    groups = bars.groupby("symbol", observed=True)["timestamp"]
    times = {str(symbol): stamps.to_numpy("datetime64[ns]") for symbol, stamps in groups}
    steps = {symbol: np.diff(stamps) for symbol, stamps in times.items() if len(stamps) > 2}
    if not _unlike({symbol: np.median(lengths) for symbol, lengths in steps.items()}):
        return
    extremes = _unlike({symbol: most_frequent(lengths) for symbol, lengths in steps.items()})
    if extremes:  # and not only bars that are missing
        raise InputError(
            "{source}: all symbols must have one timeframe; {low} has a bar every {low_step}, "
            "{high} every {high_step}: give each timeframe by itself",
            source=source,
            **extremes,
        )
