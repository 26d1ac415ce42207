import importlib.metadata

import keras
import numpy as np
import pandas as pd
import pytest

import data.features.features
from core.errors import InputError
from data.bars.synthetic import random_walk
from data.features.features import compute_features, feature_names, fill_rows
from data.features.indicators import FORGOTTEN_AFTER_BARS, WARM_UP_BARS
from data.features.settings import FeatureSettings
from data.market.market import build_market
from data.market.settings import MarketSettings
from data.market.windows import ends_within, gather
from models.deployable import make_deployable
from models.prediction import AT_ONCE
from recipe.serve.predict import classify, classify_latest

INDICATORS = {"intraday": True, "settings": FeatureSettings()}
L, GAP = 10, 2
PRIOR = [0.2, 0.5, 0.3]
PROBABILITIES = ["p_sell", "p_hold", "p_buy"]


def make_model(**changes):
    """Returns a model that looks at every number of a window; a change to None takes a key away."""
    keras.utils.set_random_seed(0)
    names = feature_names(True)
    inputs = keras.Input((L, len(names)))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    contract = {
        "class_names": ["SELL", "HOLD", "BUY"],
        "feature_names": list(names),
        "sequence_length": L,
        "max_gap_bars": GAP,
        "intraday": True,
        "interval_seconds": 900.0,
        "label": {"method": "volatility", "future_window_bars": 3, "threshold": 0.6},
        "priors": {"training_period": PRIOR},
        "call": {"rule": "largest lift", "prior": PRIOR},
    }
    contract = {name: value for name, value in (contract | changes).items() if value is not None}
    return make_deployable(keras.Model(inputs, outputs), keras.layers.Softmax(), contract)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def bars():
    """Three symbols; the second has a hole, the third one in its warm-up."""
    whole = random_walk(3, 700)
    numbers = whole.groupby("symbol", observed=True).cumcount().to_numpy()
    codes = whole["symbol"].cat.codes.to_numpy()
    gone = (codes == 1) & (numbers >= 400) & (numbers < 420)
    gone |= (codes == 2) & (numbers >= 90) & (numbers < 99)
    return whole[~gone].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(model, bars):
    return classify(model, bars)


def of(bars, *symbols):
    return bars[bars["symbol"].isin(symbols)].reset_index(drop=True)


def test_windows_and_features_are_those_of_training(model, bars, table):
    settings = MarketSettings(
        sequence_length=L,
        future_window=3,
        label_method="volatility",
        price_change_threshold=0.01,
        target_class_ratios=(1, 1, 1),
        embargo_bars=0,
        max_gap_bars=GAP,
    )
    market = build_market(bars, settings)
    ends = ends_within(market.bounds, L, 0)
    expected = model.predict(gather(market.features, ends, L), verbose=0)
    assert len(market.bounds) == 3 + 1 + 1  # a segment more of the second symbol
    assert table["timestamp"].to_numpy("datetime64[ns]").tolist() == (
        market.timestamps[ends].tolist()
    )
    names = np.array(market.symbol_names)[market.symbols[ends]]
    assert table["symbol"].tolist() == names.tolist()
    np.testing.assert_allclose(table[PROBABILITIES], expected, atol=1e-6)


def test_a_symbol_does_not_see_another(model, bars, table):
    alone = classify(model, of(bars, "SYN1"))
    own = table[table["symbol"] == "SYN1"].reset_index(drop=True)
    assert list(alone) == ["timestamp", "symbol", "call", *PROBABILITIES, "unfamiliar"]
    pd.testing.assert_frame_equal(alone, own, atol=1e-6)


def test_the_call_is_the_class_with_the_largest_lift(table):
    lifts = table[PROBABILITIES].to_numpy() / PRIOR
    assert (
        table["call"].tolist() == np.array(["SELL", "HOLD", "BUY"])[lifts.argmax(axis=1)].tolist()
    )
    likely = table[PROBABILITIES].to_numpy().argmax(axis=1)
    assert 0 < (lifts.argmax(axis=1) != likely).mean() < 1  # or the rule would not matter


