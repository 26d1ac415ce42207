"""Closed bars of an exchange's public market data, through ccxt: no keys, never an order."""

import difflib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InputError
from core.i18n import N_, _
from recipe.live import answers
from recipe.live.timeframes import Timeframe, equal_span

DEADLINE_S = 60
CLOCK_TOLERANCE_S = 2
FAR_OFF_S = 86_400


class StaysAway(InputError):
    """The exchange gave no answer in all allowed tries: no need to try its other symbols."""


@dataclass
class Exchange:
    """An open exchange: ccxt's client, and how to wait for it.

    Args:
        client: ccxt's exchange, its rate limit switched on.
        note: called with a line for each wait and each oddity.
        sleep: waits for so many seconds.
        clock: this machine's time in seconds since 1970.
        max_tries: tries of one request before giving up; None to wait for ever.
    """

    client: Any
    note: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    max_tries: int | None = 10
    deadline_s: float = DEADLINE_S
    clock_was_told: bool = False

    @property
    def name(self) -> str:
        """Returns ccxt's name of the exchange."""
        return self.client.id

    def ask(
        self,
        request: Callable,
        *args,
        fault_of: Callable[[Any], str | None] = lambda answer: None,
        **kwargs,
    ) -> Any:
        """Returns the answer to a request, waiting out network faults, 429, 5xx and nonsense.

        Args:
            request: one of the client's methods.
            args: its positional arguments.
            fault_of: returns why an answer is unusable, or None.
            kwargs: its keyword arguments.

        Raises:
            InputError: if the exchange refuses, or gave no answer in `max_tries` tries.
        """
        import ccxt

        for tries in itertools.count(1):
            try:
                answer = answers.within(self.deadline_s, request, *args, **kwargs)
                fault = fault_of(answer)
                if fault is None:
                    return answer
                error: Exception = answers.Unreadable(fault)
            except (ccxt.BaseError, answers.Unreadable, *answers.BROKEN) as caught:
                error = caught
            self._wait_out(error, tries)

    def _wait_out(self, error: Exception, tries: int) -> None:
        reason = answers.first_line(error)
        if not answers.passes(error):
            raise InputError("{name} refuses: {error}", name=self.name, error=reason) from error
        if tries == self.max_tries:
            raise StaysAway(
                _(
                    "{name} gave no answer in {tries} tries ({error}); what has come is "
                    "kept: run the same command later",
                    name=self.name,
                    tries=tries,
                    error=reason,
                )
            ) from error
        wait_s = answers.wait_s(error, tries, self.clock)
        self.note(
            _(
                "{name}: {error}; next try in {wait_s:.0f} s",
                name=self.name,
                error=reason,
                wait_s=wait_s,
            )
        )
        if getattr(self.client, "session", None) is not None:
            answers.bound_answers(self.client)  # leaves a dripping answer to the old connection
        self.sleep(wait_s)

    def now_ms(self) -> int:
        """Returns the exchange's time in ms since 1970, or this machine's if it has none.

        If the two are more than a day apart, one is wrong, and there is no telling which: the
        earlier is used, since a forming bar must not be taken for a closed one.
        """
        here = int(self.clock() * 1000)
        if not self.client.has.get("fetchTime"):
            return here
        now = int(self.ask(self.client.fetch_time, fault_of=answers.fault_of_time))
        ahead_s = (here - now) / 1000
        far_off = abs(ahead_s) > FAR_OFF_S
        if abs(ahead_s) > CLOCK_TOLERANCE_S and not self.clock_was_told:
            self.clock_was_told = True
            message = AHEAD if ahead_s > 0 else BEHIND
            self.note(
                _(
                    FAR_OFF if far_off else message,
                    seconds=abs(ahead_s),
                    days=abs(ahead_s) / 86_400,
                    name=self.name,
                )
            )
        return min(now, here) if far_off else now


AHEAD = N_("this machine's clock is {seconds:.0f} s ahead of {name}'s; the exchange's time is used")
BEHIND = N_("this machine's clock is {seconds:.0f} s behind {name}'s; the exchange's time is used")
FAR_OFF = N_(
    "this machine's clock and {name}'s are {days:,.1f} days apart; the earlier one is used, "
    "and newer bars are skipped: check this machine's clock"
)


def open_exchange(
    name: str, *, note: Callable[[str], None] = lambda text: None, **waiting
) -> Exchange:
    """Returns the exchange with its rate limit on and without any key.

    Args:
        name: one of ccxt's names, such as binance.
        note: called with a line for each wait.
        waiting: `sleep`, `clock`, `max_tries` and `deadline_s` of `Exchange`.

    Raises:
        InputError: if ccxt is not installed, or knows no such exchange.
    """
    try:
        import ccxt
    except ImportError as error:
        raise InputError(
            "an exchange needs the extra `live`, which is not installed: pip install '.[live]'"
        ) from error
    if name not in ccxt.exchanges:
        raise InputError(
            "need the name of an exchange, got {name}{hint}",
            name=name,
            hint=_near(name, ccxt.exchanges),
        )
    client = getattr(ccxt, name)({"enableRateLimit": True})
    answers.demand_json(client)
    answers.bound_answers(client)
    return Exchange(client, note, **waiting)


def timeframe_of(exchange: Exchange, name: str) -> Timeframe:
    """Returns the exchange's timeframe of the requested length: 7d finds 1w.

    Raises:
        InputError: if the exchange has no such bars.
    """
    known = list(exchange.client.timeframes or {})
    timeframe = equal_span(name, known) if exchange.client.has.get("fetchOHLCV") else None
    if timeframe is None:
        raise InputError(
            "{exchange} has bars of {known}; got {timeframe}",
            exchange=exchange.name,
            known=", ".join(known) or _("no timeframe"),
            timeframe=name,
        )
    return timeframe


def markets_of(exchange: Exchange) -> dict[str, Any]:
    """Returns the exchange's markets by ccxt's symbols; they are requested once."""
    return exchange.ask(exchange.client.load_markets, fault_of=answers.fault_of_markets)


def check_symbols(exchange: Exchange, symbols: Sequence[str]) -> None:
    """Raises an InputError with a line for each symbol that the exchange lacks."""
    if not symbols:
        raise InputError("need at least one symbol, such as BTC/USDT; got none")
    markets = markets_of(exchange)
    faults = [
        _(
            "{exchange} has no symbol {symbol}{near}",
            exchange=exchange.name,
            symbol=symbol,
            near=_near(symbol, list(markets)),
        )
        for symbol in symbols
        if symbol not in markets
    ]
    if len(set(symbols)) < len(symbols):
        faults.append(_("each symbol must be named once"))
    if faults:
        raise InputError(faults)


def _near(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.upper(), [name.upper() for name in words], 3, 0.5)
    names = {name.upper(): name for name in words}
    return _("; near: {names}", names=", ".join(names[name] for name in near)) if near else ""
