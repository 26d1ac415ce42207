"""Reads the bars of many symbols from files and folders: one checked, sorted frame."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from core.errors import InputError
from core.i18n import _, ngettext
from core.memory import release_memory
from data.bars.checks import (
    COLUMNS,
    NUMBERS,
    PRICES,
    bar_interval,
    check_bars,
    checked,
    digest,
    sorted_bars,
)
from data.bars.files import SUFFIXES, stem
from data.bars.layouts import named, read_layout, seconds
from data.bars.synthetic import PREFIX, read_synthetic

__all__ = [
    "COLUMNS",
    "NUMBERS",
    "PRICES",
    "bar_interval",
    "check_bars",
    "digest",
    "read_bars",
]
NO_BARS = ("-trades", "-funding_rate", "-mark", "-index", "-premiumIndex")
# About the files beside it: no bars, though a text. Any other text is read or refused.
ABOUT = ("readme", "license", "licence", "copying", "changelog", "notes")
LOOSE = 1.5  # months differ in length, timeframes by more than this


def read_bars(
    path: str | Path,
    *,
    note: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """Returns the checked bars of a file, of a folder of files, or of a made-up market.

    Args:
        path: a CSV, text, JSON (each also .gz), zip, Parquet or Feather file in any layout that
            `data.bars.layouts` knows; a folder of them; or a market such as
            `synthetic:walk?bars=5000&symbols=8&seed=1`. Without a column for it, a file's symbol
            is in its name.
        note: called with what was recognised, once for each kind of file.
        progress: called after each of several files with the share of their bytes that was read.

    Returns:
        A frame sorted by symbol, then time: `timestamp` (datetime64[ns, UTC], the bar's open),
        `symbol` (category), `open`, `high`, `low`, `close`, `volume` (float64).

    Raises:
        InputError: with a line for every fault: file, symbol, row (counted from 1).
    """
    if str(path).startswith(PREFIX):
        return read_synthetic(str(path))
    note = note or (lambda text: None)
    faults: list[str] = []
    kinds: dict[str, list[str]] = {}
    parts: dict[str, pd.DataFrame] = {}
    files = _files(Path(path), note)
    _one_timeframe(files)
    sizes = np.cumsum([file.stat().st_size for file in files])
    for file, reached in zip(files, sizes, strict=True):
        if progress is not None and file is not files[0]:
            progress((reached - file.stat().st_size) / max(sizes[-1], 1))
        try:
            frame, remarks = _read(file)
            parts[file.name] = checked(frame, file.name)
            del frame
        except InputError as error:
            faults += error.faults
            continue
        release_memory()
        if _falls(parts[file.name]):
            remarks = [*remarks, _("newest first, turned round")]
        if remarks:
            kinds.setdefault("; ".join(remarks), []).append(file.name)
    for text, names in kinds.items():
        note(f"{_first_of(names)}: {text}")
    faults = faults or _overlaps(parts) or _steps_of_files(parts)
    if faults:
        raise InputError(faults)
    frames = [parts.pop(name) for name in list(parts)]
    bars = sorted_bars(pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames.pop())
    _one_interval(bars, Path(path).name)
    release_memory()
    return bars


def _files(path: Path, note: Callable[[str], None]) -> list[Path]:
    if path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise InputError(
                _(
                    "bars must be a file ending in {suffixes}, got {path}",
                    suffixes=", ".join(SUFFIXES),
                    path=path,
                )
            )
        return [path]
    if not path.is_dir():
        raise InputError(_("need a file or folder of bars at {path}; there is none", path=path))
    inner = [f for f in sorted(path.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    if inner:
        raise InputError(
            _(
                "the folder {path} must hold files alone, it holds the folder {name}; give the "
                "path of one folder of files",
                path=path,
                name=inner[0].name,
            )
        )
    files = [f for f in path.iterdir() if f.name.lower().endswith(SUFFIXES)]
    files = sorted(file for file in files if not file.name.startswith("."))
    others = [f for f in files if f.name == "pairs.json" or named_no_bars(f)]
    if others:
        names = [file.name for file in others]
        note(_("{names}: no bars, passed over", names=_first_of(names)))
    files = [file for file in files if file not in others]
    if not files:
        raise InputError(
            _(
                "the folder {path} must hold files ending in {suffixes}",
                path=path,
                suffixes=", ".join(SUFFIXES),
            )
        )
    return files


def _first_of(names: list[str]) -> str:
    """Returns the first name, and how many there are beside it."""
    if len(names) == 1:
        return names[0]
    more = len(names) - 1
    return ngettext("{name} and {n} more", "{name} and {n} more", more, name=names[0])


def named_no_bars(file: Path) -> bool:
    """Says whether a file's name tells trades, funding rates, mark prices, or a text to read."""
    return stem(file).lower() in ABOUT or any(f"{word}." in file.name for word in NO_BARS)


def _one_timeframe(files: list[Path]) -> None:
    frames: dict[int | str, str] = {}
    for file in files:
        frame = named(file)[1]
        if frame is not None:
            frames.setdefault(seconds(frame), f"{frame} ({file.name})")
    if len(frames) > 1:
        told = ", ".join(frames.values())
        raise InputError(
            _(
                "a folder must hold bars of one timeframe, it holds {told}; put each timeframe "
                "into a folder of its own",
                told=told,
            )
        )


def _read(file: Path) -> tuple[pd.DataFrame, list[str]]:
    try:
        return read_layout(file)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            _("{file} cannot be read: {reason}", file=file.name, reason=reason)
        ) from error


