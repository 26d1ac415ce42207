"""Finds moves that no market makes: splits left in the prices, bad bars, tickers taken over.

A guess from prices and volumes, to be told to a person; splits are scaled away only on demand.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.i18n import _, date, ngettext, number
from data.bars.formats.faults import PRICES
from data.market.windows import symbol_bounds

SPLIT, BAD, TAKEN = "split", "bad bar", "taken over"
_LEAST = np.log(1.4)  # below the 1.5 of a 3:2 split
_LEAST_SPIKE = np.log(4.0)  # of a high or low alone; crashes of minutes have reached a third
_LEAST_BACK = np.log(2.0)  # a coin may rise by half for an hour
_LEAST_SCALES = 12.0  # and so many standard deviations of one bar's move, from their median size
_BACK_WITHIN_BARS = 5
_NEAR = 0.05  # a ratio's distance from a whole number, relative
_SURE = 10  # from here on a jump between two bars is no news
_VOLUME_BARS = 20
_TAKEN_AFTER = np.timedelta64(16, "D")  # as the longest closed time of `data.bars.sessions`
_MOST_TOLD = 5  # of a kind


@dataclass(frozen=True)
class Move:
    """A move that looks impossible.

    Attributes:
        kind: `SPLIT`, `BAD` (there and back) or `TAKEN` (after a hole in time).
        symbol: that moves.
        row: the first of its bars at the new price, counted from its first one.
        before: time of the bar before.
        time: of the bar.
        ratio: price after by price before.
    """

    kind: str
    symbol: str
    row: int
    before: np.datetime64
    time: np.datetime64
    ratio: float

    @property
    def whole(self) -> float:
        """The ratio of the split: 1 / 4 or 20, or 3 / 2."""
        size = max(self.ratio, 1 / self.ratio)
        near = 1.5 if abs(size / 1.5 - 1) <= _NEAR else round(size, -1 if size >= 100 else None)
        return near if self.ratio > 1 else 1 / near

    def __str__(self):
        up = self.ratio > 1
        values = {
            "symbol": self.symbol,
            "before": moment(self.before),
            "time": moment(self.time),
            "ratio": number(max(self.ratio, 1 / self.ratio), ".3g"),
        }
        if self.kind == BAD and up:
            return _(
                "{symbol}: the bar of {time} is {ratio} times too high, perhaps a bad bar", **values
            )
        if self.kind == BAD:
            return _(
                "{symbol}: the bar of {time} is {ratio} times too low, perhaps a bad bar", **values
            )
        if self.kind == TAKEN:
            return _(
                "{symbol}: no bars between {before} and {time}, and the price then is {ratio} "
                "times {direction}: perhaps another company",
                **values,
                direction=_("higher") if up else _("lower"),
            )
        return _(
            "{symbol}: the price is {ratio} times {direction} from {before} to {time}, as after a "
            "{split} split",
            **values,
            direction=_("higher") if up else _("lower"),
            split=self.split,
        )

    @property
    def split(self) -> str:
        """The split as people write it: 4:1, and 1:20 for a reverse one."""
        size = max(self.whole, 1 / self.whole)
        new, old = (3, 2) if size == 1.5 else (round(size), 1)
        return f"{old}:{new}" if self.whole > 1 else f"{new}:{old}"


def moment(time: Any) -> str:
    """Returns a time as people read it, without the clock where it is midnight."""
    text = str(time)[:16]
    return date(text[:10] if text.endswith("T00:00") else text.replace("T", " "))


def find_moves(bars: pd.DataFrame) -> list[Move]:
    """Returns the moves of ONE symbol's bars that look impossible, by time."""
    close, open_ = bars["close"].to_numpy(np.float64), bars["open"].to_numpy(np.float64)
    moves, gaps = np.log(close[1:] / close[:-1]), np.log(open_[1:] / close[:-1])
    if not len(moves):
        return []
    scale = 1.5 * float(np.median(np.abs(moves)))
    least = max(_LEAST, _LEAST_SCALES * scale)
    jumps = np.flatnonzero((np.abs(moves) >= least) | (np.abs(gaps) >= least)) + 1
    suspects, done = _spikes(bars, open_, close, scale), 0
    for row in jumps.tolist():
        if row < done:
            continue
        gap, move = float(gaps[row - 1]), float(moves[row - 1])
        back = _row_back(close, row, gap, move, least, scale)
        kind, size = "", gap
        if _time_of(bars, row) - _time_of(bars, row - 1) > _TAKEN_AFTER:
            kind = TAKEN
        elif back:
            size, done = max(gap, move, key=abs), back + 1
            kind = BAD if abs(size) >= _LEAST_BACK else ""
        elif abs(gap) >= least and abs(move - gap) <= abs(gap) / 2:
            kind = SPLIT if _like_split(gap, bars["volume"], row) else ""
        if kind and abs(size) >= least:
            suspects.append(_move(bars, kind, row, size))
    return sorted(suspects, key=lambda move: move.row)


