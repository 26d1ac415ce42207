"""The files of a folder, and what their names say: symbol, timeframe, the time of their bars."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import InputError, printable
from core.foreign import check_path
from core.i18n import _, ngettext
from data.bars.formats.packed import SUFFIXES, Source, forms, stem

# MetaTrader's timeframes are written out: H24 and M24 are contracts of a future.
FRAME = (
    r"(?:\d+(?:s|m|min|h|d|D|w|W|M|mo|hour|day)|M(?:[1-6]|1[025]|20|30)|H(?:[1-4]|[68]|12)"
    r"|[DW]1|MN1?|Daily|Weekly|Monthly)"
)
DAY = r"\d{4}(?:-\d\d(?:-\d\d)?)?"
FILE_NAMES = [
    rf"(?P<symbol>.+?)-(?P<frame>{FRAME})(?:-(?:spot|futures))?(?:-{DAY})?",
    rf"(?:DAT_[A-Z]+_)?(?P<symbol>.+?)_(?P<frame>{FRAME})(?:_(?:\d{{4,14}}|{DAY})){{0,2}}",
    r"(?P<symbol>.+?), (?P<frame>\d+[A-Z]?)(?:_\w+)?",
]
# A part of a symbol's bars: AAPL_2020, AAPL-2020-01, AAPL.20200101, AAPL_2010_2020, AAPL 2020Q1,
# AAPL_Q1_2020, AAPL-2020-W07, 2020_AAPL.
YEAR = r"(?:19|20)\d\d"
PART = (
    rf"(?:{YEAR}(?:[-_.]?(?:(?:0[1-9]|1[0-2])(?:[-_.]?[0-3]\d)?|[QHqh][1-4]|[Ww][0-5]\d))?"
    rf"|[QHqh][1-4][-_.]?{YEAR})"
)
SPAN = rf"(?P<first>{PART})(?:[-_. ]+(?P<last>{PART}))?"
PARTS = (
    re.compile(rf"(?:(?P<symbol>.+?)[-_. ]+)?{SPAN}"),
    re.compile(rf"{SPAN}[-_. ]+(?P<symbol>.+)"),
)
CONTRACT = re.compile(r"[MH]\d")  # June and March of a year, or a timeframe of MetaTrader's
COPY = re.compile(r"(?P<symbol>.+?) ?\(\d{1,3}\)")  # a second download
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2629746}
UNITS = {"": "m", "min": "m", "hour": "h", "day": "d", "M": "mo"}
WORDS = {"Daily": "1d", "Weekly": "1w", "Monthly": "1mo", "MN": "1mo", "MN1": "1mo"}
NO_BARS = ("-trades", "-funding_rate", "-mark", "-index", "-premiumIndex")
# About the files beside it: no bars, though a text. Any other text is read or refused.
ABOUT = ("readme", "license", "licence", "copying", "changelog", "notes")
_NEW_YEAR = np.timedelta64(2, "D")  # a year ends at another time in every time zone
_NEAR = 3  # of a named timeframe: bars are missing, months differ


@dataclass(frozen=True)
class Named:
    """What a file's name says.

    Args:
        symbol: of all its bars.
        frame: their timeframe, None where the name has none.
        whole: the name without what says the file's form.
    """

    symbol: str
    frame: str | None
    whole: str


def named(file: Path) -> Named:
    """Returns what a file's name says, as far as it alone can tell."""
    text = stem(file)
    for pattern in FILE_NAMES:
        match = re.fullmatch(pattern, text)
        if match:
            return Named(match["symbol"], match["frame"], text)
    return Named(text, None, text)


def symbol_of(file: Path, times: np.ndarray) -> str:
    """Returns the symbol that a file's name gives, where its bars agree with what the name says.

    Args:
        file: without a column of symbols.
        times: of its bars, datetime64[ns] (bars,).
    """
    parts = named(file)
    if parts.frame is not None:
        length = seconds(parts.frame)
        code = parts.whole.endswith(f"{parts.symbol}_{parts.frame}") and CONTRACT.fullmatch(
            parts.frame
        )
        if isinstance(length, str) or not code or len(times) < 2:
            return parts.symbol
        step = most_frequent(np.abs(np.diff(times))) / np.timedelta64(1, "s")
        return parts.symbol if length / _NEAR < step < length * _NEAR else parts.whole
    match = next(filter(None, (pattern.fullmatch(parts.whole) for pattern in PARTS)), None)
    if match is None or not _covers(match["first"], match["last"] or match["first"], times):
        return parts.whole
    return match["symbol"] or file.absolute().parent.name or parts.whole


