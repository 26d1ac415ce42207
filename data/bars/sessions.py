"""When a symbol trades: how many bars are missing before each bar, and what is only closed.

The calendar is learnt from the bars: hours of the week that trade, and of these the sessions, runs
of hours between which it is closed. A market is closed where nobody trades: from the end of one
session to a later one, a gap counts only the bars at whose times other symbols of the exchange
have some (`data.bars.peers`). Within a session every bar counts. What trades around the clock has
no sessions.
"""

from dataclasses import dataclass

import numpy as np

from data.bars.peers import Peers
from data.times.grid import DAY, bar_interval_ns

GAP_RULE = "sessions"  # what a model's contract calls the rule of this file
_WEEK = 7 * DAY
_MONDAY = 4 * DAY  # 1970-01-05, the first Monday of the epoch
USUAL_SHARE = 0.75  # a slot of the week trades usually if it does in this share of the weeks
_CLOSED_SHARE = 0.1  # and is closed if it does in at most this share
_EXPLAINED, _LONG_EXPLAINED = 0.5, 0.75  # share of the bars that a calendar must explain
_HALF_HOUR = 1_800_000_000_000  # nanoseconds
_AT_NIGHT = 12 * _HALF_HOUR  # such steps say nothing of how thin the bars of a session are
_SECOND = 1_000_000_000
# Whoever trades, a longer gap is a hole. The longest holidays of exchanges (Lunar New Year in
# Taipei, both Eids in Riyadh) close 13 days from bar to bar; nothing is known of longer ones.
CLOSED_DAYS = 16


def missed_bars(timestamps: np.ndarray, peers: Peers | None = None) -> np.ndarray:
    """Returns how many bars that usually trade are missing before each bar but the first.

    The week is divided into slots at which bars open. A slot is usual if it trades in at least
    three quarters of the weeks that have bars, so nights, weekends and the hours that summer time
    moves do not count as missing, and a month without bars is no habit. Below three weeks there is
    too little to learn from: then a time of day that never trades on any of three days or more is
    not usual, nor is a Saturday or Sunday that never trades. Where slots are seldom usual, as where
    many minutes have no trade, half hours are learnt instead, and a missing slot counts as the
    share of a bar that such slots have. Where no calendar explains the bars, every slot counts.

    A gap from one session to another counts the bars at times when other symbols trade. Of a
    session cut short the closing early and the opening late are the same: only one of both is
    believed, the other side counts. Without other symbols whole sessions are taken for closed
    days, up to `CLOSED_DAYS`.

    The calendar is learnt from all bars: it decides which windows exist, and where features begin
    anew after a hole.

    Args:
        timestamps: datetime64 (bars,) of one symbol, rising.
        peers: when other symbols of its exchange trade; None: not known.

    Returns:
        int64 (bars - 1,).

    Examples:
        >>> hours = np.arange("2024-01-01", "2024-01-02", dtype="datetime64[h]")
        >>> missed_bars(np.delete(hours, [5, 6]))[3:6].tolist()
        [0, 2, 0]
    """
    times = timestamps.astype("datetime64[ns]", copy=False).view(np.int64)
    missed = np.zeros(max(len(times) - 1, 0), np.int64)
    interval = bar_interval_ns(timestamps) if len(times) > 1 else 1
    # A slot is as long as the bar or a part of it: most steps say that no bar is missing.
    gaps = np.flatnonzero(np.diff(times) >= 1.5 * interval)
    if not len(gaps):
        return missed
    calendar = _calendar(times, interval)
    if calendar is None:
        counts = np.round(np.diff(times)[gaps] / interval) - 1
        missed[gaps] = np.round(counts * _density(times, interval))
        return missed
    missed[gaps] = calendar.missed(times[gaps], times[gaps + 1], peers)
    return missed


