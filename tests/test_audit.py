import dataclasses

import numpy as np
import pandas as pd
import pytest

from data.bars.read import check_bars
from data.bars.synthetic import random_walk
from data.market import audit
from data.market.audit import alter_bars, audit_market, audit_rows, cut_times, features_of
from data.market.features import WARM_UP_BARS
from data.market.labels import label_scores
from data.market.market import build_market

SETTINGS = {
    "sequence_length": 10,
    "future_window": 4,
    "label_method": "volatility",
    "price_change_threshold": 0.004,
    "target_class_ratios": (0.33, 0.40, 0.33),
    "embargo_bars": 3,
    "max_gap_bars": 2,
}


@pytest.fixture(scope="module")
def bars():
    return random_walk(2, 700)


def with_feature(change):
    """Returns a builder whose column "rsi" is change(bars of one symbol, values)."""

    def build(bars, **settings):
        market = build_market(bars, **settings)
        features, column = market.features.copy(), market.feature_names.index("rsi")
        for code, name in enumerate(market.symbol_names):
            own = market.symbols == code
            part = bars[bars["symbol"] == name].iloc[WARM_UP_BARS:]
            features[own, column] = change(part, features[own, column])
        return dataclasses.replace(market, features=features)

    return build


def centred_mean(part, values):
    return part["close"].rolling(5, center=True, min_periods=1).mean().to_numpy()


def whole_series_fill(part, values):
    return np.where(values < -0.2, np.median(values), values)


def scaled_on_all_rows(part, values):
    return (values - values.mean()) / values.std()


def threshold_of_the_last_bars(bars, **settings):
    market = build_market(bars, **settings)
    fold, scores = market.folds[0], market.forward_return
    late = scores[-200:][~np.isnan(scores[-200:])]
    threshold = float(np.quantile(np.abs(late), 0.4))
    labels = label_scores(scores, threshold)
    changed = dataclasses.replace(fold, threshold=threshold, labels=labels)
    return dataclasses.replace(market, folds=(changed,))


def other_symbols_future(bars, **settings):
    market = build_market(bars, **settings)
    features, column = market.features.copy(), market.feature_names.index("rsi")
    per_symbol = len(features) // 2
    features[per_symbol:-3, column] = features[3:per_symbol, column]
    return dataclasses.replace(market, features=features)


def all_rows(market, fold):
    return market.features.mean(axis=0), market.features.var(axis=0)


@pytest.mark.parametrize("method", ["volatility", "fixed", "triple_barrier"])
def test_the_data_path_is_clean(bars, method):
    assert audit_market(bars, **SETTINGS | {"label_method": method}) == []


@pytest.mark.parametrize("rolling", [False, True])
def test_every_fold_of_a_walk_forward_is_clean(rolling):
    bars = random_walk(2, 900)
    assert audit_market(bars, **SETTINGS, num_folds=2, rolling=rolling) == []


def test_daily_bars_with_a_hole_and_symbols_of_other_length_are_clean():
    bars = random_walk(3, 900, interval="1D")
    gone = bars.index.isin([*range(300, 320), *range(1700, 1800), *range(1800, 2600)])
    assert audit_market(bars[~gone].reset_index(drop=True), **SETTINGS) == []


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
    findings = audit_market(bars, build=build, **SETTINGS)
    named = {(finding.kind, finding.column) for finding in findings}
    # A leaking column leaks into its own scaling; nothing else may be blamed.
    scaling = {("scaling", f"{what} of rsi of fold 1") for what in ("mean", "variance")}
    assert ("feature", "rsi") in named <= {("feature", "rsi")} | scaling
    leak = next(finding for finding in findings if finding.kind == "feature")
    assert leak.cut == cut_times(bars)[0]
    if within_bars:  # of the cut; a whole-series figure changes values long before
        assert leak.bar == leak.cut - (within_bars - 1) * np.timedelta64(15, "m")
        assert leak.symbol == ("SYN1" if build is other_symbols_future else "SYN0")
    assert str(leak).startswith("feature rsi from bar 2024-01-0")
    assert "\n" not in str(leak)


def test_a_threshold_of_the_last_bars_is_caught_and_named(bars):
    findings = audit_market(bars, build=threshold_of_the_last_bars, **SETTINGS)
    assert [(finding.kind, finding.column) for finding in findings] == [("threshold", "of fold 1")]
    assert str(findings[0]).startswith("threshold of fold 1 depends on bars after 2024-01-0")


def test_a_scaler_fitted_on_all_rows_is_caught_and_named(bars):
    findings = audit_market(bars, scale=all_rows, **SETTINGS)
    assert {finding.kind for finding in findings} == {"scaling"}
    columns = {finding.column for finding in findings}
    assert {"mean of rsi of fold 1", "variance of natr of fold 1"} <= columns
    assert not any("time_of_day" in column for column in columns)


def test_labels_that_look_beyond_their_horizon_are_caught_and_named(bars):
    def build(bars, **settings):
        market = build_market(bars, **settings)
        return dataclasses.replace(market, trade_return=np.roll(market.trade_return, -1))

    findings = audit_market(bars, build=build, **SETTINGS)
    assert [(finding.kind, finding.column) for finding in findings] == [("label", "trade_return")]


def test_persistence_of_a_move_that_has_not_ended_is_caught(bars):
    def build(bars, **settings):
        market = build_market(bars, **settings)
        fold = market.folds[0]
        early = dataclasses.replace(fold, persistence=np.roll(fold.persistence, -1))
        return dataclasses.replace(market, folds=(early,))

    findings = audit_market(bars, build=build, **SETTINGS)
    assert [finding.column for finding in findings] == ["persistence of fold 1"]


def test_a_leak_that_only_cut_bars_show_is_caught(bars, monkeypatch):
    # The number of bars is the same in altered bars: only cutting them off shows it.
    def counted(part, *, intraday):
        return pd.DataFrame({"rsi": np.full(len(part), len(part), np.float32)}, index=part.index)

    monkeypatch.setattr(audit, "compute_features", counted)
    assert [(one.kind, one.column) for one in audit_market(bars, **SETTINGS)] == [
        ("feature", "rsi")
    ]


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
    assert audit_rows(bars, features_of, cuts) == []


def test_altered_bars_differ_after_the_cut_only_and_stay_valid(bars):
    before, cut = bars.copy(), cut_times(bars, [0.5])[0]
    altered = alter_bars(bars, cut)
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
