"""A freqtrade strategy that trades the calls of a trained model, as the report's backtest does.

Put this file into `user_data/strategies`, install this project into freqtrade's environment, name
the model in the environment variable XLSTM_MODEL, and set `timeframe` to that of its training:

    XLSTM_MODEL=runs/ID/model.keras freqtrade trade --strategy XlstmStrategy

A model with features of your own also needs their file, which is run: XLSTM_FEATURES=features.py.
A model whose features stand beside the market needs the candles of the symbols of its training:
they are fetched as informative pairs; a backtest needs their files (`freqtrade download-data`).
Where its labels are relative to the market, BUY says that a pair will do better than the mean of
all, not that its price will rise: the strategy holds the market's move as well.
It shows how to ask the model, not how to earn money: look at the verdict of the run first.
"""

import logging
import os
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.contract import Contract
from core.errors import InputError
from data.features.indicators import OTHERS_FORGET_AFTER_BARS
from data.features.own import load_features
from data.features.settings import settings_of
from models.deployable import contract_of, load_classifier
from recipe.serve.predict import classify
from recipe.serve.universe import TooFewSymbols, symbols_needed

if TYPE_CHECKING:
    IStrategy = Any
else:
    try:
        from freqtrade.strategy import IStrategy
    except ModuleNotFoundError:  # `answers` needs no freqtrade
        IStrategy = object

COLUMNS = ["call", "p_sell", "p_hold", "p_buy", "unfamiliar"]
_NONE = pd.DataFrame(columns=["timestamp", "symbol", *COLUMNS])
WINDOW_BARS = 60  # SEQUENCE_LENGTH of the model's training
logger = logging.getLogger(__name__)


def answers(model, frames: Mapping[str, pd.DataFrame], asked: Collection[str]) -> pd.DataFrame:
    """Returns what the model says of some of freqtrade's frames.

    A candle's answer is made of that candle and those before it, so backtests see what a bot sees.

    Args:
        model: as `load_classifier` returns it.
        frames: of each symbol date (UTC, the candle's open), open, high, low, close, volume; closed
            candles alone, oldest first. Symbols of the training have its names where features
            stand beside the market.
        asked: symbols that get an answer; the others are the market that features stand beside.

    Returns:
        what `recipe.serve.predict.classify` does: no row where a candle ends no window, as in the
        warm-up, or too few symbols of the training have a candle: fewer than half of them, or than
        make a market.

    Raises:
        InputError: where the candles are faulty, have a hole in each window, or their timeframe is
            not the model's.
        TooFewSymbols: where too few symbols have the newest candle.
    """
    contract = contract_of(model)
    settings = settings_of(contract)
    needed = settings.warm_up_bars + contract["sequence_length"]
    ready = [symbol for symbol in asked if len(frames[symbol]) >= needed]
    table = _NONE
    if ready:
        others = [symbol for symbol in frames if symbol not in ready and len(frames[symbol])]
        universe = _bars(frames, others) if settings.market and others else None
        table = classify(model, _bars(frames, ready), universe=universe)
    if settings.market:
        table = table[_enough(contract, frames, table)]
    return table