@pytest.mark.parametrize("ask", [classify, classify_latest])
def test_a_model_saved_before_the_call_had_a_rule_still_answers(bars, ask, table):
    newest = table if ask is classify else table.groupby("symbol").tail(1)
    for priors, prior, told in [
        ({"training_period": PRIOR}, PRIOR, "saved before calls had a rule"),
        ({}, [1, 1, 1], "its calls are the most probable classes"),
    ]:
        notes = []
        model = make_model(priors=priors, call=None)
        found = ask(model, bars, note=notes.append)
        (note,) = notes
        assert told in note
        codes = (newest[PROBABILITIES].to_numpy() / prior).argmax(axis=1)
        assert found["call"].tolist() == np.array(["SELL", "HOLD", "BUY"])[codes].tolist()


def test_a_model_with_the_rule_has_no_remark(model, bars):
    notes = []
    classify(model, bars, note=notes.append)
    assert notes == []


@pytest.mark.parametrize("ask", [classify, classify_latest])
def test_the_windows_of_all_symbols_share_full_batches(model, bars, ask, monkeypatch):
    sizes, predict = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda x: sizes.append(len(x)) or predict(x))
    found = ask(model, bars)
    assert len(sizes) == -(-len(found) // AT_ONCE)


def test_the_latest_is_the_newest_row_of_every_symbol(model, bars, table):
    found = classify_latest(model, bars)
    newest = table.groupby("symbol").tail(1).reset_index(drop=True)
    assert found["symbol"].tolist() == ["SYN0", "SYN1", "SYN2"]
    pd.testing.assert_frame_equal(found, newest, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def long_bars():
    """Two symbols with a longer past than features remember, of which one is hard to forget."""
    bars = random_walk(2, FORGOTTEN_AFTER_BARS + 1500)
    tick = np.arange(len(bars) // 2)
    # KAMA forgets slowest while prices jump to and fro; three times higher before that.
    price = (100.0 + 0.5 * (tick % 2)) * np.where(tick < 1400, 3.0, 1.0)
    other = (bars["symbol"] == "SYN1").to_numpy()
    for name, factor in [("open", 1.0), ("high", 1.01), ("low", 0.99), ("close", 1.0)]:
        bars.loc[other, name] = price * factor
    return bars


def test_the_latest_of_a_long_past_is_that_of_classify(model, long_bars):
    newest = classify(model, long_bars).groupby("symbol").tail(1).reset_index(drop=True)
    pd.testing.assert_frame_equal(classify_latest(model, long_bars), newest, rtol=0, atol=1e-6)


def test_rows_forget_where_the_series_began(long_bars):
    for _, own in long_bars.groupby("symbol", observed=True):
        features, times = np.empty((L, 30), np.float32), np.empty(L, "datetime64[ns]")
        bounds = fill_rows(own, [(0, len(own))], features, times, **INDICATORS)
        assert bounds.tolist() == [0, L]
        expected = compute_features(own, intraday=True).to_numpy()[-L:]
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)


def test_the_latest_needs_the_features_of_one_window(model, long_bars, monkeypatch):
    num_rows, fill = [], data.features.features.fill_features

    def counted(bars, out, **settings):
        num_rows.append(len(out))
        fill(bars, out, **settings)

    monkeypatch.setattr(data.features.features, "fill_features", counted)
    classify_latest(model, long_bars)
    assert num_rows == [L] * 2


def test_no_bar_that_is_forgotten_is_read(long_bars):
    own = next(own for _, own in long_bars.groupby("symbol", observed=True))
    others = own.copy()
    old = len(own) - FORGOTTEN_AFTER_BARS - L
    assert old > 0
    others.loc[own.index[:old], ["open", "high", "low", "close", "volume"]] = np.nan
    rows = [np.empty((L, 30), np.float32) for _ in range(2)]
    for bars, features in zip([own, others], rows, strict=True):
        times = np.empty(L, "datetime64[ns]")
        fill_rows(bars, [(0, len(bars))], features, times, **INDICATORS)
    np.testing.assert_array_equal(*rows)


def test_symbols_without_a_window_are_skipped_with_a_note(model, bars):
    short = pd.concat([of(bars, "SYN0"), of(bars, "SYN1").head(WARM_UP_BARS + L - 1)])
    for ask in (classify, classify_latest):
        notes = []
        assert set(ask(model, short, note=notes.append)["symbol"]) == {"SYN0"}
        (note,) = notes
        assert "symbol SYN1 is skipped" in note and "159 bars" in note


def test_a_hole_in_the_newest_window_leaves_the_symbol_out(model, bars):
    late = of(bars, "SYN0").iloc[[*range(650), *range(690, 695)]]
    both = pd.concat([late, of(bars, "SYN2")])
    notes = []
    assert classify_latest(model, both, note=notes.append)["symbol"].tolist() == ["SYN2"]
    assert notes[0] == (
        "symbol SYN0 is skipped: 40 bars are missing between 2024-01-07 18:15 and 2024-01-08 04:30 "
        "UTC, and an answer needs 160 bars after such a hole; there are 5 of 655 bars"
    )
    with pytest.raises(InputError, match="a window needs 160 bars of a symbol without a hole"):
        classify_latest(model, late)


def test_a_table_that_ends_before_the_newest_bar_says_why(model, bars):
    late = of(bars, "SYN0").iloc[[*range(650), *range(690, 695)]]
    notes = []
    table = classify(model, late, note=notes.append)
    assert table["timestamp"].max() == late["timestamp"].iloc[649]
    (note,) = notes
    assert note.startswith("the newest bar of SYN0, 2024-01-08 05:30 UTC, has no answer: 40 bars")


def test_a_hole_in_one_symbol_is_told_from_a_closed_day_by_the_others(model):
    """A model of hourly bars answers after a day on which nobody traded, not after a lost one."""
    whole = random_walk(3, 24 * 120, interval="1h")
    times = whole["timestamp"].dt
    traded = whole[(times.day_of_week < 5) & times.hour.between(14, 20)]
    last = traded["timestamp"].dt.normalize().max()
    day = traded["timestamp"].dt.normalize() == last - pd.Timedelta("7D")
    hourly = make_model(interval_seconds=3600.0, max_gap_bars=5)
    notes = []
    closed = traded[~day].reset_index(drop=True)
    found = classify_latest(hourly, closed, note=notes.append)
    assert (found["symbol"].nunique(), notes) == (3, [])
    lost = traded[~day | (traded["symbol"] != "SYN1")].reset_index(drop=True)
    found = classify_latest(hourly, lost, note=notes.append)
    assert found["symbol"].tolist() == ["SYN0", "SYN2"]
    assert "SYN1 is skipped: 7 bars are missing between" in notes[0]
    assert len(classify_latest(hourly, of(lost, "SYN1"))) == 1  # alone it may be a holiday


@pytest.mark.parametrize("ask", [classify, classify_latest])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["BUY", "HOLD", "SELL"]}, "the model's classes must be"),
        ({"feature_names": ["range"] * 30}, "the model's features must be those of this version"),
        ({"call": {"rule": "largest", "prior": PRIOR}}, "must be made by the rule 'largest lift'"),
        ({"gaps": "by hand"}, "must be told by the rule 'sessions', got 'by hand'"),
        ({"interval_seconds": 3600.0}, "trained on bars every hour, got bars every 15 minutes"),
    ],
)
def test_bars_that_the_model_does_not_know_are_refused(bars, ask, changes, message):
    with pytest.raises(InputError, match=message):
        ask(make_model(**changes), bars)


def test_another_version_of_the_features_library_is_told():
    bars = random_walk(1, WARM_UP_BARS + L + 5, seed=1)
    notes = []
    classify(make_model(versions={"ta-lib": "0.6.8"}), bars, note=notes.append)
    assert any("trained on features from TA-Lib 0.6.8; this is TA-Lib" in note for note in notes)
    for same in ({"versions": {"ta-lib": importlib.metadata.version("ta-lib")}}, {"versions": {}}):
        notes.clear()
        classify(make_model(**same), bars, note=notes.append)
        assert not any("TA-Lib" in note for note in notes)
