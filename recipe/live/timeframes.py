"""Lengths of bars: how exchanges name them, and which opens follow each other."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MONTHS = {"M": 1, "y": 12}
DAY_MS = 86_400_000
# The most days in a bar of so many months, and the days by which a file's bars are recognised.
LONGEST_DAYS = {1: 31, 2: 62, 3: 92, 4: 123, 6: 184, 12: 366}
MONTHS_OF_DAYS = {1: (28, 31), 3: (89, 92), 12: (364, 366)}


@dataclass(frozen=True)
class Timeframe:
    """The length of a bar.

    Args:
        name: the exchange's, such as 5m or 1M.
        step_ms: the length; for months, the longest possible.
        months: calendar months in a bar, 0 if all bars are equally long.
    """

    name: str
    step_ms: int
    months: int = 0

    def close(self, open_ms: int) -> int:
        """Returns when a bar closes, in ms; never too early, since no forming bar may be kept."""
        when = _utc(open_ms)
        if not self.months or _past_midnight_of_first(when):
            return open_ms + self.step_ms
        month = when.month - 1 + self.months
        return _ms(when.replace(year=when.year + month // 12, month=month % 12 + 1))

    def following(self, open_ms: int) -> int:
        """Returns the time in ms from which the next bar may open."""
        return open_ms + (1 if self.months else self.step_ms)

    def missing(self, before_ms: int, after_ms: int) -> int:
        """Returns how many bars lie between two opens."""
        if not self.months:
            return max(round((after_ms - before_ms) / self.step_ms) - 1, 0)
        # Half a day: some exchanges open their months at midnight in the Far East.
        before, after = (_utc(when + DAY_MS // 2) for when in (before_ms, after_ms))
        apart = 12 * (after.year - before.year) + after.month - before.month
        return max(apart // self.months - 1, 0)

    def newest_open(self, now_ms: int) -> int:
        """Returns the latest open in ms of a bar that can have closed by now."""
        if not self.months:
            return now_ms - self.step_ms
        this = _utc(now_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month = this.month - 1 - self.months
        return _ms(this.replace(year=this.year + month // 12, month=month % 12 + 1))

    def newest_close(self, now_ms: int, open_ms: int) -> int:
        """Returns the last close up to now, on the grid through the open of a bar."""
        if not self.months:
            return now_ms - (now_ms - open_ms) % self.step_ms
        close = open_ms
        while self.close(close) <= now_ms:
            close = self.close(close)
        return close


def parsed(name: str) -> Timeframe | None:
    """Returns the timeframe with a name such as 5m, 1w or 1M; None if it is not one."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhdwMy])", name, re.ASCII)
    if match is None:
        return None
    count, unit = int(match[1]), match[2]
    if unit in SECONDS:
        return Timeframe(name, count * SECONDS[unit] * 1000)
    months = count * MONTHS[unit]
    return Timeframe(name, LONGEST_DAYS.get(months, 31 * months) * DAY_MS, months)


def equal_span(wanted_name: str, known: list[str]) -> Timeframe | None:
    """Returns the timeframe among the known names that is as long as the wanted one.

    Seven days are a week and 60 minutes an hour, but 30 days are not a month.
    """
    wanted = parsed(wanted_name)
    timeframes = [parsed(name) for name in ([wanted_name] if wanted_name in known else known)]
    for one in filter(None, timeframes):
        if wanted and (one.step_ms, one.months) == (wanted.step_ms, wanted.months):
            return one
    return None


def name_of(seconds: float) -> str | None:
    """Returns the usual name of a bar's length: 5m, 4h, 1d, 1w, 1M; None if there is none."""
    days = seconds / 86_400
    if days in (28, 364):
        return f"{days / 7:g}w"
    for months, (shortest, longest) in MONTHS_OF_DAYS.items():
        if shortest <= days <= longest:
            return f"{months}M" if months < 12 else "1y"
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:g}{unit}"
    return None


def _past_midnight_of_first(when: datetime) -> bool:
    return when != when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)
