import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference_windows import intersecting, window_ends

from data.bars.checks import check_bars
from data.bars.read import read_bars
from data.bars.synthetic import random_walk
from data.features.features import compute_features
from data.features.indicators import WARM_UP_BARS
from data.market.labels import HOLD, average_uniqueness, hold_share
from data.market.market import build_market
from data.market.settings import MarketSettings
from data.market.training_rows import training_rows, training_statistics
from data.market.windows import gather, spans

REAL = Path(os.environ.get("XLSTM_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
RATIOS = (0.33, 0.40, 0.33)
L, H = 10, 4


def settings(**changes):
    return replace(
        MarketSettings(
            sequence_length=L,
            future_window=H,
            label_method="volatility",
            price_change_threshold=0.004,
            target_class_ratios=RATIOS,
            embargo_bars=3,
            max_gap_bars=2,
        ),
        **changes,
    )


def market_of(bars, note=None, **changes):
    return build_market(bars, settings(**changes), note=note)


def spans_of(market, ends):
    return spans(ends, market.timestamps, market.sequence_length, market.future_window)


@pytest.fixture(scope="module")
def bars():
    return random_walk(3, 900)


@pytest.fixture(scope="module")
def market(bars):
    return market_of(bars)


def test_rows_are_the_bars_after_the_warm_up_by_symbol_and_time(bars, market):
    kept = bars.groupby("symbol", observed=True).tail(900 - WARM_UP_BARS)
    names = np.array(market.symbol_names)[market.symbols]
    assert names.tolist() == kept["symbol"].astype(str).tolist()
    assert (market.timestamps == kept["timestamp"].to_numpy("datetime64[ns]")).all()
    assert market.dropped["warm-up rows"] == 3 * WARM_UP_BARS
    assert np.isfinite(market.features).all()


def test_columns_have_the_promised_types(market):
    fold = market.folds[0]
    types = {
        "features": np.float32,
        "timestamps": "datetime64[ns]",
        "symbols": np.int16,
        "forward_return": np.float32,
        "trade_return": np.float32,
    }
    for name, dtype in types.items():
        assert getattr(market, name).dtype == np.dtype(dtype), name
    assert {fold.labels.dtype, fold.persistence.dtype} == {np.dtype(np.int8)}
    assert (market.intraday, market.interval_seconds) == (True, 900.0)


def test_no_symbol_sees_another(bars, market):
    alone = market_of(bars[bars["symbol"] == "SYN1"])
    own = market.symbols == 1
    np.testing.assert_array_equal(market.features[own], alone.features)
    np.testing.assert_array_equal(market.forward_return[own], alone.forward_return)


def test_a_window_shows_the_bars_up_to_its_end_and_its_label_the_move_after(bars, market):
    fold, row = market.folds[0], 700
    end = row - WARM_UP_BARS  # of the first symbol
    one = bars[bars["symbol"] == "SYN0"]
    shown = compute_features(one.iloc[: row + 1], intraday=True).to_numpy()[-L:]
    np.testing.assert_array_equal(gather(market.features, np.array([end]), L)[0], shown)
    move = np.log(one["close"].iloc[row + H] / one["close"].iloc[row])
    assert market.forward_return[end] == pytest.approx(move, rel=1e-5)
    trade = np.log(one["close"].iloc[row + H] / one["open"].iloc[row + 1])
    assert market.trade_return[end] == pytest.approx(trade, rel=1e-5)
    if fold.labels[end] != HOLD:
        assert np.sign(fold.labels[end] - 1) == np.sign(move)


def test_the_splits_are_apart_and_in_order(market):
    fold = market.folds[0]
    for early, late in (("train", "validation"), ("train", "test"), ("validation", "test")):
        first, last = (spans_of(market, getattr(fold, name)) for name in (early, late))
        assert first[1].max() < last[0].min()
        assert not intersecting(first, last).any()
    assert all((np.diff(getattr(fold, name)) > 0).all() for name in ("train", "test"))


def test_windows_are_those_of_the_rows_and_every_one_is_used_or_counted(market):
    fold = market.folds[0]
    ends = window_ends(market.symbols, market.timestamps, L, H, 2)
    used = np.concatenate([fold.train, fold.validation, fold.test])
    assert set(used) <= set(ends)
    assert len(used) + sum(fold.dropped.values()) == len(ends)
    assert market.dropped["windows that would cross a hole in time"] == 0
    assert (fold.labels[ends] >= 0).all()


@pytest.mark.parametrize("method", ["volatility", "triple_barrier"])
def test_the_threshold_comes_from_the_training_rows_only(bars, method):
    market = market_of(bars, label_method=method)
    fold = market.folds[0]
    train_share = (fold.labels[fold.train] == HOLD).mean()
    assert train_share == pytest.approx(hold_share(RATIOS), abs=0.02)
    end = market.timestamps[fold.train + H].max()
    wild = bars.copy()
    later = (wild["timestamp"].to_numpy("datetime64[ns]") > end).nonzero()[0]
    factor = np.exp(np.random.default_rng(0).normal(scale=0.05, size=len(later)))
    for name in ("open", "high", "low", "close"):
        wild.iloc[later, wild.columns.get_loc(name)] *= factor
    changed = market_of(check_bars(wild, "wild"), label_method=method).folds[0]
    assert changed.threshold == fold.threshold
    np.testing.assert_array_equal(changed.train, fold.train)
    np.testing.assert_array_equal(changed.labels[fold.train], fold.labels[fold.train])
    assert (changed.labels != fold.labels).any()


def test_a_fixed_threshold_is_the_given_one(bars):
    fold = market_of(bars, label_method="fixed").folds[0]
    assert fold.threshold == 0.004


def test_persistence_is_the_label_of_the_move_that_ended_at_the_row(market):
    fold = market.folds[0]
    per_symbol = 900 - WARM_UP_BARS
    assert (fold.persistence[:H] == -1).all()
    assert (fold.persistence[per_symbol : per_symbol + H] == -1).all()
    np.testing.assert_array_equal(fold.persistence[H:per_symbol], fold.labels[: per_symbol - H])


def test_a_hole_ends_windows_labels_and_persistence_and_is_counted(bars):
    gone = (bars["symbol"] == "SYN1") & bars.index.isin(bars.index[900 + 500 : 900 + 510])
    market = market_of(bars[~gone].reset_index(drop=True))
    fold, first = market.folds[0], 750 + 500 - WARM_UP_BARS  # the first row after the hole
    assert first in market.bounds
    ends = np.concatenate([fold.train, fold.validation, fold.test])
    assert not ((ends >= first - H) & (ends < first + L - 1)).any()
    assert (fold.labels[first - H : first] == -1).all()
    assert np.isnan(market.trade_return[first - H : first]).all()
    assert (fold.persistence[first : first + H] == -1).all()
    # The bars after the hole warm up anew.
    assert (
        market.timestamps[first] == bars["timestamp"].to_numpy("datetime64[ns]")[510 + WARM_UP_BARS]
    )
    lost = market.dropped["windows that would cross a hole in time"]
    assert lost == L + H - 1 + WARM_UP_BARS


@pytest.mark.parametrize("method", ["volatility", "triple_barrier"])
def test_nothing_reaches_across_a_hole(bars, method):
    hole = (bars["symbol"] == "SYN1").to_numpy() & bars.index.isin(range(1400, 1410))
    kept = bars[~hole].reset_index(drop=True)
    other = kept.copy()
    prices = ["open", "high", "low", "close"]
    other.loc[900:1399, prices] = kept.loc[900:1399, prices] * 15  # a ticker taken over
    other.loc[900:1399, "volume"] /= 7
    one, two = (market_of(frame, label_method=method) for frame in (kept, other))
    after = (one.symbols == 1) & (
        one.timestamps > bars["timestamp"].to_numpy("datetime64[ns]")[510]
    )
    assert after.sum() == 900 - 510 - WARM_UP_BARS
    for name in ("features", "forward_return", "trade_return"):
        np.testing.assert_array_equal(getattr(one, name)[after], getattr(two, name)[after])
    np.testing.assert_array_equal(one.folds[0].labels[after], two.folds[0].labels[after])


def test_bars_before_a_hole_in_the_warm_up_do_not_warm_up_for_those_after_it(bars):
    gone = bars.index.isin(bars.index[100:110])
    market = market_of(bars[~gone].reset_index(drop=True))
    assert market.timestamps[0] == bars["timestamp"].to_numpy("datetime64[ns]")[110 + WARM_UP_BARS]
    # 890 bars without a hole would give 100 windows more.
    assert market.dropped["windows that would cross a hole in time"] == 100


def test_a_split_without_windows_of_a_symbol_is_told():
    whole = random_walk(3, 1600)
    number = whole.groupby("symbol", observed=True).cumcount()
    late = (whole["symbol"] == "SYN2") & (number < 1220)
    early = (whole["symbol"] == "SYN0") & (number > 900)
    notes = []
    market_of(whole[~late & ~early].reset_index(drop=True), note=notes.append)
    assert notes == [
        "the train split has no window of 1 of the 3 symbols: SYN2",
        "the validation split has no window of 2 of the 3 symbols: SYN0, SYN2",
        "the test split has no window of 1 of the 3 symbols: SYN0",
    ]


def test_where_every_split_has_all_symbols_nothing_is_told(bars):
    notes = []
    market_of(bars, note=notes.append)
    assert notes == []


def test_bars_of_equal_value_are_refused_in_one_line():
    rng = np.random.default_rng(0)
    bars = random_walk(1, 900)
    steps = np.cumsum(rng.exponential(300, size=900) + 1).round().astype("timedelta64[s]")
    bars["timestamp"] = pd.to_datetime(np.datetime64("2024-01-01", "ns") + steps, utc=True)
    with pytest.raises(ValueError, match="SYN0: its bars must be of one length .* s to .* min"):
        market_of(bars)


@pytest.mark.parametrize("rolling", [False, True])
def test_walk_forward_folds_expand_or_roll_and_test_every_later_window_once(rolling):
    market = market_of(random_walk(2, 1600), num_folds=3, rolling=rolling)
    sizes = [len(fold.train) for fold in market.folds]
    if rolling:
        assert max(sizes) - min(sizes) < 0.1 * max(sizes)
        starts = [market.timestamps[fold.train].min() for fold in market.folds]
        assert starts[0] < starts[1] < starts[2]
    else:
        assert sizes[0] < sizes[1] < sizes[2]
    tested = np.concatenate([fold.test for fold in market.folds])
    assert len(np.unique(tested)) == len(tested)
    ends = window_ends(market.symbols, market.timestamps, L, H, 2)
    late = ends[market.timestamps[ends] >= market.timestamps[tested].min()]
    assert set(tested) == set(late)
    for fold in market.folds:
        train, test = spans_of(market, fold.train), spans_of(market, fold.test)
        assert not intersecting(train, test).any()
        assert train[1].max() < test[0].min()
    assert len({fold.threshold for fold in market.folds}) > 1


def test_short_symbols_are_skipped_with_a_note(bars):
    short = bars[(bars["symbol"] != "SYN1") | (bars.index < 1000)].reset_index(drop=True)
    notes = []
    market = market_of(short, note=notes.append)
    assert market.symbol_names == ("SYN0", "SYN2")
    assert market.dropped["symbols too short"] == 1
    needed = WARM_UP_BARS + L + H
    assert notes == [
        f"symbol SYN1 is skipped: a symbol needs at least {needed} bars ({WARM_UP_BARS} of "
        f"warm-up, {L} of a window, {H} of its label); it has 100"
    ]


def test_bars_may_come_one_symbol_at_a_time(bars, market):
    parts = (part for _, part in bars.groupby("symbol", observed=True))
    streamed = market_of(parts)
    np.testing.assert_array_equal(streamed.features, market.features)
    np.testing.assert_array_equal(streamed.folds[0].labels, market.folds[0].labels)


def test_the_callers_bars_are_not_modified(bars):
    before = bars.copy()
    market_of(bars)
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (100, {}, r"a symbol needs at least 164 bars .*SYN0 has 100"),
        (170, {}, r"split must hold windows"),
        (900, {"label_method": "guess"}, "the label method must be one of"),
        (900, {"label_method": "fixed", "price_change_threshold": 0.0}, "must be above 0, got 0"),
        (900, {"sequence_length": 0}, "a window must have at least 1 bar, got 0"),
        (900, {"future_window": 0}, "the label horizon must be at least 1 bar, got 0"),
        (900, {"target_class_ratios": (1, 0, 1)}, "three positive numbers"),
        (900, {"num_folds": 0}, "at least 1 fold"),
        (900, {"embargo_bars": -1}, "embargo must be at least 0 bars"),
        (
            900,
            {"label_method": "fixed", "price_change_threshold": 9.0},
            r"every class must occur .*the train split has no SELL and no BUY \(SELL 0, HOLD",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(rows, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        market_of(random_walk(1, rows), **changes)
    assert "\n" not in str(error.value)


def test_only_holes_give_a_clear_error():
    bars = random_walk(1, 3000)
    # Bursts of five bars, and between them holes of a length that no calendar explains.
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.integers(20, 60, 70))
    rows = (starts[:, None] + np.arange(5)).ravel()
    with pytest.raises(ValueError, match="need 164 bars without a gap of more than 2"):
        market_of(bars.iloc[rows[rows < 3000]].reset_index(drop=True))


def test_scaling_looks_at_the_rows_of_the_training_windows(market):
    fold = market.folds[0]
    shown = np.unique(fold.train[:, None] - np.arange(L))
    assert np.flatnonzero(training_rows(market, fold)).tolist() == shown.tolist()
    mean, variance = training_statistics(market, fold)
    rows = market.features[shown].astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-4)


def test_statistics_of_chunks_are_those_of_all_rows(market, monkeypatch):
    whole = training_statistics(market, market.folds[0])
    monkeypatch.setattr("data.market.training_rows._CHUNK", 17)
    for found, expected in zip(training_statistics(market, market.folds[0]), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_uniqueness_of_training_windows_counts_them_alone(market):
    fold = market.folds[0]
    weights = average_uniqueness(fold.train, H)
    inner = fold.train[2 * H]
    assert inner == fold.train[0] + 2 * H
    assert weights[2 * H] == pytest.approx(1 / H)
    assert weights[0] > weights[2 * H]


@pytest.mark.realdata
def test_no_span_of_real_bars_meets_one_of_a_later_split():
    path = REAL / "crypto_15m.csv.gz"
    if not path.is_file():
        pytest.skip(f"the real bars are not at {path}; set XLSTM_DATA_DIR to their folder")
    market = market_of(read_bars(path), sequence_length=60, future_window=12, num_folds=2)
    for fold in market.folds:
        test, validation = (spans_of(market, ends) for ends in (fold.test, fold.validation))
        assert intersecting(spans_of(market, fold.train), test).sum() == 0
        assert intersecting(spans_of(market, fold.train), validation).sum() == 0
        assert intersecting(validation, test).sum() == 0
        planted = np.array([fold.train[0], fold.test[0] - 1, fold.test[-1]])
        met = intersecting(spans_of(market, planted), test)
        assert met.tolist() == [False, True, True]
