"""Closed bars of an exchange's public market data, through ccxt: no keys, never an order."""

import difflib
import email.utils
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InputError
from core.i18n import N_, _

PAGE_BARS = 1000
# An empty page says nothing of where the next bar is; most exchanges look at least this far.
EMPTY_PAGE_BARS = 200
LONGEST_BACK_OFF_S = 60
CLOCK_TOLERANCE_S = 2
PASSING_STATUS = (408, 418, 429)


@dataclass
class Exchange:
    """An open exchange: ccxt's client, and how to wait for it.

    Args:
        client: ccxt's exchange, its rate limit switched on.
        note: called with a line for each wait and each oddity.
        sleep: waits for the given seconds.
        clock: this machine's time in seconds since 1970.
        max_tries: tries of one request before giving up; None waits for ever.
    """

    client: Any
    note: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    max_tries: int | None = 10
    clock_was_told: bool = False

    @property
    def name(self) -> str:
        """Returns ccxt's name of the exchange."""
        return self.client.id

    def ask(self, request: Callable, *args, **kwargs) -> Any:
        """Returns the answer to a request; waits out network faults, 429 and 5xx.

        Raises:
            InputError: if the exchange refuses, or `max_tries` ended without an answer.
        """
        import ccxt

        for tries in itertools.count(1):
            try:
                return request(*args, **kwargs)
            except ccxt.BaseError as error:
                response = _response(error)
                if not _passes(error, response):
                    raise InputError(
                        _("{name} refuses: {error}", name=self.name, error=_first_line(error))
                    ) from error
                if tries == self.max_tries:
                    raise InputError(
                        _(
                            "{name} gave no answer in {tries} tries ({error}); what has come is "
                            "kept: run the same command later",
                            name=self.name,
                            tries=tries,
                            error=_first_line(error),
                        )
                    ) from error
                wait_s = _wait_s(response, tries, self.clock)
                self.note(
                    _(
                        "{name}: {error}; next try in {wait_s:.0f} s",
                        name=self.name,
                        error=_first_line(error),
                        wait_s=wait_s,
                    )
                )
                self.sleep(wait_s)

    def now_ms(self) -> int:
        """Returns the exchange's own time in ms since 1970; this machine's where it tells none."""
        if not self.client.has.get("fetchTime"):
            return int(self.clock() * 1000)
        now = int(self.ask(self.client.fetch_time))
        ahead_s = self.clock() - now / 1000
        if abs(ahead_s) > CLOCK_TOLERANCE_S and not self.clock_was_told:
            self.clock_was_told = True
            told = (
                N_(
                    "this machine's clock is {seconds:.0f} s ahead of {name}'s; "
                    "the exchange's time is used"
                )
                if ahead_s > 0
                else N_(
                    "this machine's clock is {seconds:.0f} s behind {name}'s; "
                    "the exchange's time is used"
                )
            )
            self.note(_(told, seconds=abs(ahead_s), name=self.name))
        return now


def open_exchange(
    name: str, *, note: Callable[[str], None] = lambda text: None, **waiting
) -> Exchange:
    """Returns the exchange of that name, with its rate limit on and without any key.

    Args:
        name: one of ccxt's names, such as binance.
        note: called with a line for each wait.
        waiting: `sleep`, `clock` and `max_tries` of `Exchange`.

    Raises:
        InputError: if ccxt is not installed, or knows no such exchange.
    """
    try:
        import ccxt
    except ImportError as error:
        raise InputError(
            _("an exchange needs the extra `live`, which is not installed: pip install '.[live]'")
        ) from error
    if name not in ccxt.exchanges:
        raise InputError(
            _(
                "need the name of an exchange, got {name}{hint}",
                name=name,
                hint=_near(name, ccxt.exchanges),
            )
        )
    return Exchange(getattr(ccxt, name)({"enableRateLimit": True}), note, **waiting)


