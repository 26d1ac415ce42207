"""Serving a model whose features stand beside the market: the rows of its training or refusal."""

from dataclasses import replace

import numpy as np
import pytest
from small_market import SETTINGS

from core.errors import InputError
from data.bars.synthetic import random_walk
from data.features.settings import FeatureSettings
from data.market.market import build_market, living_symbols
from data.market.windows import ends_within, gather
from recipe.serve.inference import inference_windows

FEATURES = FeatureSettings(market=("log_return_1", "rsi"), timeframes=(4,))
L = SETTINGS.sequence_length


@pytest.fixture(scope="module")
def bars():
    bars = random_walk(7, 500)
    rows = np.flatnonzero(bars["symbol"] == "SYN3")
    gone, late = rows[-60:], np.flatnonzero(bars["symbol"] == "SYN5")[:170]
    return bars.drop(bars.index[[*gone, *late]]).reset_index(drop=True)


@pytest.fixture(scope="module")
def market(bars):
    return build_market(bars, replace(SETTINGS, features=FEATURES))


@pytest.fixture(scope="module")
def contract(market):
    return {
        "class_names": ["SELL", "HOLD", "BUY"],
        "feature_names": list(market.feature_names),
        "features": FEATURES.as_dict(),
        "sequence_length": L,
        "max_gap_bars": SETTINGS.max_gap_bars,
        "intraday": True,
        "interval_seconds": 900.0,
        "symbols": list(market.symbol_names),
        "universe": living_symbols(market),
        "call": {"rule": "largest lift", "prior": [0.3, 0.4, 0.3]},
    }


def of(bars, *names):
    return bars[bars["symbol"].isin(names)].reset_index(drop=True)


def test_all_rows_are_those_of_training(contract, bars, market):
    asked = inference_windows(contract, bars)
    np.testing.assert_array_equal(asked.features, market.features)
    np.testing.assert_array_equal(asked.ends, ends_within(market.bounds, L, 0))


def test_the_newest_windows_are_the_last_of_all(contract, bars):
    whole, newest = (
        inference_windows(contract, bars),
        inference_windows(contract, bars, newest_only=True),
    )
    last = whole.about.groupby("symbol", sort=False).tail(1).index.to_numpy()
    assert newest.about["symbol"].tolist() == [f"SYN{number}" for number in range(7)]
    np.testing.assert_array_equal(newest.gather(), whole.gather(last))
    assert len(newest.features) < len(whole.features) / 2


def test_a_few_symbols_are_answered_from_the_universe_alone(contract, bars, market):
    with pytest.raises(InputError, match="4 of which at least must have the bar.*SYN1, SYN2"):
        inference_windows(contract, of(bars, "SYN0"))
    for newest_only in (False, True):
        asked = inference_windows(
            contract, of(bars, "SYN0"), universe=bars, newest_only=newest_only
        )
        assert set(asked.about["symbol"]) == {"SYN0"}
        rows = np.flatnonzero(market.symbols == 0)[-1:]
        np.testing.assert_array_equal(asked.gather()[-1:], gather(market.features, rows, L))


def test_a_stranger_is_answered_and_does_not_move_the_market(contract, bars, market):
    stranger = of(random_walk(1, 500, seed=9), "SYN0")
    stranger["symbol"] = stranger["symbol"].cat.rename_categories({"SYN0": "NEW"})
    together = inference_windows(contract, stranger, universe=bars)
    alone = inference_windows(contract, bars)
    assert set(together.about["symbol"]) == {"NEW"}
    column = market.feature_names.index("market_mean_rsi")
    seen, rows = together.gather()[-1, :, column], np.flatnonzero(market.symbols == 0)[-L:]
    np.testing.assert_array_equal(seen, alone.features[rows, column])


def test_old_windows_of_a_smaller_market_are_told(contract, bars):
    few = {f"SYN{number}" for number in (0, 1)}
    early = bars["timestamp"] < bars["timestamp"].iloc[300]
    notes = []
    inference_windows(
        contract, bars[~early | bars["symbol"].isin(few)].reset_index(drop=True), note=notes.append
    )
    assert [note for note in notes if "their answers stand beside a smaller market" in note]


def test_500_symbols_need_only_their_newest_rows(contract, bars, monkeypatch):
    filled = []
    import data.features.features as rows

    fill = rows.fill_features

    def counted(part, out, **kwargs):
        filled.append(len(out))
        fill(part, out, **kwargs)

    monkeypatch.setattr(rows, "fill_features", counted)
    inference_windows(contract, of(bars, "SYN0", "SYN1", "SYN2", "SYN4"), newest_only=True)
    assert max(filled) <= L + 1


def test_a_universe_of_other_bars_is_refused(contract, bars):
    hourly = random_walk(7, 500, interval="1h")
    with pytest.raises(InputError, match="trained on bars every 15 minutes, got bars every hour"):
        inference_windows(contract, of(bars, "SYN0"), universe=hourly)


def test_half_of_a_small_universe_is_no_market(contract, bars):
    with pytest.raises(InputError, match="4 of which at least"):
        inference_windows(contract, of(bars, "SYN0", "SYN1", "SYN2"))


def test_one_symbol_that_is_a_bar_ahead_does_not_refuse_all_others(contract, bars):
    ahead = bars[(bars["symbol"] == "SYN0") | (bars["timestamp"] < bars["timestamp"].max())]
    notes = []
    table = inference_windows(contract, ahead.reset_index(drop=True), note=notes.append)
    assert len(table.ends) > 1000 and [note for note in notes if note.startswith("1 of ")]
