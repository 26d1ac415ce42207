from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_predict import L, make_model

from data.bars.synthetic import random_walk
from data.features.indicators import WARM_UP_BARS
from examples.freqtrade_strategy import COLUMNS, XlstmStrategy, answers
from recipe.serve.predict import classify

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


@pytest.fixture
def strategy(model):
    strategy = XlstmStrategy.__new__(XlstmStrategy)  # freqtrade would give its configuration
    strategy.model = model
    return strategy


@pytest.mark.parametrize("can_short", [False, True])
def test_the_strategy_enters_on_the_calls_of_familiar_candles(strategy, candles, can_short):
    strategy.can_short = can_short
    told = strategy.populate_indicators(candles.copy(), {"pair": PAIR})
    told.loc[told.index[-5:], "call"] = "HOLD"
    assert {"SELL", "HOLD", "BUY"} == set(told["call"].iloc[FIRST:])
    buys, sells = told["call"] == "BUY", told["call"] == "SELL"
    told.loc[told.index[[np.flatnonzero(buys)[-1], np.flatnonzero(sells)[-1]]], "unfamiliar"] = 0.5
    told = strategy.populate_entry_trend(told, {"pair": PAIR})
    told = strategy.populate_exit_trend(told, {"pair": PAIR})
    for wanted, column in [(buys, "enter_long")] + [(sells, "enter_short")] * can_short:
        wanted.iloc[np.flatnonzero(wanted)[-1]] = False  # unfamiliar
        assert (told[column] == 1).tolist() == wanted.tolist() and wanted.any()
    assert ("enter_short" in told) == can_short
    assert not {"exit_long", "exit_short"} & set(told)


def test_a_position_is_left_after_the_horizon_of_the_label(strategy, candles):
    # The call of candle 100 is entered at the open of 101 and left at the close of 103, which is
    # the open of 104: the label looks at 3 bars.
    opens = [time.to_pydatetime() for time in candles["date"]]
    trade = SimpleNamespace(open_date_utc=opens[101])

    def left(time):
        return strategy.custom_exit(PAIR, trade, time, current_rate=1.0, current_profit=-0.01)

    early = [left(time) for time in [*opens[101:104], opens[104] - timedelta(seconds=1)]]
    assert early == [None] * 4 and left(opens[104]) == left(opens[150]) == "horizon"
