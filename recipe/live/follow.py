"""The newest closed bars of an exchange's symbols, once or at every next close."""

import dataclasses
from collections.abc import Iterator, Sequence

import pandas as pd

from core.i18n import _
from recipe.live.exchange import Exchange, check_symbols, timeframe_of
from recipe.live.pages import fetch_closed_bars
from recipe.live.timeframes import Timeframe

# An exchange may show a closed bar late, or none where nothing was traded.
POLL_S = 1
LATEST_SHARE = 0.5  # of a bar's length
LATEST_S = 30
TIMES = (1, 4, 16)  # how far back the newest bars are looked for, in times of their number
NAMES = ("open", "high", "low", "close", "volume")


def newest_bars(
    exchange: Exchange, symbols: Sequence[str], timeframe: str, num_bars: int
) -> pd.DataFrame:
    """Returns the newest `num_bars` closed bars of each symbol.

    Args:
        exchange: from `open_exchange`.
        symbols: ccxt's names, such as BTC/USDT.
        timeframe: such as 5m.
        num_bars: bars of each symbol; a symbol that has fewer is told by the exchange's `note`.

    Returns:
        A frame sorted by symbol, then time: `timestamp` (datetime64[ns, UTC], the bar's open),
        `symbol` (category), `open`, `high`, `low`, `close`, `volume` (float64).

    Raises:
        InputError: if the exchange lacks a symbol or the timeframe, refuses or stays away.
    """
    check_symbols(exchange, symbols)
    span = timeframe_of(exchange, timeframe)
    return _frame({name: _newest(exchange, name, span, num_bars) for name in symbols})


def follow(
    exchange: Exchange, symbols: Sequence[str], timeframe: str, num_bars: int
) -> Iterator[pd.DataFrame]:
    """Yields the newest closed bars now, then anew after every next close; never ends by itself.

    A frame holds only the symbols with a bar that was not yielded as the newest before. Network
    faults are waited out for ever. After a pause the missing bars are fetched, so that a frame has
    no hole; only the newest close is answered, and how many were missed is told.

    Args:
        exchange: from `open_exchange`; its `sleep` waits for the next close.
        symbols: ccxt's names, such as BTC/USDT.
        timeframe: such as 5m.
        num_bars: bars of each symbol.

    Yields:
        Frames like that of `newest_bars`.
    """
    exchange = dataclasses.replace(exchange, max_tries=None)
    check_symbols(exchange, symbols)
    span = timeframe_of(exchange, timeframe)
    asked_at = exchange.now_ms()
    kept = {name: _newest(exchange, name, span, num_bars) for name in symbols}
    # Weeks begin on Mondays here, on Thursdays there: the closes are those of the bars' own grid.
    grid = next((_last(rows) for rows in kept.values() if rows), 0)
    close = span.newest_close(asked_at, grid)
    fresh = {name for name in symbols if kept[name]}
    while True:
        if fresh:
            yield _frame({name: kept[name] for name in symbols if name in fresh})
        before = {name: _last(rows) for name, rows in kept.items()}
        close = _add_next_close(exchange, kept, span, grid, num_bars, span.close(close))
        fresh = {name for name in symbols if _last(kept[name]) > before[name]}
        for name in sorted(fresh):
            missed = span.missing(before[name], _last(kept[name]))
            if missed and before[name]:
                exchange.note(
                    _("{name}: {missed} closes went by without an answer", name=name, missed=missed)
                )


def _newest(exchange: Exchange, symbol: str, span: Timeframe, num_bars: int) -> list:
    now = exchange.now_ms()
    rows: list = []
    for times in TIMES:
        since = max((now // span.step_ms - times * num_bars) * span.step_ms, 0)
        pages = fetch_closed_bars(exchange, symbol, span.name, since)
        rows = [row for page in pages for row in page][-num_bars:]
        if len(rows) == num_bars:
            return rows
    exchange.note(
        _(
            "{symbol}: needs {num_bars} closed bars of {timeframe}, has {num_rows}",
            symbol=symbol,
            num_bars=num_bars,
            timeframe=span.name,
            num_rows=len(rows),
        )
    )
    return rows


def _add_next_close(
    exchange: Exchange, kept: dict[str, list], span: Timeframe, grid: int, num_bars: int, close: int
) -> int:
    """Waits for the close, adds what is new to `kept`, and returns the newest close by then."""
    now = _wait(exchange, close, span.step_ms)
    close, waiting = 0, []
    while True:
        newest = span.newest_close(now, grid)
        if newest > close:  # the first close, or one that came during a long fetch
            close, waiting = newest, list(kept)
        for name in waiting:
            kept[name] = _renewed(exchange, name, kept[name], span, num_bars)
        waiting = [name for name in waiting if span.close(_last(kept[name])) < close]
        now = exchange.now_ms()
        if span.newest_close(now, grid) > close:
            continue
        if not waiting:
            return close
        if now > close + min(LATEST_SHARE * span.step_ms, LATEST_S * 1000):
            exchange.note(
                _(
                    "no bar for the close at {close} UTC: {waiting}",
                    close=_time(close),
                    waiting=", ".join(waiting),
                )
            )
            return close
        exchange.sleep(POLL_S)
        now = exchange.now_ms()


def _wait(exchange: Exchange, close: int, longest_ms: int) -> int:
    now = exchange.now_ms()
    # A close further off than a bar comes from a clock that was wrong: it is not waited for.
    while now < close <= now + longest_ms:
        exchange.sleep((close - now) / 1000)
        now = exchange.now_ms()
    return now


def _renewed(exchange: Exchange, symbol: str, rows: list, span: Timeframe, num_bars: int) -> list:
    if rows:
        for page in fetch_closed_bars(exchange, symbol, span.name, span.following(_last(rows))):
            rows = (rows + page)[-num_bars:]
        return rows
    since = (exchange.now_ms() // span.step_ms - num_bars) * span.step_ms
    pages = fetch_closed_bars(exchange, symbol, span.name, since)
    return [row for page in pages for row in page][-num_bars:]


def _last(rows: list) -> int:
    return int(rows[-1][0]) if rows else 0


def _time(milliseconds: int) -> str:
    return f"{pd.Timestamp(milliseconds, unit='ms'):%Y-%m-%d %H:%M}"


def _frame(kept: dict[str, list]) -> pd.DataFrame:
    names = sorted(kept)
    rows = [row for name in names for row in kept[name]]
    times = pd.to_datetime([int(row[0]) for row in rows], unit="ms", utc=True)
    codes = [code for code, name in enumerate(names) for _ in kept[name]]
    frame = pd.DataFrame({"timestamp": times.astype("datetime64[ns, UTC]")})
    frame["symbol"] = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(names))
    for place, name in enumerate(NAMES, start=1):
        frame[name] = [float(row[place]) for row in rows]
    return frame
