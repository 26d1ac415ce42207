from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import beside_model
import numpy as np
import pandas as pd
import pytest
from beside_model import UNIVERSE, random_bars
from test_predict import L, make_model

from core.errors import InputError
from data.bars.synthetic import random_walk
from data.features import own
from data.features.extra import parse_extra
from data.features.indicators import WARM_UP_BARS
from data.features.settings import FeatureSettings
from examples.freqtrade_strategy import COLUMNS, XlstmStrategy, answers, at_candles, pair_of
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


def answers_of(model, candles):
    return at_candles(answers(model, {PAIR: candles}, [PAIR]), candles, PAIR)


@pytest.fixture(scope="module")
def found(model, candles):
    return answers_of(model, candles)


def test_every_candle_with_a_window_has_the_answer_of_classify(model, candles, found):
    assert found.index.equals(candles.index) and list(found) == COLUMNS
    assert found["p_buy"].notna().tolist() == [False] * FIRST + [True] * (260 - FIRST)
    table = classify(model, candles.rename(columns={"date": "timestamp"}).assign(symbol=PAIR))
    np.testing.assert_array_equal(found["p_buy"].iloc[FIRST:], table["p_buy"])


@pytest.mark.parametrize("stop", [FIRST + 1, 200])
def test_an_answer_uses_no_later_candle(model, candles, found, stop):
    early = answers_of(model, candles.iloc[:stop])
    pd.testing.assert_frame_equal(early, found.iloc[:stop], rtol=0, atol=1e-6)


def test_a_young_pair_has_no_answer_and_no_fault(model, candles):
    assert answers_of(model, candles.iloc[:FIRST]).isna().all(axis=None)


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


class Provider:
    """Freqtrade's, of some pairs alone; counts what is asked for."""

    def __init__(self, frames, whitelist):
        self.frames, self.whitelist = frames, whitelist

    def market(self, pair):
        return {"symbol": pair} if pair in self.frames else None

    def current_whitelist(self):
        return list(self.whitelist)

    def get_pair_dataframe(self, pair, timeframe):
        assert timeframe == "5m"
        return self.frames.get(pair, pd.DataFrame(columns=["date"])).copy()


@pytest.fixture(scope="module")
def beside():
    return beside_model.make_model()


@pytest.fixture(scope="module")
def walk():
    return random_bars(260)


@pytest.fixture
def market_strategy(beside, walk):
    strategy: Any = XlstmStrategy.__new__(XlstmStrategy)
    strategy.model, strategy.config = beside, {"stake_currency": "USDT"}
    strategy._state, strategy._table = {}, None
    frames = {
        f"{name[:3]}/USDT": own.drop(columns="symbol").rename(columns={"timestamp": "date"})
        for name, own in walk.groupby("symbol", observed=True)
    }
    strategy.dp = Provider(frames, ["BTC/USDT", "ETH/USDT"])
    return strategy


def test_pairs_are_named_as_freqtrade_does():
    for name in ("BTCUSDT", "BTC_USDT", "BTC/USDT", "BTC-USDT"):
        assert pair_of(name, "USDT", futures=False) == "BTC/USDT"
        assert pair_of(name, "USDT", futures=True) == "BTC/USDT:USDT"
    assert pair_of("BTC/USDT:USDT", "USDT", futures=True) == "BTC/USDT:USDT"
    assert pair_of("ETH/BTC", "USDT", futures=False) == "ETH/BTC"