@dataclass(frozen=True)
class _Calendar:
    """The week of a symbol; where it is ever closed, from a closed slot on.

    Attributes:
        origin: time of slot 0 of some week, nanoseconds.
        slot: length of a slot, nanoseconds.
        usual: whether a slot usually trades, bool (slots of a week,).
        density: bars that a usual slot has.
        starts: first slots of the sessions, rising; empty where it is never closed.
    """

    origin: int
    slot: int
    usual: np.ndarray
    density: float
    starts: np.ndarray

    def missed(self, before: np.ndarray, after: np.ndarray, peers: Peers | None) -> np.ndarray:
        """Returns the bars missing between the times of two bars each, (gaps,)."""
        first, last = self.steps(before) + 1, self.steps(after)
        total = np.maximum(self.count(last) - self.count(first), 0)
        gaps = np.flatnonzero(total)
        if len(gaps) and len(self.starts):
            total[gaps] = self._within_sessions(first[gaps], last[gaps], total[gaps], peers)
        return np.round(total * self.density).astype(np.int64)

    def steps(self, times: np.ndarray) -> np.ndarray:
        """Returns the slots of times, counted from the origin."""
        return (times - self.origin + self.slot // 2) // self.slot

    def count(self, steps: np.ndarray) -> np.ndarray:
        """Returns how many usual slots lie before each slot."""
        weeks, slots = np.divmod(steps, len(self.usual))
        below = np.concatenate([[0], np.cumsum(self.usual)])
        return weeks * below[-1] + below[slots]

    def _within_sessions(self, first, last, total, peers: Peers | None) -> np.ndarray:
        """Returns the missing bars of gaps less those of closed sessions.

        Args:
            first: slots after the bars before the gaps, (gaps,).
            last: slots of the bars after them.
            total: usual slots between.
            peers: when others trade.
        """
        end, begin = self._session(first - 1)[1], self._session(last)[0]
        tail, head = self.count(end) - self.count(first), self.count(last) - self.count(begin)
        short = (last - first) * self.slot <= CLOSED_DAYS * DAY
        spans = (end <= begin) & short  # another session
        missed = np.where(spans, np.minimum(tail, head), total)
        if peers is not None:
            open_ = self._open(first, np.where(spans, last, first), peers)
            missed = np.where(spans, np.maximum(missed, open_), missed)
        return missed

    def _session(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first slots of the sessions that slots belong to, and of the next ones."""
        weeks, slots = np.divmod(steps, len(self.usual))
        places = np.searchsorted(self.starts, slots, side="right")
        bounds = np.concatenate([self.starts, [len(self.usual)]])
        weeks = weeks * len(self.usual)
        return weeks + bounds[places - 1], weeks + bounds[places]

    def _open(self, first: np.ndarray, last: np.ndarray, peers: Peers) -> np.ndarray:
        """Returns in how many usual slots of each gap others trade, (gaps,)."""
        lengths = last - first
        gap = np.repeat(np.arange(len(first)), lengths)
        slots = np.arange(lengths.sum()) + np.repeat(last - np.cumsum(lengths), lengths)
        usual = self.usual[slots % len(self.usual)]
        gap, times = gap[usual], self.origin + slots[usual] * self.slot
        return np.bincount(gap, weights=peers.trade(times, self.slot), minlength=len(first))


def _calendar(times: np.ndarray, interval: int) -> _Calendar | None:
    """Returns what the bars of a symbol say of its week; None if no week explains them."""
    slot = int(np.gcd(interval, DAY)) if interval < DAY else interval
    if _WEEK % slot or slot < _SECOND:
        return None
    origin = _origin(times[0], slot)
    steps = (times - origin + slot // 2) // slot
    usual, closed = _learnt(steps, _WEEK // slot)
    if usual.sum() * interval > 1.1 * _WEEK:  # too few bars for slots shorter than a bar
        return None
    if usual[steps % len(usual)].mean() >= _EXPLAINED:
        return _from_closed(origin, slot, usual, closed, 1.0)
    # In thin minutes no slot is usual but half hours are; so are longer times where longer bars
    # begin at other minutes in summer.
    long = _HALF_HOUR << int((interval - 1) // _HALF_HOUR).bit_length()
    if long <= slot or long >= DAY or long % slot:
        return None
    slots_of_long = _learnt(steps // (long // slot), _WEEK // long)
    usual, closed = (np.repeat(slots, long // slot) for slots in slots_of_long)
    if usual[steps % len(usual)].mean() < _LONG_EXPLAINED:
        return None
    return _from_closed(origin, slot, usual, closed, _density(times, interval) * slot / interval)


def _from_closed(origin: int, slot: int, usual, closed, density: float) -> _Calendar:
    """Returns the calendar whose week begins amid its longest closed time, if it has any."""
    if not closed.any():
        return _Calendar(origin, slot, usual, density, np.zeros(0, np.int64))
    turned = np.roll(closed, -int(closed.argmin()))  # begins with a slot that is not closed
    longest = max(_runs(turned), key=len)
    first = (int(longest[len(longest) // 2]) + int(closed.argmin())) % len(closed)
    starts = _session_starts(np.roll(closed, -first), max(DAY // slot, 1))
    return _Calendar(origin + first * slot, slot, np.roll(usual, -first), density, starts)


def _origin(first: int, slot: int) -> int:
    """Returns a Monday's first slot that the first bar's time is a whole number of slots after.

    Slots are centred on that time, so that small delays do not change a bar's slot.
    """
    monday = first - (first - _MONDAY) % _WEEK
    return monday + (first - monday) % slot


def _density(times: np.ndarray, interval: int) -> float:
    """Returns the share of slots that have a bar where bars are thin, 1 where they are not."""
    steps = np.diff(times)
    steps = steps[steps < max(_AT_NIGHT, 1.5 * interval)]
    share = float((steps < 1.5 * interval).mean()) if len(steps) else 1.0
    return share if share < USUAL_SHARE else 1.0


def _learnt(steps: np.ndarray, per_week: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which slots of the week usually trade, and which are closed, bool (slots,) each."""
    steps = steps[np.diff(steps, prepend=steps[0] - 1) != 0]  # they rise
    traded = np.bincount(steps % per_week, minlength=per_week)
    weeks = steps[np.flatnonzero(np.diff(steps // per_week, prepend=-1))] // per_week
    if steps[-1] - steps[0] >= 3 * per_week and len(weeks) >= 3:
        slots = np.arange(per_week)
        # The first week and the last are offered from the first bar and up to the last one only.
        cut = (slots < steps[0] % per_week) * 1 + (slots > steps[-1] % per_week)
        usual = traded >= np.maximum(USUAL_SHARE * (len(weeks) - cut), 1)
        return usual, ~usual & (traded <= _CLOSED_SHARE * len(weeks))
    per_day, rest = divmod(per_week, 7)
    days = (steps[-1] // max(per_day, 1)) - (steps[0] // max(per_day, 1)) + 1
    if rest or days < 3:
        return np.ones(per_week, bool), np.zeros(per_week, bool)
    by_day = traded.reshape(7, per_day)  # (weekday, time of day)
    usual = np.broadcast_to(by_day.any(axis=0), by_day.shape).copy()
    usual[5:] &= by_day[5:].any(axis=1, keepdims=True)
    return usual.reshape(-1), ~usual.reshape(-1)


def _session_starts(closed: np.ndarray, per_day: int) -> np.ndarray:
    """Returns the first slots of a week's sessions, rising; the week begins and ends closed.

    Slots between two sessions belong to the nearer one. A session lasts a day at the most, as in
    currencies that trade from Sunday to Friday.
    """
    starts = [0]
    for before, run in zip(_runs(closed)[:-1], _runs(closed)[1:], strict=True):
        if before[0]:
            starts.append(int(before[0] + before[-1] + 1) // 2)
        starts += range(int(before[-1]) + 1 + per_day, int(run[0]), per_day)
    return np.array(starts, np.int64)


def _runs(marked: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of every run of true values."""
    places = np.flatnonzero(marked)
    return np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