def bar_ms(exchange: Exchange, timeframe: str) -> int:
    """Returns a bar's length in ms; raises an InputError where the exchange has no such bars."""
    known = exchange.client.timeframes or {}
    if not exchange.client.has.get("fetchOHLCV") or timeframe not in known:
        raise InputError(
            _(
                "{exchange} has bars of {known}; got {timeframe}",
                exchange=exchange.name,
                known=", ".join(known) or _("no timeframe"),
                timeframe=timeframe,
            )
        )
    return exchange.client.parse_timeframe(timeframe) * 1000


def check_symbols(exchange: Exchange, symbols: Sequence[str]) -> None:
    """Raises an InputError with a line for each symbol that the exchange does not have."""
    if not symbols:
        raise InputError(_("need at least one symbol, such as BTC/USDT; got none"))
    markets = exchange.ask(exchange.client.load_markets)
    faults = [
        f"{exchange.name} has no symbol {symbol}{_near(symbol, list(markets))}"
        for symbol in symbols
        if symbol not in markets
    ]
    if len(set(symbols)) < len(symbols):
        faults.append(_("each symbol must be named once"))
    if faults:
        raise InputError(faults)


def fetch_closed_bars(
    exchange: Exchange, symbol: str, timeframe: str, since_ms: int
) -> Iterator[list[list[float]]]:
    """Yields pages of closed bars in the order of time, each bar once, no page empty.

    A bar is closed if open + timeframe <= the exchange's time before the page was asked for.

    Args:
        exchange: from `open_exchange`.
        symbol: ccxt's name, such as BTC/USDT.
        timeframe: such as 5m.
        since_ms: the earliest open, in ms since 1970.

    Yields:
        Lists of [open time in ms, open, high, low, close, volume].
    """
    check_symbols(exchange, [symbol])
    step, now, was_empty = bar_ms(exchange, timeframe), 0, False
    while True:
        if since_ms + PAGE_BARS * step >= now:
            now = exchange.now_ms()
        end = now - step
        if since_ms > end:
            return
        rows = exchange.ask(
            exchange.client.fetch_ohlcv, symbol, timeframe, since=since_ms, limit=PAGE_BARS
        )
        page = _in_order(exchange, symbol, rows, since_ms, end)
        if page:
            yield page
            since_ms, was_empty = int(page[-1][0]) + step, False
        elif any(row[0] > end for row in rows):
            return
        elif not was_empty:
            was_empty = True  # asked once more, as a passing fault must not become a gap
        elif since_ms + EMPTY_PAGE_BARS * step > end:
            return
        else:
            exchange.note(
                _(
                    "{symbol}: an empty page at {since_ms}",
                    symbol=symbol,
                    since_ms=exchange.client.iso8601(since_ms),
                )
            )
            since_ms, was_empty = since_ms + EMPTY_PAGE_BARS * step, False


def _in_order(exchange: Exchange, symbol: str, rows: list, first: int, last: int) -> list:
    there = {int(row[0]): row[:6] for row in rows if first <= row[0] <= last}
    whole = [there[when] for when in sorted(there) if None not in there[when]]
    if len(whole) < len(there):
        exchange.note(
            _(
                "{symbol}: {num_bars} bars without prices are left out",
                symbol=symbol,
                num_bars=len(there) - len(whole),
            )
        )
    return whole


def _response(error: BaseException):
    """Returns the HTTP response that an error of ccxt comes from, or None."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            return response
        cause = cause.__cause__ or cause.__context__
    return None


def _passes(error: BaseException, response) -> bool:
    """Says whether the same request may succeed later."""
    import ccxt

    if isinstance(error, ccxt.DDoSProtection):
        return True
    if response is None:
        return isinstance(error, ccxt.NetworkError)
    return response.status_code >= 500 or response.status_code in PASSING_STATUS


def _wait_s(response, tries: int, clock: Callable[[], float]) -> float:
    back_off = float(min(2 ** (tries - 1), LONGEST_BACK_OFF_S))
    asked = "" if response is None else response.headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return max(float(asked), back_off)
    try:
        return max(email.utils.parsedate_to_datetime(asked).timestamp() - clock(), back_off)
    except ValueError:
        return back_off


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


def _near(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.upper(), [name.upper() for name in words], 3, 0.5)
    names = {name.upper(): name for name in words}
    return _("; near: {names}", names=", ".join(names[name] for name in near)) if near else ""
