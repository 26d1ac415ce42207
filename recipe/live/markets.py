"""Chooses symbols of an exchange: those that a model needs, or the most traded ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.contract import Contract
from core.errors import InputError
from core.i18n import N_, _, ngettext
from data.features.indicators import FORGOTTEN_AFTER_BARS, OTHERS_FORGET_AFTER_BARS
from data.features.settings import settings_of
from recipe.live.exchange import Exchange, check_symbols, markets_of
from recipe.serve.universe import first_of, symbols_needed

_REMEMBERS_LONG = "kama_distance"  # all other features forget after OTHERS_FORGET_AFTER_BARS


@dataclass(frozen=True)
class Members:
    """The symbols of an exchange that a model needs.

    Attributes:
        symbols: to answer for.
        num_bars: how many of the newest bars are needed, by symbol; includes symbols that only
            form the market.
        names: the training's name for each of the exchange's symbols; empty for a model whose
            symbols stand alone.
    """

    symbols: tuple[str, ...]
    num_bars: Mapping[str, int]
    names: Mapping[str, str]

    @property
    def together(self) -> bool:
        """Whether an answer depends on the bars of all symbols."""
        return bool(self.names)


def members_of(
    exchange: Exchange, contract: Contract, symbols: Sequence[str]
) -> tuple[Members, str]:
    """Returns the symbols that a model needs, and a remark on those that the exchange lacks.

    Args:
        exchange: from `open_exchange`.
        contract: of the model.
        symbols: ccxt's names of the symbols to answer for; if empty, the symbols of the training
            that still traded at its end.

    Raises:
        InputError: if a symbol is unknown, the contract names none, or the model has features
            beside the market and the exchange lacks too many of its symbols.
    """
    settings, universe = settings_of(contract), list(contract.get("universe", ()))
    if symbols:
        check_symbols(exchange, symbols)
    elif not universe:
        raise InputError("--exchange needs --symbols: the model does not know its symbols")
    length = int(contract["sequence_length"])
    num_own_bars = max(FORGOTTEN_AFTER_BARS, settings.warm_up_bars) + length
    if symbols and not settings.market:
        return Members(tuple(symbols), dict.fromkeys(symbols, num_own_bars), {}), ""
    trained = list(dict.fromkeys([*universe, *contract.get("symbols", ())]))
    there = {market: name for name, market in _symbols_by_name(exchange, trained, symbols).items()}
    living = [market for market, name in there.items() if name in universe]
    missing = [name for name in universe if name not in there.values()]
    needed = symbols_needed(contract) if settings.market else 0
    remark = _check_enough(exchange, len(universe), missing, needed)
    answered = tuple(symbols or living)
    if not settings.market:
        return Members(answered, dict.fromkeys(answered, num_own_bars), {}), remark
    past = max(OTHERS_FORGET_AFTER_BARS, settings.warm_up_bars) + length
    num_bars = dict.fromkeys(living, num_own_bars if _REMEMBERS_LONG in settings.market else past)
    return Members(answered, num_bars | dict.fromkeys(answered, num_own_bars), there), remark


def trained_names(bars: pd.DataFrame, members: Members) -> pd.DataFrame:
    """Returns bars under the symbol names of the training."""
    names = {name: members.names.get(name, name) for name in bars["symbol"].cat.categories}
    return bars.assign(symbol=bars["symbol"].cat.rename_categories(names))


def _symbols_by_name(
    exchange: Exchange, names: Sequence[str], symbols: Sequence[str]
) -> dict[str, str]:
    """Returns the exchange's symbol for each name it knows; no symbol serves two names.

    An exact match goes first. Otherwise only letters and digits count, so that BTCUSDT and BTC_USDT
    match BTC/USDT, and also the perpetual BTC/USDT:USDT, which is preferred if `symbols` has
    perpetuals.
    """
    markets = markets_of(exchange)
    by_key: dict[str, list[str]] = {}
    for symbol, market in markets.items():
        if market.get("active") is not False:
            for key in _keys(symbol, market):
                by_key.setdefault(key, []).append(symbol)
    perpetuals = any(":" in symbol for symbol in symbols)
    by_name, taken = {}, set()
    for name in sorted(names, key=lambda name: name not in markets):
        alike = [name] if name in markets else by_key.get(_plain(name), [])
        free = [symbol for symbol in alike if symbol not in taken]
        if free:
            by_name[name] = min(free, key=lambda symbol: ((":" in symbol) != perpetuals, symbol))
            taken.add(by_name[name])
    return {name: by_name[name] for name in names if name in by_name}


def _keys(symbol: str, market: Mapping[str, Any]) -> set[str]:
    pair, _colon, settled = symbol.partition(":")
    names = [symbol, str(market.get("id") or "")] + [pair] * ("-" not in settled)
    return {_plain(name) for name in names} - {""}


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.upper()))


def _check_enough(exchange: Exchange, total: int, missing: Sequence[str], needed: int) -> str:
    """Returns a remark on the symbols that an exchange lacks; raises if too few are left."""
    if not missing:
        return ""
    values = {
        "exchange": exchange.name,
        "total": total,
        "count": total - len(missing),
        "missing": first_of(missing),
    }
    if total - len(missing) < needed:
        raise InputError(
            "answers stand beside a market of {total} symbols, and {exchange} must have at "
            "least {least} of them; it has {count}, missing are {missing}",
            least=needed,
            **values,
        )
    if len(missing) == total:
        raise InputError("{exchange} has none of the symbols of the training: {missing}", **values)
    return _(
        "{exchange} has {count} of the {total} symbols of the training; missing are {missing}",
        **values,
    )


@dataclass(frozen=True)
class MostTraded:
    """A choice of the most traded symbols.

    Args:
        quote: the quote currency, such as USDT.
        top: how many, the most traded first.
        perpetuals: whether linear perpetuals (BTC/USDT:USDT) instead of spot (BTC/USDT).
    """

    quote: str
    top: int
    perpetuals: bool = False


def most_traded(exchange: Exchange, wanted: MostTraded) -> list[str]:
    """Returns ccxt's symbols, by turnover of the last 24 hours, the largest first.

    Raises:
        InputError: if the exchange has no such markets, or does not publish turnover.
    """
    markets = {
        symbol: market for symbol, market in markets_of(exchange).items() if _fits(market, wanted)
    }
    if not markets:
        quotes = {str(m.get("quote")) for m in markets_of(exchange).values() if m.get("quote")}
        message = N_("{exchange} has no spot market quoted in {quote}; it has {quotes}")
        if wanted.perpetuals:
            message = N_("{exchange} has no linear perpetual quoted in {quote}; it has {quotes}")
        raise InputError(
            _(
                message,
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
            "{exchange} does not say how much is traded; name the symbols instead",
            exchange=exchange.name,
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
    """Returns the turnover of 24 hours, 0 if unknown."""
    amount = _number(ticker.get("quoteVolume"))
    return amount or _number(ticker.get("baseVolume")) * _number(ticker.get("last"))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
