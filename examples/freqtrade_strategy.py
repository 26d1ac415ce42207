"""A freqtrade strategy that trades the calls of a trained model, as the report's backtest does.

Put this file into `user_data/strategies`, install this project into freqtrade's environment, name
the model in the environment variable XLSTM_MODEL, and set `timeframe` to that of its training:

    XLSTM_MODEL=runs/ID/model.keras freqtrade trade --strategy XlstmStrategy

It shows how to ask the model, not how to earn money: look at the verdict of the run first.
"""

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.features.indicators import OTHERS_FORGET_AFTER_BARS, WARM_UP_BARS
from models.deployable import contract_of, load_classifier
from recipe.serve.predict import classify

if TYPE_CHECKING:
    IStrategy = Any
else:
    try:
        from freqtrade.strategy import IStrategy
    except ModuleNotFoundError:  # `answers` needs no freqtrade
        IStrategy = object

COLUMNS = ["call", "p_sell", "p_hold", "p_buy", "unfamiliar"]
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
        call, p_sell, p_hold, p_buy and unfamiliar (see `recipe.serve.predict.classify`) with the
        index of the frame; NaN where a candle ends no window, as in the warm-up.

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
    """Goes long on the call BUY, short on SELL where shorts are allowed, for the label's horizon.

    A position is entered at the open after the call and left after as many candles as the label
    looks at, whatever is called meanwhile. The stop loss alone is not the backtest's.
    """

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = False
    process_only_new_candles = True
    # KAMA alone remembers more while prices go nowhere. Exchanges limit the candles of a start.
    startup_candle_count = OTHERS_FORGET_AFTER_BARS + WINDOW_BARS
    minimal_roi = {"0": 10.0}  # the horizon decides when to leave
    stoploss = -0.10

    unfamiliar_below = 0.05  # share of the window; a model without training ranges passes

    def bot_start(self, **kwargs) -> None:
        """Loads the model, once."""
        self.model = load_classifier(os.environ.get("XLSTM_MODEL", "model.keras"))

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict) -> pd.DataFrame:
        """Adds the model's answers."""
        dataframe[COLUMNS] = answers(self.model, dataframe, metadata["pair"])
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
