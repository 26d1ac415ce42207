"""The newest closed bars of an exchange's symbols, once or at every next close."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from core.i18n import _
from recipe.live.exchange import Exchange, check_symbols, timeframe_of
from recipe.live.pages import fetch_closed_bars
from recipe.live.timeframes import Timeframe

# An exchange may show a closed bar late, or none at all if nothing was traded.
POLL_S = 1
LATEST_SHARE = 0.5  # of a bar's length
LATEST_S = 30
LATEST_TOGETHER_SHARE, LATEST_TOGETHER_S = 0.25, 60  # while waiting for all symbols
TIMES = (1, 4, 16)  # how far back to look for the newest bars, in multiples of their number
NAMES = ("open", "high", "low", "close", "volume")


def newest_bars(
    exchange: Exchange,
    symbols: Sequence[str],
    timeframe: str,
    num_bars: int | Mapping[str, int],
) -> pd.DataFrame:
    """Returns the newest `num_bars` closed bars of each symbol.

    Args:
        exchange: from `open_exchange`.
        symbols: ccxt's names, such as BTC/USDT.
        timeframe: such as 5m.
        num_bars: bars of each symbol, one number for all or one per symbol; the exchange's `note`
            names a symbol that has fewer.

    Returns:
        A frame sorted by symbol, then time: `timestamp` (datetime64[ns, UTC], the bar's open),
        `symbol` (category), `open`, `high`, `low`, `close`, `volume` (float64).

    Raises:
        InputError: if the exchange lacks a symbol or the timeframe, refuses or stays away.
    """
    check_symbols(exchange, symbols)
    span, wanted = timeframe_of(exchange, timeframe), _of_each(symbols, num_bars)
    return _frame({name: _newest(exchange, name, span, wanted[name]) for name in symbols})


def follow(
    exchange: Exchange,
    symbols: Sequence[str],
    timeframe: str,
    num_bars: int | Mapping[str, int],
    *,
    together: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yields the newest closed bars now, then again after every close; never ends by itself.

    A frame holds only the symbols that have a newer bar than in the frame before. Network faults
    are waited out for ever. After a pause the missing bars are fetched, so that a frame has no
    hole; only the newest close is answered, and the number of missed ones is noted.

    Args:
        exchange: from `open_exchange`; its `sleep` waits for the next close.
        symbols: ccxt's names, such as BTC/USDT.
        timeframe: such as 5m.
        num_bars: bars of each symbol, one number for all or one per symbol.
        together: whether a frame holds all symbols, also those without a new bar, with a longer
            wait for each bar; the caller reports which are missing.

    Yields:
        Frames like that of `newest_bars`.
    """
    exchange = dataclasses.replace(exchange, max_tries=None)
    check_symbols(exchange, symbols)
    span = timeframe_of(exchange, timeframe)
    wanted = _of_each(symbols, num_bars)
    asked_at = exchange.now_ms()
    kept = {name: _newest(exchange, name, span, wanted[name]) for name in symbols}
    # Weeks begin on Mondays here, on Thursdays there: the closes follow the bars' own grid.
    grid = next((_last(rows) for rows in kept.values() if len(rows)), 0)
    close = span.newest_close(asked_at, grid)
    fresh = [name for name in symbols if len(kept[name])]
    while True:
        if fresh:
            yield _frame({name: kept[name] for name in (symbols if together else fresh)})
        before = {name: _last(rows) for name, rows in kept.items()}
        close = _add_next_close(exchange, kept, span, grid, wanted, span.close(close), together)
        fresh = [name for name in symbols if _last(kept[name]) > before[name]]
        missed = {
            name: span.missing(before[name], _last(kept[name])) for name in fresh if before[name]
        }
        for text in _missed(missed, together):
            exchange.note(text)


def _of_each(symbols: Sequence[str], num_bars: int | Mapping[str, int]) -> Mapping[str, int]:
    return dict.fromkeys(symbols, num_bars) if isinstance(num_bars, int) else num_bars


def _missed(missed: Mapping[str, int], together: bool) -> Iterator[str]:
    """Yields a line for each symbol on how many closes went by."""
    if together and (count := min(missed.values(), default=0)):
        yield _("{missed} closes went by without an answer", missed=count)
    for name in [] if together else sorted(missed):
        if missed[name]:
            yield _(
                "{name}: {missed} closes went by without an answer",
                name=name,
                missed=missed[name],
            )


def _newest(exchange: Exchange, symbol: str, span: Timeframe, num_bars: int) -> np.ndarray:
    now = exchange.now_ms()
    rows = _array([])
    for times in TIMES:
        since = max((now // span.step_ms - times * num_bars) * span.step_ms, 0)
        pages = fetch_closed_bars(exchange, symbol, span.name, since)
        rows = _array([row for page in pages for row in page][-num_bars:])
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
    exchange: Exchange,
    kept: dict[str, np.ndarray],
    span: Timeframe,
    grid: int,
    wanted: Mapping[str, int],
    close: int,
    together: bool,
) -> int:
    """Waits for the close, adds new bars to `kept`, and returns the newest close by then."""
    share, seconds = LATEST_SHARE, LATEST_S
    if together:
        share, seconds = LATEST_TOGETHER_SHARE, LATEST_TOGETHER_S
    latest_ms = min(share * span.step_ms, seconds * 1000)
    now = _wait(exchange, close, span.step_ms)
    close, waiting, rounds = 0, [], 0
    while True:
        newest = span.newest_close(now, grid)
        if newest > close:  # the first close, or one that came during a long fetch
            close, waiting, rounds = newest, list(kept), 0
        for name in waiting:
            kept[name] = _renewed(exchange, name, kept[name], span, wanted[name], now)
        waiting = [name for name in waiting if span.close(_last(kept[name])) < close]
        now, rounds = exchange.now_ms(), rounds + 1
        if span.newest_close(now, grid) > close:
            continue
        if not waiting:
            return close
        # Of many symbols the first were requested right at the close: try them again, however late.
        if now > close + latest_ms and rounds > 1:
            if not together:
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
    # A close further off than a bar means that a clock was wrong: do not wait for it.
    while now < close <= now + longest_ms:
        exchange.sleep((close - now) / 1000)
        now = exchange.now_ms()
    return now


def _renewed(
    exchange: Exchange, symbol: str, rows: np.ndarray, span: Timeframe, num_bars: int, now: int
) -> np.ndarray:
    """Returns the rows with those added that have closed by `now`, the exchange's time."""
    since = span.following(_last(rows))
    if not len(rows):
        since = (now // span.step_ms - num_bars) * span.step_ms
    pages = fetch_closed_bars(exchange, symbol, span.name, since, now_ms=now)
    new = [row for page in pages for row in page]
    return np.concatenate([rows, _array(new)])[-num_bars:] if new else rows


def _array(rows: list) -> np.ndarray:
    """Returns bars as float64 (bars, 6): a list of lists takes six times the memory."""
    return np.array(rows, np.float64).reshape(-1, 1 + len(NAMES))


def _last(rows: np.ndarray) -> int:
    return int(rows[-1, 0]) if len(rows) else 0


def _time(milliseconds: int) -> str:
    return f"{pd.Timestamp(milliseconds, unit='ms'):%Y-%m-%d %H:%M}"


def _frame(kept: dict[str, np.ndarray]) -> pd.DataFrame:
    names = sorted(kept)
    rows = np.concatenate([kept[name] for name in names])
    times = pd.to_datetime(rows[:, 0].astype(np.int64), unit="ms", utc=True)
    codes = np.repeat(np.arange(len(names)), [len(kept[name]) for name in names])
    frame = pd.DataFrame({"timestamp": times.astype("datetime64[ns, UTC]")})
    frame["symbol"] = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(names))
    for place, name in enumerate(NAMES, start=1):
        frame[name] = rows[:, place]
    return frame
