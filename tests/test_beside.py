"""Features beside the market, and the moments at which other symbols' bars are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_market import SETTINGS

from core.errors import InputError
from data.audit.audit import audit_market
from data.bars.checks import check_bars
from data.bars.synthetic import random_walk
from data.features.settings import STANDARD, FeatureSettings, settings_of
from data.features.universe import MOST_SPREADS, Universe, trimmed
from data.market.market import build_market

BESIDE = replace(SETTINGS, features=FeatureSettings(market=("log_return_1", "rsi")))
MINUTE = 60_000_000_000


def beside(market, form, name):
    return market.features[:, market.feature_names.index(f"market_{form}_{name}")]


def own(market, name):
    return market.features[:, market.feature_names.index(name)]


def without(bars, symbol, start, stop):
    """Returns the bars without some of a symbol's."""
    rows = np.flatnonzero(bars["symbol"] == symbol)[start:stop]
    return bars.drop(bars.index[rows]).reset_index(drop=True)


@pytest.fixture(scope="module")
def bars():
    return random_walk(6, 700)


@pytest.fixture(scope="module")
def market(bars):
    return build_market(bars, BESIDE)


def test_the_mean_leaves_out_the_ends_whatever_the_order_and_the_absent():
    values = np.array([[5.0, 1.0, 2.0, 100.0, np.nan], [3.0, np.nan, 4.0, 5.0, np.nan]])
    mean, spread = trimmed(values, 4)
    np.testing.assert_allclose(mean, [3.5, np.nan])
    np.testing.assert_allclose(spread, [1.5, np.nan])
    many = np.random.default_rng(0).normal(size=(3, 137))
    shuffled = np.concatenate([many[:, ::-1], np.full((3, 9), np.nan)], axis=1)
    np.testing.assert_array_equal(trimmed(many, 4), trimmed(shuffled, 4))
    kept = np.sort(many, axis=1)[:, 13:-13]
    np.testing.assert_allclose(trimmed(many, 4)[0], kept.mean(axis=1))


def test_one_symbol_cannot_move_the_mean():
    calm = np.random.default_rng(0).normal(size=(1, 4))
    crashed = calm.copy()
    crashed[0, 2] = -1e9
    inner = np.sort(calm)[0, 1:3]
    assert np.ptp(calm) >= abs(trimmed(crashed, 4)[0] - trimmed(calm, 4)[0])[0]
    assert trimmed(crashed, 4)[0][0] >= np.sort(calm)[0, 0]
    assert inner[0] <= trimmed(calm, 4)[0][0] <= inner[1]


def test_a_bar_is_known_from_its_close_until_the_next_should_have_closed():
    short = np.array([10, 20, 30, 50]) * MINUTE
    long = np.array([15, 45]) * MINUTE
    universe = Universe([short, long], [10 * MINUTE, 30 * MINUTE])
    moments = np.array([9, 10, 15, 19, 20, 39, 40, 44, 45, 50]) * MINUTE
    at = universe.at(moments)
    assert at[:, 0].tolist() == [-1, 0, 0, 0, 1, 2, -1, -1, -1, 3]
    assert at[:, 1].tolist() == [-1, -1, 4, 4, 4, 4, 4, 4, 5, 5]


def test_the_columns_are_those_of_a_plain_computation(market):
    times = market.timestamps
    for name in ("log_return_1", "rsi"):
        frame = pd.DataFrame({"time": times, "symbol": market.symbols, "x": own(market, name)})
        wide = frame.pivot(index="time", columns="symbol", values="x").to_numpy(np.float64)
        inner = np.sort(wide, axis=1)[:, 1:-1]
        mean = inner.mean(axis=1)
        spread = np.sqrt(((inner - mean[:, None]) ** 2).mean(axis=1))
        expected = (wide - mean[:, None]) / spread[:, None]
        np.testing.assert_allclose(beside(market, "mean", name), np.tile(mean, 6), atol=1e-6)
        difference = (wide - mean[:, None]).T.reshape(-1)
        np.testing.assert_allclose(beside(market, "difference", name), difference, atol=1e-6)
        clipped = np.clip(expected.T.reshape(-1), -MOST_SPREADS, MOST_SPREADS)
        np.testing.assert_allclose(beside(market, "spread", name), clipped, rtol=1e-3, atol=1e-3)


def test_off_the_rows_are_those_of_before(bars, market):
    plain = build_market(bars, SETTINGS)
    np.testing.assert_array_equal(market.features[:, : plain.features.shape[1]], plain.features)
    assert market.feature_names[: len(plain.feature_names)] == plain.feature_names
    np.testing.assert_array_equal(market.folds[0].labels, plain.folds[0].labels)


