import numpy as np
import pandas as pd
import pytest
from test_predict import L, make_model

from data.features import WARM_UP_BARS
from data.synthetic import random_walk
from examples.freqtrade_strategy import COLUMNS, XlstmStrategy, answers
from recipe.predict import classify

FIRST = WARM_UP_BARS + L - 1
PAIR = "BTC/USDT"


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def candles():
    """Freqtrade's own frame: milliseconds, and an index that a backtest has cut."""
    bars = random_walk(1, 260).rename(columns={"timestamp": "date"}).drop(columns="symbol")
    bars["date"] = bars["date"].astype("datetime64[ms, UTC]")
    return bars[["date", "open", "high", "low", "close", "volume"]].set_index(np.arange(7, 267))


@pytest.fixture(scope="module")
def found(model, candles):
    return answers(model, candles, PAIR)


def test_every_candle_with_a_window_has_the_answer_of_classify(model, candles, found):
    assert found.index.equals(candles.index) and list(found) == COLUMNS
    assert found["p_buy"].notna().tolist() == [False] * FIRST + [True] * (260 - FIRST)
    table = classify(model, candles.rename(columns={"date": "timestamp"}).assign(symbol=PAIR))
    np.testing.assert_array_equal(found["p_buy"].iloc[FIRST:], table["p_buy"])


@pytest.mark.parametrize("stop", [FIRST + 1, 200])
def test_an_answer_uses_no_later_candle(model, candles, found, stop):
    early = answers(model, candles.iloc[:stop], PAIR)
    pd.testing.assert_frame_equal(early, found.iloc[:stop], rtol=0, atol=1e-6)


def test_a_young_pair_has_no_answer_and_no_fault(model, candles):
    assert answers(model, candles.iloc[:FIRST], PAIR).isna().all(axis=None)


def test_the_strategy_buys_and_sells_beyond_its_thresholds(model, candles):
    strategy = XlstmStrategy.__new__(XlstmStrategy)  # freqtrade would give its configuration
    strategy.model = model
    told = strategy.populate_indicators(candles.copy(), {"pair": PAIR})
    strategy.buy_above, strategy.sell_above = told["p_buy"].median(), told["p_sell"].median()
    told.loc[told.index[-1], ["p_buy", "unfamiliar"]] = 1.0, 0.5
    told = strategy.populate_entry_trend(told, {"pair": PAIR})
    told = strategy.populate_exit_trend(told, {"pair": PAIR})
    buys = told["p_buy"] > strategy.buy_above
    assert buys.iloc[-1] and 0 < buys.sum() < len(told)
    buys.iloc[-1] = False  # unfamiliar
    assert (told["enter_long"] == 1).tolist() == buys.tolist()
    assert (told["exit_long"] == 1).tolist() == (told["p_sell"] > strategy.sell_above).tolist()
