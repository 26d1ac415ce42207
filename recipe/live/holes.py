"""Checks that an exchange's pages hold every bar it has, and fetches what they left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.errors import InputError
from core.i18n import _, ngettext
from recipe.live.exchange import Exchange, timeframe_of
from recipe.live.pages import (
    EMPTY_PAGE_BARS,
    PAGE_BARS,
    ask_bars,
    fetch_closed_bars,
    only_sound,
    utc,
)
from recipe.live.timeframes import Timeframe

# A page with bars left out is requested again in smaller steps: some exchanges count from the
# wrong end.
STEPS_BARS = (EMPTY_PAGE_BARS, 50, 10)
MOST_STEPS = 300  # taken while looking for the end of a hole
LATE_END_BARS = 10  # without a trade, after which a market is reported as ended


class Unreachable(InputError):
    """The exchange must have these bars, but does not deliver them."""


def fetch_whole_bars(
    exchange: Exchange, symbol: str, timeframe: str, since_ms: int, last_ms: int | None = None
) -> Iterator[list[list[float]]]:
    """Yields the pages of `fetch_closed_bars` with their holes filled.

    Where a page begins late or leaves bars out, the missing ones are requested again from the last
    bar before them, in smaller steps and with an end time where the exchange takes one. An answer
    that shows the bar before the hole and none inside it means that nothing was traded there; this
    is reported, as is a market that begins later or ends earlier than requested.

    Args:
        exchange: from `open_exchange`.
        symbol: ccxt's name, such as BTC/USDT.
        timeframe: such as 5m.
        since_ms: the earliest open, in ms since 1970; given `last_ms`, the open that follows it.
        last_ms: the last open that is already kept.

    Raises:
        Unreachable: if the exchange no longer shows the bar before a hole, so that what is missing
            cannot be known; the message names the span. Everything yielded before is complete.
    """
    span = timeframe_of(exchange, timeframe)
    holes = _Holes(exchange, symbol, span)
    last = last_ms
    try:
        for page in fetch_closed_bars(exchange, symbol, timeframe, since_ms):
            early = holes.before_the_first(since_ms, int(page[0][0])) if last is None else []
            for whole in holes.closed(last, early + page):
                yield whole
                last = int(whole[-1][0])
        while last is not None and (late := holes.after_the_last(last)):
            for whole in holes.closed(last, late):
                yield whole
                last = int(whole[-1][0])
    finally:
        holes.tell()


@dataclass
class _Holes:
    """The holes between one symbol's bars, what a second request brought, and the notes on it."""

    exchange: Exchange
    symbol: str
    span: Timeframe
    answer: dict[int, list[float]] = field(default_factory=dict)  # sound bars of the last request
    shown: tuple[int, int] = (0, -1)  # the opens between which the last request shows all
    num_fetched: int = 0
    empty: list[tuple[int, int, int]] = field(default_factory=list)  # bars missing, after, before

    def closed(self, last: int | None, page: list) -> Iterator[list]:
        """Yields the page with its holes filled, and the hole before it."""
        whole: list = []
        try:
            for bar in page:
                when = int(bar[0])
                if last is not None and self.span.missing(last, when):
                    for missing_bar in self._between(last, when):
                        whole.append(missing_bar)
                        if len(whole) >= PAGE_BARS:
                            yield whole
                            whole = []
                whole.append(bar)
                last = when
        except Unreachable:
            if whole:
                yield whole
            raise
        if whole:
            yield whole

    def before_the_first(self, since: int, first: int) -> list[list[float]]:
        """Returns requested bars that lie before the first one received, or nothing."""
        if first < since + self.span.step_ms or self.span.missing(since, first) == 0:
            return []
        bars = self._from(since, first)
        shortly_before = max(since, first - STEPS_BARS[1] * self.span.step_ms)
        if not bars and self._from(shortly_before, first):
            for begin in range(since, first, EMPTY_PAGE_BARS * self.span.step_ms):
                if bars := self._from(begin, first):
                    bars = self._later(begin, int(bars[0][0]), STEPS_BARS[1:]) or bars
                    break
        self.num_fetched += len(bars)
        first = int(bars[0][0]) if bars else first
        if first >= since + self.span.step_ms:
            self.exchange.note(
                _(
                    "{symbol}: asked for bars since {since} UTC, but {exchange} has them only "
                    "from {first} UTC on",
                    symbol=self.symbol,
                    since=utc(since),
                    exchange=self.exchange.name,
                    first=utc(first),
                )
            )
        return bars

    def after_the_last(self, last: int) -> list[list[float]]:
        """Returns the bars that closed after the last one received, where a market seems to end."""
        now = self.exchange.now_ms()
        if self.span.missing(last, now) < 2:
            return []
        bars = self._after(last, now)
        bars = [bar for bar in bars if self.span.close(int(bar[0])) <= now]
        self.num_fetched += len(bars)
        if not bars and self.span.missing(last, now) >= LATE_END_BARS:
            self.exchange.note(
                _(
                    "{symbol}: the bars of {exchange} end at {last} UTC",
                    symbol=self.symbol,
                    exchange=self.exchange.name,
                    last=utc(last),
                )
            )
        return bars

    def tell(self) -> None:
        """Notes what the second request brought, and where nothing was traded."""
        if self.num_fetched:
            self.exchange.note(
                ngettext(
                    "{symbol}: {n} bar that {exchange} had left out came when asked for again",
                    "{symbol}: {n} bars that {exchange} had left out came when asked for again",
                    self.num_fetched,
                    symbol=self.symbol,
                    exchange=self.exchange.name,
                )
            )
        if self.empty:
            num_bars, after, before = max(self.empty)
            self.exchange.note(
                ngettext(
                    "{symbol}: {exchange} has no bars for {n} gap ({num_bars} missing): the "
                    "longest is between {after} and {before} UTC ({longest})",
                    "{symbol}: {exchange} has no bars for {n} gaps ({num_bars} missing): the "
                    "longest is between {after} and {before} UTC ({longest})",
                    len(self.empty),
                    symbol=self.symbol,
                    exchange=self.exchange.name,
                    num_bars=sum(hole[0] for hole in self.empty),
                    after=utc(after),
                    before=utc(before),
                    longest=num_bars,
                )
            )

    def _between(self, after: int, before: int) -> Iterator[list[float]]:
        """Yields the bars between two opens; notes where the exchange shows that there are none."""
        while self.span.missing(after, before):
            bars = self._known(after, before)
            if bars is None:
                bars = self._after(after, before)
            self.num_fetched += len(bars)
            for bar in bars:
                self._note_hole(after, int(bar[0]))
                yield bar
                after = int(bar[0])
            if not bars:
                self._note_hole(after, before)
                return

    def _note_hole(self, after: int, before: int) -> None:
        if num_bars := self.span.missing(after, before):
            self.empty.append((num_bars, after, before))

    def _known(self, after: int, before: int) -> list[list[float]] | None:
        """Returns the bars between two opens where the last request shows them all, else None."""
        if not self.shown[0] <= after < before <= self.shown[1]:
            return None
        return [self.answer[when] for when in sorted(self.answer) if after < when < before]

    def _from(self, since: int, before: int) -> list[list[float]]:
        """Returns bars that open from `since` on and before a hole's end, if any came."""
        best: list[list[float]] = []
        for num_bars in STEPS_BARS:
            bars = self._asked_again(since, before, num_bars)[0]
            best = bars if bars and (not best or bars[0][0] < best[0][0]) else best
            if best and best[0][0] < since + self.span.step_ms:
                break
        return best

    def _after(self, last: int, before: int) -> list[list[float]]:
        """Returns the bars between two opens; empty if the exchange shows that there are none."""
        for place, num_bars in enumerate(STEPS_BARS):
            bars, times = self._asked_again(last, before, num_bars)
            if last in times:
                self.shown = (last, max(times))
                bars = [bar for bar in bars if bar[0] > last]
                if bars or max(times) > last:
                    return bars
                begin = last + num_bars * self.span.step_ms
                return self._later(begin, before, STEPS_BARS[place:])
        raise Unreachable(
            _(
                "{symbol}: {exchange} no longer gives the {num_bars} bars between {after} and "
                "{before} UTC; what came before is kept: move the file away to start after the gap",
                symbol=self.symbol,
                exchange=self.exchange.name,
                after=utc(last),
                before=utc(before),
                num_bars=self.span.missing(last, before),
            )
        )

    def _later(self, begin: int, before: int, steps: Sequence[int]) -> list[list[float]]:
        """Returns the first bars in a hole, from an exchange that returns only a few at once."""
        num_bars, *finer = steps
        step = num_bars * self.span.step_ms
        for since in range(begin, min(before, begin + MOST_STEPS * step), step):
            bars, times = self._asked_again(since, before, num_bars)
            if bars:
                earlier = self._later(since, int(bars[0][0]), finer) if finer else []
                return earlier or bars
            if max(times, default=0) >= before:
                break
        return []

    def _asked_again(self, since: int, before: int, num_bars: int) -> tuple[list, set[int]]:
        """Returns the sound bars before a hole's end, and the opens of all bars received.

        The request starts a moment earlier: some exchanges return only bars that open after the
        requested time.
        """
        begin = max(since - 1, 0)
        until = begin + num_bars * self.span.step_ms
        rows = ask_bars(self.exchange, self.symbol, self.span, begin, num_bars, until)
        self.answer = {int(row[0]): row[:6] for row in only_sound(rows) if row[0] >= since}
        bars = [self.answer[when] for when in sorted(self.answer) if when < before]
        return bars, {int(row[0]) for row in rows}