def at_candles(table: pd.DataFrame, dataframe: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Returns a symbol's call, p_sell, p_hold, p_buy and unfamiliar with the index of its frame."""
    times = pd.DatetimeIndex(dataframe["date"]).as_unit("ns")
    own = table[table["symbol"] == symbol].set_index("timestamp")
    return own[COLUMNS].reindex(times).set_axis(dataframe.index)


def pair_of(symbol: str, stake: str, *, futures: bool) -> str:
    """Returns freqtrade's pair of a symbol of the training: BTC/USDT of BTCUSDT and BTC_USDT."""
    if ":" in symbol or ("/" in symbol and not futures):
        return symbol
    base = "".join(filter(str.isalnum, symbol.upper())).removesuffix(stake.upper())
    return f"{base}/{stake}" + f":{stake}" * futures


class XlstmStrategy(IStrategy):
    """Goes long on the call BUY, short on SELL where shorts are allowed, for the label's horizon.

    A position is entered at the open after the call and left after as many candles as the label
    looks at, whatever is called meanwhile. The stop loss alone is not the backtest's.
    """

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = False
    process_only_new_candles = True
    # KAMA alone remembers more while prices go nowhere. Exchanges limit the candles of a start.
    # A model with TIMEFRAMES needs 25 times the longest of them, if that is more.
    startup_candle_count = OTHERS_FORGET_AFTER_BARS + WINDOW_BARS
    minimal_roi = {"0": 10.0}  # the horizon decides when to leave
    stoploss = -0.10

    unfamiliar_below = 0.05  # share of the window; a model without training ranges passes

    def bot_start(self, **kwargs) -> None:
        """Loads the model, once."""
        if features := os.environ.get("XLSTM_FEATURES"):
            load_features(features)
        self.model = load_classifier(os.environ.get("XLSTM_MODEL", "model.keras"))
        self._state, self._table = {}, _NONE
        if columns := settings_of(contract_of(self.model)).columns:
            raise InputError(f"the model needs columns that candles lack: {', '.join(columns)}")

    def informative_pairs(self) -> list[tuple[str, str]]:
        """Returns the pairs that make the market which features stand beside."""
        return [(pair, self.timeframe) for pair in self._market()]

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Adds the model's answers."""
        pair = metadata["pair"]
        if settings_of(contract_of(self.model)).market:
            name, table = self._names().get(pair, pair), self._beside_the_market(pair)
        else:
            name, table = pair, answers(self.model, {pair: dataframe}, [pair])
        dataframe[COLUMNS] = at_candles(table, dataframe, name)
        return dataframe

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Marks the candles after which to enter."""
        familiar = ~(dataframe["unfamiliar"] > self.unfamiliar_below)
        trusted = familiar & (dataframe["volume"] > 0)
        dataframe.loc[trusted & (dataframe["call"] == "BUY"), "enter_long"] = 1
        if self.can_short:
            dataframe.loc[trusted & (dataframe["call"] == "SELL"), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Marks none: `custom_exit` leaves."""
        return dataframe

    def custom_exit(
        self,
        pair: str,
        trade: Any,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        **kwargs,
    ) -> str | None:
        """Returns a reason to leave once the label's horizon is over."""
        contract = contract_of(self.model)
        num_bars = contract["label"]["future_window_bars"]
        held = timedelta(seconds=num_bars * contract["interval_seconds"])
        return "horizon" if current_time - trade.open_date_utc >= held else None

    def _names(self) -> dict[str, str]:
        """Returns the training's names of pairs."""
        stake, futures = self.config["stake_currency"], self.config.get("trading_mode") == "futures"
        symbols = contract_of(self.model)["symbols"]
        return {pair_of(name, stake, futures=futures): name for name in symbols}

    def _market(self) -> dict[str, str]:
        """Returns those that make the market which features stand beside, as the exchange has."""
        contract = contract_of(self.model)
        if not settings_of(contract).market:
            return {}
        found = self._names().items()
        return {
            pair: name
            for pair, name in found
            if name in contract["universe"] and self.dp.market(pair)
        }

    def _beside_the_market(self, pair: str) -> pd.DataFrame:
        """Returns the answers of all pairs; they are made once for all as candles come."""
        names = self._names()
        asked = {own: names.get(own, own) for own in {*self.dp.current_whitelist(), pair}}
        frames = {
            name: self.dp.get_pair_dataframe(own, self.timeframe)
            for own, name in (self._market() | asked).items()
        }
        state = {name: (len(own), *own["date"].tail(1)) for name, own in frames.items() if len(own)}
        if state != self._state:
            try:
                self._table = answers(self.model, frames, [*asked.values()])
            except TooFewSymbols as error:
                logger.warning("no signal: %s", error.reason)
                self._table = _NONE
            self._state = state
        return self._table


def _bars(frames: Mapping[str, pd.DataFrame], symbols: Collection[str]) -> pd.DataFrame:
    """Returns the candles of some symbols as the project takes them."""
    numbers = ["open", "high", "low", "close", "volume"]
    return pd.concat(
        [
            frames[symbol][numbers].assign(timestamp=frames[symbol]["date"], symbol=symbol)
            for symbol in symbols
        ],
        ignore_index=True,
    )


def _enough(
    contract: Contract, frames: Mapping[str, pd.DataFrame], table: pd.DataFrame
) -> pd.Series:
    """Says of which answers enough of the market had a candle, bool (answers,)."""
    dates = [
        pd.DatetimeIndex(frames[name]["date"]).as_unit("ns")[settings_of(contract).warm_up_bars :]
        for name in contract["universe"]
        if name in frames and len(frames[name])
    ]
    counts = pd.Series(0, table["timestamp"].unique())
    for own in dates:
        counts[counts.index.isin(own)] += 1
    return table["timestamp"].map(counts) >= symbols_needed(contract)
