"""When the other symbols of a symbol's exchange trade: what tells a closed day from lost bars.

Which symbols share an exchange is learnt from the days on which they trade.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

DAY = 86_400_000_000_000  # nanoseconds
_UNIT = 300_000_000_000  # five minutes, at a multiple of which every exchange opens and closes
# Two symbols share an exchange if one trades on hardly any day on which the other does not: two
# exchanges differ by three days of a hundred or more, lost and stray days are rarer.
_STRAY_DAYS = 0.005
# It is open where this share of the symbols that are listed then have bars: some sources have
# single bars on holidays.
_OPEN_SHARE = 0.05


@dataclass(frozen=True)
class Peers:
    """When symbols of an exchange trade, in units of five minutes.

    Attributes:
        first: the first unit since 1970.
        opened: how many of the units from `first` on were open before each, int32 (units + 1,).
    """

    first: int
    opened: np.ndarray

    def trade(self, times: np.ndarray, slot: int) -> np.ndarray:
        """Says where a bar of the exchange opens in the slots at some times, bool (times,).

        Args:
            times: nanoseconds since 1970, (times,).
            slot: its length in nanoseconds; one above the unit has its time in its middle.
        """
        if slot <= _UNIT:
            low = times // _UNIT
            high = low + 1
        else:  # rounded up
            low, high = -((slot // 2 - times) // _UNIT), -((-slot // 2 - times) // _UNIT)
        last = len(self.opened) - 1
        before = self.opened[np.clip(low - self.first, 0, last)]
        return self.opened[np.clip(high - self.first, 0, last)] > before


class _Exchange:
    """Symbols that trade on the same days: those days, and in how many of them each hour does."""

    def __init__(self, num_days: int):
        self.days = np.zeros(num_days, bool)
        self.first, self.last, self.members = num_days, -1, []

    def fits(self, days: np.ndarray) -> bool:
        """Says whether a symbol that trades on these days, rising, may be of the exchange."""
        low, high = max(days[0], self.first), min(days[-1], self.last)
        overlap = days[np.searchsorted(days, low) : np.searchsorted(days, high, side="right")]
        if not len(overlap):
            return False
        shared = int(self.days[overlap].sum())
        others = int(self.days[low : high + 1].sum())
        alone = min(len(overlap) - shared, others - shared)
        return alone <= _STRAY_DAYS * max(len(overlap), others)

    def add(self, symbol: str, days: np.ndarray) -> None:
        """Adds a symbol."""
        self.days[days] = True
        self.first, self.last = min(days[0], self.first), max(days[-1], self.last)
        self.members.append(symbol)


def learn_peers(bars: pd.DataFrame) -> dict[str, Peers]:
    """Returns when others of its exchange trade, for each symbol that has any.

    What trades on every day of the week is left out: it is never closed.

    Args:
        bars: as `data.bars.read.read_bars` returns them.
    """
    times = _times(bars)
    days = {symbol: _changes(stamps // DAY) for symbol, stamps in times.items()}
    start = min((traded[0] for traded in days.values()), default=0)
    stop = max((traded[-1] for traded in days.values()), default=0) + 1
    exchanges: dict[tuple, list[_Exchange]] = {}
    for symbol in sorted(days, key=lambda name: len(days[name]), reverse=True):
        week, symbol_days = _weekdays(days[symbol]), days[symbol] - start
        if all(week):
            continue
        alike = exchanges.setdefault(week, [])
        exchange = next((one for one in alike if one.fits(symbol_days)), None)
        if exchange is None:
            exchange = _Exchange(stop - start)
            alike.append(exchange)
        exchange.add(symbol, symbol_days)
    known = {}
    for members in (one.members for alike in exchanges.values() for one in alike):
        if len(members) > 1:
            known |= dict.fromkeys(members, _peers([times[name] for name in members]))
    return known


def _times(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns every symbol's times in nanoseconds, views of the column."""
    codes = bars["symbol"].cat.codes.to_numpy()
    names = bars["symbol"].cat.categories
    times = bars["timestamp"].to_numpy("datetime64[ns]").view(np.int64)
    bounds = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    spans = zip(bounds[:-1], bounds[1:], strict=True)
    return {str(names[codes[start]]): times[start:stop] for start, stop in spans}


def _changes(values: np.ndarray) -> np.ndarray:
    """Returns rising values once each."""
    return values[np.diff(values, prepend=values[0] - 1) != 0]


def _weekdays(days: np.ndarray) -> tuple[bool, ...]:
    """Says on which days of the week a symbol trades in half of the weeks or more."""
    weeks = max((days[-1] - days[0]) / 7, 1)
    return tuple((np.bincount(days % 7, minlength=7) >= weeks / 2).tolist())


def _peers(times: list[np.ndarray]) -> Peers:
    """Returns when some symbols are open, of their times."""
    first = min(stamps[0] for stamps in times) // _UNIT
    size = max(stamps[-1] for stamps in times) // _UNIT - first + 1
    traded, listed = np.zeros(size, np.int32), np.zeros(size + 1, np.int32)
    for stamps in times:
        units = _changes(stamps // _UNIT) - first
        traded[units] += 1
        listed[units[0]] += 1
        listed[units[-1] + 1] -= 1
    listed = np.cumsum(listed[:-1], dtype=np.int32)
    opened = traded >= np.maximum(_OPEN_SHARE * listed, 1, dtype=np.float32)
    return Peers(int(first), np.concatenate([[0], np.cumsum(opened, dtype=np.int32)]))
