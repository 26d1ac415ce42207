from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data.audit import audit
from data.audit.audit import (
    alter_bars,
    audit_market,
    audit_rows,
    cut_times,
    drawn_cuts,
    features_with,
)
from data.audit.spans_met import SPLITS, meetings
from data.bars.checks import check_bars
from data.bars.synthetic import random_walk
from data.features.indicators import FEATURE_NAMES, WARM_UP_BARS
from data.market.labels import label_scores
from data.market.market import build_market
from data.market.settings import MarketSettings
from data.market.training_rows import deviation_statistics
from data.market.windows import ends_within

SETTINGS = MarketSettings(
    sequence_length=10,
    future_window=4,
    label_method="volatility",
    price_change_threshold=0.004,
    target_class_ratios=(0.33, 0.40, 0.33),
    embargo_bars=3,
    max_gap_bars=2,
)
FEW = {"num_cuts": 2}  # beside those at shares of the time: enough for what leaks everywhere


@pytest.fixture(scope="module")
def bars():
    return random_walk(2, 700)


def with_feature(change):
    """Returns a builder whose column "rsi" is change(bars of one symbol, values)."""

    def build(bars, settings):
        market = build_market(bars, settings)
        features, column = market.features.copy(), market.feature_names.index("rsi")
        for code, name in enumerate(market.symbol_names):
            own = market.symbols == code
            part = bars[bars["symbol"] == name].iloc[WARM_UP_BARS:]
            features[own, column] = change(part, features[own, column])
        return replace(market, features=features)

    return build


def centred_mean(part, values):
    return part["close"].rolling(5, center=True, min_periods=1).mean().to_numpy()


def whole_series_fill(part, values):
    return np.where(values < -0.2, np.median(values), values)


def scaled_on_all_rows(part, values):
    return (values - values.mean()) / values.std()


