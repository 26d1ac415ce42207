"""Pages of an exchange's closed bars, as they come."""

from collections.abc import Iterator
from datetime import UTC, datetime

from core.i18n import _, ngettext
from recipe.live.answers import fault_of_rows, sound_rows
from recipe.live.exchange import Exchange, check_symbols, timeframe_of
from recipe.live.timeframes import Timeframe

PAGE_BARS = 1000
# An empty page does not tell where the next bar is; most exchanges look at least this far.
EMPTY_PAGE_BARS = 200


def fetch_closed_bars(
    exchange: Exchange,
    symbol: str,
    timeframe: str,
    since_ms: int,
    *,
    now_ms: int | None = None,
) -> Iterator[list[list[float]]]:
    """Yields pages of closed bars in order of time, each bar once, no page empty.

    A bar is closed if it ends before the exchange's time at the request of the page. Impossible
    bars are left out. Pages are taken as they come; `recipe.live.holes` checks them for holes.

    Args:
        exchange: from `open_exchange`.
        symbol: ccxt's name, such as BTC/USDT.
        timeframe: such as 5m.
        since_ms: the earliest open, in ms since 1970.
        now_ms: the exchange's time if it was fetched just now; by default it is fetched before
            every page that may reach it.

    Yields:
        Lists of [open time in ms, open, high, low, close, volume].
    """
    check_symbols(exchange, [symbol])
    span, now, was_empty = timeframe_of(exchange, timeframe), now_ms or 0, False
    while True:
        if now_ms is None and since_ms + PAGE_BARS * span.step_ms >= now:
            now = exchange.now_ms()
        if span.close(since_ms) > now:
            return
        rows = ask_bars(exchange, symbol, span, since_ms, PAGE_BARS)
        page = _in_order(exchange, symbol, rows, since_ms, span, now)
        if page:
            yield page
            since_ms, was_empty = span.following(int(page[-1][0])), False
        elif any(row[0] >= since_ms and span.close(int(row[0])) > now for row in rows):
            return
        elif not was_empty:
            was_empty = True  # requested once more: a passing fault must not become a gap
        elif since_ms + EMPTY_PAGE_BARS * span.step_ms > now:
            return
        else:
            exchange.note(
                _(
                    "{symbol}: an empty page at {since_ms}",
                    symbol=symbol,
                    since_ms=exchange.client.iso8601(since_ms),
                )
            )
            since_ms, was_empty = since_ms + EMPTY_PAGE_BARS * span.step_ms, False


def fetch_between(
    exchange: Exchange, symbol: str, timeframe: str, first_ms: int, last_ms: int
) -> list[list[float]]:
    """Returns the sound bars that open in a span, ends included, as the exchange has them now."""
    span, since, rows_by_open = timeframe_of(exchange, timeframe), first_ms, {}
    while since <= last_ms:
        num_bars = min(span.missing(since, last_ms) + 2, EMPTY_PAGE_BARS)
        until = min(last_ms + 1, since + num_bars * span.step_ms)
        rows = ask_bars(exchange, symbol, span, since, num_bars, until)
        there = {int(row[0]): row for row in only_sound(rows) if since <= row[0] <= last_ms}
        rows_by_open |= there
        since = max(span.following(max(there, default=0)), since + num_bars * span.step_ms)
    return [rows_by_open[when] for when in sorted(rows_by_open)]


def ask_bars(
    exchange: Exchange,
    symbol: str,
    span: Timeframe,
    since_ms: int,
    num_bars: int,
    until_ms: int | None = None,
) -> list:
    """Returns an exchange's rows as they come; the request has an end if the exchange takes one."""
    client, more = exchange.client, {}
    if until_ms is not None and _takes_an_end(client):
        more = {"params": {"until": until_ms}}
    return exchange.ask(
        client.fetch_ohlcv,
        symbol,
        span.name,
        since=since_ms,
        limit=num_bars,
        fault_of=fault_of_rows,
        **more,
    )


def _takes_an_end(client) -> bool:
    """Returns whether ccxt's method takes an end time, which only its docstring says."""
    return "params.until" in (client.fetch_ohlcv.__doc__ or "")


def only_sound(rows: list) -> list:
    """Returns the rows that are possible bars."""
    return [row for row, good in zip(rows, sound_rows(rows), strict=True) if good]


def _in_order(
    exchange: Exchange, symbol: str, rows: list, since_ms: int, span: Timeframe, now: int
) -> list:
    rows = [row for row in rows if row[0] >= since_ms and span.close(int(row[0])) <= now]
    there = {int(row[0]): row[:6] for row in only_sound(rows)}
    lost = {int(row[0]) for row in rows} - set(there)
    if lost:
        exchange.note(
            ngettext(
                "{symbol}: {n} impossible bar is left out, of {time} UTC",
                "{symbol}: {n} impossible bars are left out, the first of {time} UTC",
                len(lost),
                symbol=symbol,
                time=utc(min(lost)),
            )
        )
    return [there[when] for when in sorted(there)]


def utc(milliseconds: float) -> str:
    """Returns a time in ms as messages show it."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M}"