def test_the_market_is_asked_for_and_all_pairs_are_answered_at_once(
    market_strategy, beside, walk, monkeypatch
):
    informative = [(f"{name[:3]}/USDT", "5m") for name in UNIVERSE]
    assert market_strategy.informative_pairs() == informative
    made = []
    monkeypatch.setattr(
        "examples.freqtrade_strategy.classify",
        lambda *args, **kwargs: made.append(1) or classify(*args, **kwargs),
    )
    for pair, name in [("BTC/USDT", "BTCUSDT"), ("ETH/USDT", "ETH-USDT")]:
        frame = market_strategy.dp.frames[pair].set_index(np.arange(5, 265))
        told = market_strategy.populate_indicators(frame.copy(), {"pair": pair})
        expected = classify(beside, walk[walk["symbol"] == name], universe=walk)
        assert told.index.equals(frame.index) and told["call"].isna().sum() == FIRST
        np.testing.assert_allclose(told["p_buy"].iloc[FIRST:], expected["p_buy"], atol=1e-6)
    assert len(made) == 1
    frames = market_strategy.dp.frames
    market_strategy.dp.frames = {pair: own.iloc[:-1] for pair, own in frames.items()}
    earlier = market_strategy.populate_indicators(frame.iloc[:-1].copy(), {"pair": "ETH/USDT"})
    pd.testing.assert_frame_equal(earlier, told.iloc[:-1], rtol=0, atol=1e-6)
    assert len(made) == 2


def test_with_less_than_half_of_the_market_there_is_no_signal(market_strategy, caplog):
    frames = market_strategy.dp.frames
    few = [*frames][2:4]
    assert "BTC/USDT" in few
    market_strategy.dp.frames = {pair: frames[pair] for pair in few}
    market_strategy.dp.whitelist = ["BTC/USDT"]
    told = market_strategy.populate_indicators(frames["BTC/USDT"].copy(), {"pair": "BTC/USDT"})
    assert told["call"].isna().all()
    (line,) = caplog.messages
    assert "no signal: " in line and "2 have, missing are AAA/USDT" in line
    told = market_strategy.populate_entry_trend(told, {"pair": "BTC/USDT"})
    assert told["enter_long"].isna().all() and len(caplog.messages) == 1


@pytest.mark.parametrize("names", [("AAA", "BBB", "CCC", "DDD"), ("AAA", "BBB", "CCC")])
def test_candles_of_a_smaller_market_have_no_signal(market_strategy, names):
    """Two of six are fewer than half, three are half but do not make a market."""
    late = {
        pair: own.iloc[50:] if pair[:3] in names else own
        for pair, own in market_strategy.dp.frames.items()
    }
    market_strategy.dp.frames = late
    told = market_strategy.populate_indicators(late["BTC/USDT"].copy(), {"pair": "BTC/USDT"})
    assert told["call"].isna().tolist() == [True] * (WARM_UP_BARS + 50) + [False] * 60


def test_young_pairs_beside_the_market_have_no_answer_and_no_fault(market_strategy):
    market_strategy.dp.frames = {
        pair: own.iloc[:FIRST] for pair, own in market_strategy.dp.frames.items()
    }
    for pair in ("BTC/USDT", "NEW/USDT"):
        frame = market_strategy.dp.frames["BTC/USDT"]
        told = market_strategy.populate_indicators(frame.copy(), {"pair": pair})
        assert told[COLUMNS].isna().all(axis=None)


def test_a_model_with_own_columns_is_refused_at_the_start(monkeypatch):
    model = make_model(features=FeatureSettings(extra=parse_extra("funding")).as_dict())
    monkeypatch.setattr("examples.freqtrade_strategy.load_classifier", lambda path: model)
    with pytest.raises(InputError, match="columns that candles lack: funding"):
        XlstmStrategy.__new__(XlstmStrategy).bot_start()


def test_a_model_with_features_of_ones_own_is_given_their_file(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    mark = "from xlstm_classifier import feature\n\n@feature\n"
    file.write_text(mark + "def gap(bars):\n    return bars['open'] / bars['close'].shift(1)\n")
    monkeypatch.setattr(own, "_loaded", {})
    stored = FeatureSettings(own=own.load_features(file)).as_dict()
    own._loaded.clear()
    model = make_model(features=stored)
    monkeypatch.setattr("examples.freqtrade_strategy.load_classifier", lambda path: model)
    with pytest.raises(InputError, match="give their file mine.py"):
        XlstmStrategy.__new__(XlstmStrategy).bot_start()
    monkeypatch.setenv("XLSTM_FEATURES", str(file))
    XlstmStrategy.__new__(XlstmStrategy).bot_start()
