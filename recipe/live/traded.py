"""The symbols of an exchange that are traded most now, so that nobody types three hundred."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InputError
from core.i18n import N_, _, ngettext
from recipe.live.exchange import Exchange, markets_of


@dataclass(frozen=True)
class MostTraded:
    """Which symbols are asked for.

    Args:
        quote: the currency they are paid in, such as USDT.
        top: how many, the most traded first.
        perpetuals: linear perpetual contracts (BTC/USDT:USDT) instead of spot (BTC/USDT).
    """

    quote: str
    top: int
    perpetuals: bool = False


def most_traded(exchange: Exchange, wanted: MostTraded) -> list[str]:
    """Returns ccxt's symbols, those with the largest turnover of the last 24 hours first.

    Raises:
        InputError: where the exchange has no such markets, or does not tell what is traded.
    """
    markets = {
        symbol: market for symbol, market in markets_of(exchange).items() if _fits(market, wanted)
    }
    if not markets:
        quotes = {str(m.get("quote")) for m in markets_of(exchange).values() if m.get("quote")}
        told = N_("{exchange} has no spot market quoted in {quote}; it has {quotes}")
        if wanted.perpetuals:
            told = N_("{exchange} has no linear perpetual quoted in {quote}; it has {quotes}")
        raise InputError(
            _(
                told,
                exchange=exchange.name,
                quote=wanted.quote,
                quotes=", ".join(sorted(quotes)[:20]),
            )
        )
    turnover = {
        symbol: _turnover(ticker)
        for symbol, ticker in _tickers(exchange, wanted.perpetuals).items()
        if symbol in markets and isinstance(ticker, Mapping)
    }
    traded = [symbol for symbol, amount in turnover.items() if amount > 0]
    if not traded:
        raise InputError(
            _(
                "{exchange} does not say how much is traded; name the symbols instead",
                exchange=exchange.name,
            )
        )
    if len(traded) < wanted.top:
        exchange.note(
            ngettext(
                "{exchange} has {n} such symbol, {top} were asked for",
                "{exchange} has {n} such symbols, {top} were asked for",
                len(traded),
                exchange=exchange.name,
                top=wanted.top,
            )
        )
    return sorted(traded, key=lambda symbol: (-turnover[symbol], symbol))[: wanted.top]


def _fits(market: Mapping[str, Any], wanted: MostTraded) -> bool:
    if market.get("active") is False or market.get("quote") != wanted.quote.upper():
        return False
    if wanted.perpetuals:
        return bool(market.get("swap") and market.get("linear"))
    return bool(market.get("spot"))


def _tickers(exchange: Exchange, perpetuals: bool) -> Mapping[str, Any]:
    client, kind = exchange.client, "swap" if perpetuals else "spot"
    if not client.has.get("fetchTickers"):
        return {}
    params = {"subType": "linear"} if perpetuals else {}
    if client.options.get("defaultType", "spot") != kind:
        params["type"] = kind
    return exchange.ask(client.fetch_tickers, params=params, fault_of=_fault_of_tickers)


def _fault_of_tickers(tickers: Any) -> str | None:
    if isinstance(tickers, Mapping) and tickers:
        return None
    return _("the answer must be a table of tickers, got {kind}", kind=type(tickers).__name__)


def _turnover(ticker: Mapping[str, Any]) -> float:
    """Returns what was paid in 24 hours, 0 where it is not told."""
    amount = _number(ticker.get("quoteVolume"))
    return amount or _number(ticker.get("baseVolume")) * _number(ticker.get("last"))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