def _falls(bars: pd.DataFrame) -> bool:
    codes = bars["symbol"].cat.codes.to_numpy()
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    first = np.flatnonzero(codes == codes[0])[:2]
    return len(first) > 1 and times[first[1]] < times[first[0]]


def _overlaps(parts: dict[str, pd.DataFrame]) -> list[str]:
    """Returns a fault for each symbol whose files are not one after another in time."""
    if len(parts) < 2:
        return []
    spans: dict[str, list] = {}
    for name, part in parts.items():
        times = part.groupby("symbol", observed=True)["timestamp"].agg(["min", "max"])
        for symbol, first, last in times.itertuples():
            spans.setdefault(symbol, []).append((first, last, name))
    faults = []
    for symbol, own in spans.items():
        own.sort()
        for (_first, last, before), (first, _last, after) in zip(own[:-1], own[1:], strict=True):
            if first <= last:
                faults.append(
                    _(
                        "files of one symbol must not overlap; {symbol} is in {before} until "
                        "{last} and in {after} from {first}: remove one",
                        symbol=symbol,
                        before=before,
                        last=last,
                        after=after,
                        first=first,
                    )
                )
                break
    return faults


def _steps_of_files(parts: dict[str, pd.DataFrame]) -> list[str]:
    """Returns a fault where two files differ in their most frequent step."""
    steps = {}
    for name, part in parts.items() if len(parts) > 1 else ():
        own = part.groupby("symbol", observed=True)["timestamp"].diff().abs().dropna()
        if len(own) > 1:
            steps[name] = own.value_counts().index[0]
    if not steps or max(steps.values()) <= LOOSE * min(steps.values()):
        return []
    low, high = min(steps, key=steps.get), max(steps, key=steps.get)
    return [
        _(
            "all files must have one timeframe; {low} has a bar every {low_step}, {high} every "
            "{high_step}: give each timeframe by itself",
            low=low,
            low_step=steps[low],
            high=high,
            high_step=steps[high],
        )
    ]


def _one_interval(bars: pd.DataFrame, source: str) -> None:
    """Refuses symbols of different timeframes; the median is enough where all agree."""
    groups = bars.groupby("symbol", observed=True)["timestamp"]
    times = {symbol: own for symbol, own in groups if len(own) > 2}
    steps = {symbol: bar_interval(own) for symbol, own in times.items()}
    if not steps or max(steps.values()) <= LOOSE * min(steps.values()):
        return
    steps = {symbol: _usual_step(own) for symbol, own in times.items()}  # bars may be missing
    low, high = min(steps, key=steps.get), max(steps, key=steps.get)
    if steps[high] > LOOSE * steps[low]:
        raise InputError(
            _(
                "{source}: all symbols must have one timeframe; {low} has a bar every {low_step}, "
                "{high} every {high_step}: give each timeframe by itself",
                source=source,
                low=low,
                low_step=pd.Timedelta(steps[low]),
                high=high,
                high_step=pd.Timedelta(steps[high]),
            )
        )


def _usual_step(timestamps: pd.Series) -> np.timedelta64:
    steps, counts = np.unique(np.diff(timestamps.to_numpy("datetime64[ns]")), return_counts=True)
    return steps[counts.argmax()]
