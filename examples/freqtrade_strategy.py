"""A freqtrade strategy that buys and sells by the probabilities of a trained model.

Put this file into `user_data/strategies`, install this project into freqtrade's environment, name
the model in the environment variable XLSTM_MODEL, and set `timeframe` to that of its training:

    XLSTM_MODEL=runs/ID/model.keras freqtrade trade --strategy XlstmStrategy

It shows how to ask the model, not how to earn money: look at the verdict of the run first.
"""

import os
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.features import OTHERS_FORGET_AFTER_BARS, WARM_UP_BARS
from models.deployable import contract_of, load_classifier
from recipe.predict import classify

if TYPE_CHECKING:
    IStrategy = Any
else:
    try:
        from freqtrade.strategy import IStrategy
    except ModuleNotFoundError:  # `answers` needs no freqtrade
        IStrategy = object

COLUMNS = ["p_sell", "p_hold", "p_buy", "unfamiliar"]
WINDOW_BARS = 60  # SEQUENCE_LENGTH of the model's training


def answers(model, dataframe: pd.DataFrame, pair: str) -> pd.DataFrame:
    """Returns what the model says at each candle of freqtrade's frame of one pair.

    A candle's answer is made of that candle and those before it, so backtests see what a bot sees.

    Args:
        model: as `load_classifier` returns it.
        dataframe: date (UTC, the candle's open), open, high, low, close, volume; closed candles
            alone, oldest first.
        pair: such as BTC/USDT.

    Returns:
        p_sell, p_hold, p_buy and unfamiliar (see `recipe.predict.classify`) with the index of the
        frame; NaN where a candle ends no window, as in the warm-up.

    Raises:
        InputError: where the candles are faulty, have a hole in each window, or their timeframe is
            not the model's.
    """
    if len(dataframe) < WARM_UP_BARS + contract_of(model)["sequence_length"]:
        return pd.DataFrame(float("nan"), index=dataframe.index, columns=COLUMNS)
    numbers = dataframe[["open", "high", "low", "close", "volume"]]
    table = classify(model, numbers.assign(timestamp=dataframe["date"], symbol=pair))
    times = pd.DatetimeIndex(dataframe["date"]).as_unit("ns")
    return table.set_index("timestamp")[COLUMNS].reindex(times).set_axis(dataframe.index)


class XlstmStrategy(IStrategy):
    """Buys where BUY is likely and the market familiar, sells where SELL is likely."""

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = False
    process_only_new_candles = True
    # KAMA alone remembers more while prices go nowhere. Exchanges limit the candles of a start.
    startup_candle_count = OTHERS_FORGET_AFTER_BARS + WINDOW_BARS
    minimal_roi = {"0": 10.0}  # the model decides when to sell
    stoploss = -0.10

    buy_above = 0.5  # p_buy
    sell_above = 0.5  # p_sell
    unfamiliar_below = 0.05  # share of the window; a model without training ranges passes

    def bot_start(self, **kwargs) -> None:
        """Loads the model, once."""
        self.model = load_classifier(os.environ.get("XLSTM_MODEL", "model.keras"))

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Adds the model's answers."""
        dataframe[COLUMNS] = answers(self.model, dataframe, metadata["pair"])
        return dataframe

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Marks the candles after which to buy."""
        familiar = ~(dataframe["unfamiliar"] > self.unfamiliar_below)
        buys = (dataframe["p_buy"] > self.buy_above) & familiar & (dataframe["volume"] > 0)
        dataframe.loc[buys, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Marks the candles after which to sell."""
        dataframe.loc[dataframe["p_sell"] > self.sell_above, "exit_long"] = 1
        return dataframe