def most_frequent(steps: np.ndarray) -> np.timedelta64:
    """Returns the most frequent of steps (steps,), at least one; of several the shortest."""
    lengths, counts = np.unique(steps, return_counts=True)
    return lengths[counts.argmax()]


def _covers(first: str, last: str, times: np.ndarray) -> bool:
    """Says whether bars lie in the years from the first to the last that a name gives."""
    years = [np.datetime64(re.findall(YEAR, part)[0], "Y") for part in (first, last)]
    start = years[0].astype("datetime64[ns]") - _NEW_YEAR
    stop = (years[1] + 1).astype("datetime64[ns]") + _NEW_YEAR
    return bool(len(times) and times.min() >= start and times.max() < stop)


def seconds(frame: str) -> int | str:
    """Returns the length of a timeframe such as 5m, M5, 60 or Daily; the text where unknown.

    A month is a twelfth of a year.
    """
    text = WORDS.get(frame, frame)
    if text[0].isalpha():  # MetaTrader's M5 and H1
        text = text[1:] + text[0].lower()
    unit = text.lstrip("0123456789")
    length = SECONDS.get(UNITS.get(unit, unit.lower()))
    return frame if length is None else length * int(text.removesuffix(unit))


def files_of(path: Path, note: Callable[[str], None]) -> list[Path]:
    """Returns the files of bars at a path: itself, or those of a folder.

    Args:
        path: of a file or folder.
        note: called with the names of files that are passed over.

    Raises:
        InputError: where there is none, or a name is not one of a file that can be read.
    """
    check_path(path)
    if not path.is_dir():
        if not path.exists() and not path.is_symlink():
            raise InputError("no file or folder of bars at {path}", path=path)
        Source(path).check_regular()
        if not path.name.lower().endswith(SUFFIXES):
            raise InputError(
                "bars must be a file ending in {suffixes}, got {path}",
                suffixes=forms(),
                path=printable(str(path), 300),
            )
        return [path]
    shown = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    _refuse_folders(path, shown)
    read = [file for file in shown if file.name.lower().endswith(SUFFIXES)]
    others = [file for file in read if file.name == "pairs.json" or named_no_bars(file)]
    known = set(read)
    others += [file for file in shown if file not in known and named_no_bars(file)]
    if others:
        note(_("{names}: skipped, not bars", names=first_of([file.name for file in others])))
    passed = set(others)
    unknown = sorted(set(shown) - known - passed)
    if unknown:
        names = first_of([file.name for file in unknown], 3)
        told = _(
            "{names}: skipped, as files of this kind are not read (only {suffixes})",
            names=names,
            suffixes=forms(),
        )
        note(told)
    read = [file for file in read if file not in passed]
    if not read:
        raise InputError(
            "the folder {path} must hold files ending in {suffixes}", path=path, suffixes=forms()
        )
    one_timeframe(read)
    return read


def _refuse_folders(path: Path, shown: list[Path]) -> None:
    inner = [file for file in shown if file.is_dir()]
    if inner:
        raise InputError(
            "the folder {path} must hold files alone, it holds the folder {name}; give the "
            "path of one folder of files",
            path=path,
            name=printable(inner[0].name),
        )


def named_no_bars(file: Path) -> bool:
    """Says whether a file's name tells trades, funding rates, mark prices, or a text to read."""
    about = Path(stem(file)).stem.lower() in ABOUT or file.stem.lower() in ABOUT
    return about or any(f"{word}." in file.name for word in NO_BARS)


def first_of(names: list[str], most: int = 1) -> str:
    """Returns the first names, and how many there are beside them."""
    names = [printable(name) for name in names]
    if len(names) <= most:
        return ", ".join(names)
    more = len(names) - most
    name = ", ".join(names[:most])
    return ngettext("{name} and {n} more", "{name} and {n} more", more, name=name)


def one_timeframe(files: list[Path]) -> None:
    """Raises InputError where the names of files tell several timeframes."""
    frames: dict[int | str, str] = {}
    for file in files:
        frame = named(file).frame
        if frame is not None and not CONTRACT.fullmatch(frame):
            frames.setdefault(seconds(frame), f"{frame} ({printable(file.name)})")
    if len(frames) > 1:
        examples = ", ".join(frames.values())
        raise InputError(
            "a folder must hold bars of one timeframe, it holds {timeframes}; put each timeframe "
            "into a folder of its own",
            timeframes=examples,
        )