def ahead_on_some_bars(chosen):
    """Returns what takes the next bar's value where chosen(times of a symbol's bars) is true."""

    def change(part, values):
        ahead = chosen(part["timestamp"].to_numpy("datetime64[m]").astype(np.int64) // 15)
        return np.where(ahead, np.append(values[1:], values[-1]), values)

    return change


def one_in_fifty_at_random(number):
    return np.random.default_rng(1).random(10**4)[number % 10**4] < 1 / 50


def with_horizon_but_no_embargo(bars, settings):
    return build_market(bars, replace(settings, embargo_bars=0))


def without_purge(bars, settings):
    """Returns the market with every window in the split that its last bar's time lies in."""
    market = build_market(bars, settings)
    horizon, length = settings.future_window, settings.sequence_length
    ends = ends_within(market.bounds, length, horizon)
    folds = []
    for fold in market.folds:
        starts = [market.timestamps[getattr(fold, name)].min() for name in ("validation", "test")]
        last = market.timestamps[fold.test].max()
        part = np.searchsorted(starts, market.timestamps[ends], side="right")
        late = market.timestamps[ends] > last
        train, validation, test = (ends[(part == code) & ~late] for code in range(3))
        folds.append(replace(fold, train=train, validation=validation, test=test))
    return replace(market, folds=tuple(folds))


def threshold_of_the_last_bars(bars, settings):
    market = build_market(bars, settings)
    fold, scores = market.folds[0], market.forward_return
    late = scores[-200:][~np.isnan(scores[-200:])]
    threshold = float(np.quantile(np.abs(late), 0.4))
    labels = label_scores(scores, threshold)
    changed = replace(fold, threshold=threshold, labels=labels)
    return replace(market, folds=(changed,))


def other_symbols_future(bars, settings):
    market = build_market(bars, settings)
    features, column = market.features.copy(), market.feature_names.index("rsi")
    per_symbol = len(features) // 2
    features[per_symbol:-3, column] = features[3:per_symbol, column]
    return replace(market, features=features)


def all_rows(market, fold):
    return market.features.mean(axis=0), market.features.var(axis=0)


@pytest.mark.parametrize("method", ["volatility", "fixed", "triple_barrier"])
def test_the_data_path_is_clean(bars, method):
    assert audit_market(bars, replace(SETTINGS, label_method=method), **FEW) == []


@pytest.mark.parametrize("rolling", [False, True])
def test_every_fold_of_a_walk_forward_is_clean(rolling):
    bars = random_walk(2, 900)
    assert audit_market(bars, replace(SETTINGS, num_folds=2, rolling=rolling), **FEW) == []


def test_daily_bars_with_a_hole_and_symbols_of_other_length_are_clean():
    bars = random_walk(3, 900, interval="1D")
    gone = bars.index.isin([*range(300, 320), *range(1700, 1800), *range(1800, 2600)])
    assert audit_market(bars[~gone].reset_index(drop=True), SETTINGS, **FEW) == []


@pytest.mark.parametrize(
    ("build", "within_bars"),
    [
        (with_feature(centred_mean), 2),
        (with_feature(whole_series_fill), None),
        (with_feature(scaled_on_all_rows), None),
        (other_symbols_future, 3),
    ],
    ids=["centred rolling mean", "whole-series fill", "scaled on all rows", "other symbol"],
)
def test_a_planted_leak_in_a_feature_is_caught_and_named(bars, build, within_bars):
    findings = audit_market(bars, SETTINGS, build=build, **FEW)
    named = {(finding.kind, finding.column) for finding in findings}
    # A leaking column leaks into its own scaling; nothing else may be blamed.
    scaling = {
        ("scaling", f"{what} of {column} of fold 1")
        for what in ("mean", "variance")
        for column in ("rsi", "deviation of rsi")
    }
    assert ("feature", "rsi") in named <= {("feature", "rsi")} | scaling
    leak = next(finding for finding in findings if finding.kind == "feature")
    times = [*cut_times(bars), *drawn_cuts(bars, FEW["num_cuts"])]
    assert leak.cut == min(times)
    if within_bars:  # of the cut; a whole-series figure changes values long before
        assert leak.bar == leak.cut - (within_bars - 1) * np.timedelta64(15, "m")
        assert leak.symbol == ("SYN1" if build is other_symbols_future else "SYN0")
    assert str(leak).startswith("feature rsi from bar 2024-01-0")
    assert "\n" not in str(leak)


@pytest.mark.parametrize(
    ("chosen", "num_symbols"),
    [(lambda number: number % 47 == 3, 1), (one_in_fifty_at_random, 2)],
    ids=["every 47th bar", "2 % at random"],
)
def test_a_leak_on_one_bar_in_fifty_is_caught(chosen, num_symbols):
    bars = random_walk(num_symbols, 600 if num_symbols == 1 else 450)
    findings = audit_market(bars, SETTINGS, build=with_feature(ahead_on_some_bars(chosen)))
    (leak,) = [finding for finding in findings if finding.kind == "feature"]
    assert leak.column == "rsi"
    assert leak.bar == leak.cut  # it looks one bar ahead
    assert chosen(leak.bar.astype("datetime64[m]").astype(np.int64) // 15)


def test_a_leak_on_one_bar_in_fifty_of_one_symbol_shows_where_bars_are_cut_off():
    change = ahead_on_some_bars(lambda number: number % 50 == 17)

    def compute(frame):
        parts = [
            change(part, part["close"].to_numpy()) if name == "SYN1" else part["close"].to_numpy()
            for name, part in frame.groupby("symbol", observed=True)
        ]
        return pd.DataFrame({"close": np.concatenate(parts)}, index=frame.index)

    bars = random_walk(2, 450)
    found = audit_rows(bars, compute, drawn_cuts(bars, 50))
    assert [(one.column, one.symbol, one.bar == one.cut) for one in found] == [
        ("close", "SYN1", True)
    ]
    assert audit_rows(bars, lambda frame: frame[["close"]], drawn_cuts(bars, 50)) == []


def test_the_drawn_cuts_are_spread_and_as_many_in_a_row(bars):
    times = np.unique(bars["timestamp"].to_numpy("datetime64[ns]"))
    places = np.searchsorted(times, drawn_cuts(bars, 50))
    assert len(places) == 100 and WARM_UP_BARS <= places.min() <= places.max() < len(times) - 1
    assert len(set(places[:50])) == 50 and np.ptp(places[:50]) > 400
    assert np.diff(places[50:]).tolist() == [1] * 49
    assert len(drawn_cuts(random_walk(1, 30), 50)) == 2 * 14


@pytest.mark.parametrize(
    ("build", "pairs"),
    [
        (with_horizon_but_no_embargo, ["train, validation", "validation, test"]),
        (without_purge, ["train, validation", "validation, test"]),
    ],
)
@pytest.mark.parametrize("num_folds", [1, 2])
def test_a_split_without_embargo_or_purge_is_caught_and_named(build, pairs, num_folds):
    bars, settings = random_walk(2, 900), replace(SETTINGS, num_folds=num_folds)
    findings = audit_market(bars, settings, build=build, num_cuts=0)
    expected = [f"{pair} of fold {n + 1}" for n in range(num_folds) for pair in pairs]
    assert [(one.kind, one.column) for one in findings] == [("split", name) for name in expected]
    market, met = build(bars, settings), findings[0]
    first = market.timestamps[market.folds[0].validation - SETTINGS.sequence_length + 1].min()
    reached = market.timestamps[market.folds[0].train + SETTINGS.future_window].max()
    assert met.bar == first
    assert met.cut == reached + SETTINGS.embargo_bars * np.timedelta64(15, "m")
    assert str(met).startswith("split train, validation of fold 1: with label and embargo")


@pytest.mark.parametrize(("bars_free", "met"), [(3, True), (4, False)])
def test_spans_are_compared_over_all_symbols_and_in_calendar_time(bars_free, met):
    market = build_market(random_walk(2, 900), SETTINGS)
    (fold,) = market.folds
    names = ("sequence_length", "future_window", "embargo_bars")
    sizes = {name: getattr(SETTINGS, name) for name in names}
    of_first = {n: getattr(fold, n)[market.symbols[getattr(fold, n)] == 0] for n in SPLITS}
    begins = market.timestamps[of_first["validation"][0] - SETTINGS.sequence_length + 1]
    ended = begins - (bars_free + SETTINGS.future_window) * np.timedelta64(15, "m")
    other = np.flatnonzero((market.symbols == 1) & (market.timestamps == ended))
    found = meetings(market, replace(fold, **of_first | {"train": other}), **sizes)
    # The embargo is of 3 bars: the span of the other symbol may reach no bar of the first one's.
    assert [one.splits for one in found] == [("train", "validation")] * met
    swapped = {"train": of_first["validation"], "validation": other}
    found = meetings(market, replace(fold, **of_first | swapped), **sizes)
    assert (("train", "validation") in [one.splits for one in found]) == met  # in either order


def test_a_threshold_of_the_last_bars_is_caught_and_named(bars):
    findings = audit_market(bars, SETTINGS, build=threshold_of_the_last_bars, **FEW)
    assert [(finding.kind, finding.column) for finding in findings] == [("threshold", "of fold 1")]
    assert str(findings[0]).startswith("threshold of fold 1 depends on bars after 2024-01-0")


def test_a_scaler_fitted_on_all_rows_is_caught_and_named(bars):
    findings = audit_market(bars, SETTINGS, scale=all_rows, **FEW)
    assert {finding.kind for finding in findings} == {"scaling"}
    columns = {finding.column for finding in findings}
    assert {"mean of rsi of fold 1", "variance of natr of fold 1"} <= columns
    assert not any("time_of_day" in column for column in columns)


def test_deviations_scaled_by_later_windows_are_caught_and_named(bars):
    def later_too(market, fold):
        ends = np.sort(np.concatenate([fold.train, fold.test]))
        return deviation_statistics(market, replace(fold, train=ends))

    columns = {finding.column for finding in audit_market(bars, SETTINGS, scale=later_too, **FEW)}
    assert {"mean of rsi of fold 1", "mean of deviation of rsi of fold 1"} <= columns


def test_labels_that_look_beyond_their_horizon_are_caught_and_named(bars):
    def build(bars, settings):
        market = build_market(bars, settings)
        return replace(market, trade_return=np.roll(market.trade_return, -1))

    findings = audit_market(bars, SETTINGS, build=build, **FEW)
    assert [(finding.kind, finding.column) for finding in findings] == [("label", "trade_return")]


def test_persistence_of_a_move_that_has_not_ended_is_caught(bars):
    def build(bars, settings):
        market = build_market(bars, settings)
        fold = market.folds[0]
        early = replace(fold, persistence=np.roll(fold.persistence, -1))
        return replace(market, folds=(early,))

    findings = audit_market(bars, SETTINGS, build=build, **FEW)
    assert [finding.column for finding in findings] == ["persistence of fold 1"]


def test_a_leak_that_only_cut_bars_show_is_caught(bars, monkeypatch):
    # The number of bars is the same in altered bars: only cutting them off shows it.
    def counted(part, out, *, intraday, settings):
        out[:] = 0.0
        out[:, FEATURE_NAMES.index("rsi")] = len(part)

    monkeypatch.setattr(audit, "fill_features", counted)
    found = audit_market(bars, SETTINGS, **FEW)
    assert [(one.kind, one.column) for one in found] == [("feature", "rsi")]


def test_plain_functions_can_be_audited_and_the_horizon_counts(bars):
    def ahead(frame):
        later = frame.groupby("symbol", observed=True)["close"].shift(-3)
        return pd.DataFrame({"later": later, "now": frame["close"]})

    cuts = cut_times(bars)
    findings = audit_rows(bars, ahead, cuts)
    assert [(one.column, one.symbol) for one in findings] == [("later", "SYN0")]
    assert findings[0].bar == cuts[0] - 2 * np.timedelta64(15, "m")
    assert [one.column for one in audit_rows(bars, ahead, cuts, horizon=2)] == ["later"]
    assert audit_rows(bars, ahead, cuts, horizon=3) == []
    assert audit_rows(bars, features_with(SETTINGS), cuts) == []


def test_altered_bars_differ_after_the_cut_only_and_stay_valid(bars):
    before, cut = bars.copy(), cut_times(bars, [0.5])[0]
    altered = alter_bars(bars, bars["timestamp"].to_numpy("datetime64[ns]") > cut)
    pd.testing.assert_frame_equal(bars, before)
    check_bars(altered)
    late = bars["timestamp"].to_numpy("datetime64[ns]") > cut
    pd.testing.assert_frame_equal(altered[~late], bars[~late])
    for name in ("high", "low", "close", "volume"):
        assert (altered[late][name] != bars[late][name]).all()
    moves = [np.log(frame[late]["close"] / frame[late]["open"]) for frame in (bars, altered)]
    factors = moves[1] / moves[0]
    assert factors.between(-2.01, -1.09).all()
    assert factors.std() > 0.1
    pd.testing.assert_series_equal(altered["timestamp"], bars["timestamp"])