def test_too_few_symbols_are_no_market(bars):
    few = bars[bars["symbol"].isin(["SYN0", "SYN1", "SYN2"])].reset_index(drop=True)
    market = build_market(few, BESIDE)
    np.testing.assert_array_equal(beside(market, "mean", "rsi"), own(market, "rsi"))
    assert not beside(market, "difference", "rsi").any()
    assert not beside(market, "spread", "rsi").any()


def test_a_symbol_enters_and_leaves_the_mean(bars, market):
    gone = bars[~((bars["symbol"] == "SYN5") & (bars.index >= bars.index[-1] - 99))]
    late = build_market(gone.reset_index(drop=True), BESIDE)
    there, now = (beside(m, "mean", "rsi")[m.symbols == 0] for m in (market, late))
    np.testing.assert_array_equal(there[:-100], now[:-100])
    assert (there[-100:] != now[-100:]).mean() > 0.9


def test_a_missing_bar_is_left_out_and_no_old_one_stands_in(bars):
    whole = build_market(bars, BESIDE)
    holed = build_market(without(bars, "SYN5", 400, 402), BESIDE)
    was, now = (beside(m, "mean", "log_return_1")[m.symbols == 0] for m in (whole, holed))
    changed = np.flatnonzero(was != now)
    # The two bars, and the return over them to the next one; nothing else.
    assert set(changed + 150) <= {400, 401, 402}


def test_a_store_and_memory_hold_the_same(bars, market, tmp_path):
    for settings in (BESIDE, replace(BESIDE, label_reference="market")):
        here = build_market(bars, settings)
        there = build_market(bars, settings, feature_store=tmp_path / settings.label_reference)
        np.testing.assert_array_equal(here.features, there.features)
        np.testing.assert_array_equal(here.folds[0].labels, there.folds[0].labels)
        again = build_market(None, settings, feature_store=tmp_path / settings.label_reference)
        np.testing.assert_array_equal(here.features, again.features)
        np.testing.assert_array_equal(here.folds[0].labels, again.folds[0].labels)


def test_a_symbol_too_short_for_a_window_counts_and_is_told(bars):
    short = bars.drop(bars.index[-510:]).reset_index(drop=True)  # 190 bars of SYN5 < 164 + 4...
    notes = []
    longer = replace(BESIDE, sequence_length=40)
    market = build_market(short, longer, note=notes.append)
    assert market.symbol_names[-1] == "SYN5"
    assert [note for note in notes if note.startswith("symbol SYN5 has no window, but counts")]


@pytest.mark.parametrize("reference", ["none", "market"])
def test_nothing_looks_ahead(bars, reference):
    settings = replace(BESIDE, label_reference=reference)
    settings = replace(settings, features=replace(settings.features, timeframes=(4,)))
    newer = without(bars, "SYN1", 0, 130)  # listed later
    newer = without(newer, "SYN2", 500, None)  # delisted
    assert audit_market(newer, settings, num_cuts=3) == []


def test_a_leak_through_another_symbol_is_found(bars):
    def build(bars, settings):
        market = build_market(bars, settings)
        features, column = market.features.copy(), market.feature_names.index("market_mean_rsi")
        tomorrow = np.roll(features[:, column], -1)
        features[market.symbols == 0, column] = tomorrow[market.symbols == 3]
        return replace(market, features=features)

    found = audit_market(bars, BESIDE, build=build, num_cuts=2)
    assert ("feature", "market_mean_rsi", "SYN0") in [(f.kind, f.column, f.symbol) for f in found]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"market": ("rsi", "rsi")}, "each once; got rsi, rsi"),
        ({"market": ("time_of_day_sin",)}, "got time_of_day_sin"),
        ({"market": ("rsi",), "market_forms": ()}, "must be some of mean, difference, spread"),
        ({"market_min_symbols": 3}, "at least 4 symbols, got 3"),
        ({"timeframes": (1,)}, "at least 2 bars each"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, line):
    with pytest.raises(InputError, match=line):
        FeatureSettings(**settings)


def test_a_contract_keeps_the_settings():
    settings = FeatureSettings(timeframes=(4,), market=STANDARD, market_forms=("spread",))
    assert settings_of({"features": settings.as_dict()}) == settings
    assert settings_of({}) == FeatureSettings()
    with pytest.raises(InputError, match="settings of this version"):
        settings_of({"features": {"moon": 1}})


def test_prices_of_a_flash_crash_stay_with_the_symbol(bars, market):
    crashed = bars.copy()
    row = np.flatnonzero(bars["symbol"] == "SYN4")[450]
    crashed.loc[row, ["open", "high", "low", "close"]] *= 0.3
    other = build_market(check_bars(crashed), BESIDE)
    first = market.symbols == 0
    was, now = (beside(one, "mean", "log_return_1")[first] for one in (market, other))
    assert np.abs(was - now).max() < 0.003  # a bar's volatility