def move_notes(moves: Iterable[Move], advice: str = "") -> Iterator[str]:
    """Yields a sentence for each of the first moves of a kind, and how many more there are.

    Args:
        moves: of many symbols.
        advice: what to do about splits, behind the first one.
    """
    by_kind: dict[str, list[Move]] = {}
    for move in moves:
        by_kind.setdefault(move.kind, []).append(move)
    for kind, of_kind in by_kind.items():
        for place, move in enumerate(of_kind[:_MOST_TOLD]):
            yield str(move) + (f"; {advice}" if advice and kind == SPLIT and not place else "")
        more = len(of_kind) - _MOST_TOLD
        if more > 0:
            yield ngettext("... and {n} more such bar", "... and {n} more such bars", more)


def advice() -> str:
    """Returns what to do about splits."""
    return _("--adjust-splits scales the bars before it")


def adjust_splits(bars: pd.DataFrame) -> tuple[pd.DataFrame, list[Move]]:
    """Returns bars whose past is scaled to the newest prices, and the splits that were found.

    Prices before a split are multiplied by its ratio, volumes divided by it. The frame that was
    given stays as it is.

    Args:
        bars: as `data.bars.read.read_bars` returns them.
    """
    factors, splits = np.ones(len(bars)), []
    bounds = symbol_bounds(bars["symbol"].cat.codes.to_numpy())
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        for move in find_moves(bars.iloc[start:stop]):
            if move.kind == SPLIT:
                splits.append(move)
                factors[start : start + move.row] *= move.whole
    if splits:
        scaled = {name: bars[name].to_numpy(np.float64) * factors for name in PRICES}
        volume = bars["volume"].to_numpy(np.float64) / factors
        bars = bars.assign(**scaled, volume=volume)
    return bars, splits


def _spikes(bars: pd.DataFrame, open_: np.ndarray, close: np.ndarray, scale: float) -> list[Move]:
    """Returns the bars whose high or low alone is far from where they open and close."""
    above = np.log(bars["high"].to_numpy(np.float64) / np.maximum(open_, close))
    below = np.log(bars["low"].to_numpy(np.float64) / np.minimum(open_, close))
    far = np.flatnonzero(np.maximum(above, -below) >= max(_LEAST_SPIKE, _LEAST_SCALES * scale))
    sizes = [max(float(above[row]), float(below[row]), key=abs) for row in far]
    return [_move(bars, BAD, row, size) for row, size in zip(far.tolist(), sizes, strict=True)]


def _move(bars: pd.DataFrame, kind: str, row: int, size: float) -> Move:
    where = _time_of(bars, max(row - 1, 0)), _time_of(bars, row)
    return Move(kind, str(bars["symbol"].iloc[0]), row, *where, float(np.exp(size)))


def _time_of(bars: pd.DataFrame, row: int) -> np.datetime64:
    return bars["timestamp"].iloc[row : row + 1].to_numpy("datetime64[ns]")[0]


def _row_back(close, row: int, gap: float, move: float, least: float, scale: float) -> int:
    """Returns the row in which a jump comes back soon, 0 if it stays."""
    if abs(gap) >= least and abs(move) <= abs(gap) / 5:  # within the bar
        return row
    if abs(move) < least:
        return 0
    for later in range(row + 1, min(row + 1 + _BACK_WITHIN_BARS, len(close))):
        if abs(np.log(close[later] / close[row - 1])) <= abs(move) / 10 + 4 * scale:
            return later
    return 0


def _like_split(gap: float, volume: pd.Series, row: int) -> bool:
    """Says whether a jump between two bars is near a whole ratio, and volume does not gainsay it.

    After news the price jumps and volume with it; after a reverse split there is less of it.
    """
    size = float(np.exp(abs(gap)))
    if size >= _SURE:
        return True
    if not any(abs(size / whole - 1) <= _NEAR for whole in (1.5, max(round(size), 2))):
        return False
    before = float(volume.iloc[max(row - _VOLUME_BARS, 0) : row].median())
    after = float(volume.iloc[row : row + _VOLUME_BARS].median())
    news = gap > 0 and before > 0 and after > before * np.exp(gap / 2)
    return not news
