import weakref
from dataclasses import replace

import numpy as np
import pytest
from small_market import SETTINGS

from data.bars.synthetic import random_walk
from data.market.market import build_market, training_prior
from data.market.windows import gather, subsample
from evaluation.baselines import fitted
from evaluation.baselines import fold as fold_baselines
from evaluation.baselines.fold import fit_learners, fitting_windows
from evaluation.baselines.summaries import window_summary
from evaluation.drift import stability_index
from evaluation.judge import drift, predictions_table, recent_bars


@pytest.fixture(scope="module")
def bars():
    frame = random_walk(3, 1300)
    hole = frame.groupby("symbol", observed=True).cumcount().between(950, 959)
    return frame[~(hole & (frame["symbol"] == frame["symbol"].iloc[0]))]


@pytest.fixture(scope="module")
def market(bars):
    return build_market(bars, replace(SETTINGS, test_fraction=0.4))


def test_the_last_bars_have_the_price_of_their_bars_and_the_answers_given(bars, market):
    (fold,) = market.folds
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], len(fold.test))
    found = recent_bars(market, fold, probabilities, num_bars=60, num_symbols=2)
    sizes = np.bincount(market.symbols[fold.test])
    largest = {market.symbol_names[code] for code in np.argsort(-sizes, kind="stable")[:2]}
    assert set(found["symbol"]) == largest
    table = predictions_table(market, [fold], [probabilities])
    for symbol, own in found.groupby("symbol", observed=True):
        close = bars[bars["symbol"] == symbol].set_index("timestamp")["close"]
        close = close.loc[own["timestamp"]].to_numpy()
        assert own["price"].to_numpy() == pytest.approx(100 * close / close[0], rel=1e-4)
        last = table[table["symbol"] == symbol].tail(60)
        for name in ("timestamp", "call", "p_sell", "p_hold", "p_buy"):
            assert own[name].tolist() == last[name].tolist()


def test_predictions_hold_calls_and_sides_by_the_prior_of_their_fold(bars):
    market = build_market(bars, replace(SETTINGS, num_folds=2))
    rng, folds = np.random.default_rng(1), list(market.folds)
    probabilities = [rng.dirichlet([1, 1, 1], len(fold.test)) for fold in folds]
    table = predictions_table(market, folds, probabilities)
    assert list(table)[2:5] == ["label", "call", "side"]
    assert (table["call"].dtype, table["side"].dtype) == ("int32", "int8")
    priors = [np.tile(training_prior(fold), (len(fold.test), 1)) for fold in folds]
    assert not np.allclose(priors[0][0], priors[1][0], atol=1e-3)
    given = np.concatenate(probabilities)
    lifts = given / np.concatenate(priors)
    assert table["call"].tolist() == lifts.argmax(axis=1).tolist() != given.argmax(axis=1).tolist()
    assert table["side"].tolist() == np.sign(lifts[:, 2] - lifts[:, 0]).tolist()


def test_a_hole_in_the_bars_does_not_bend_the_price(bars, market):
    (fold,) = market.folds
    probabilities = np.full((len(fold.test), 3), 1 / 3)
    found = recent_bars(market, fold, probabilities, num_symbols=3)
    cut = found[found["symbol"] == bars["symbol"].iloc[0]]
    steps = cut["timestamp"].diff()
    assert steps.max() > 10 * steps.median()  # windows that would cross the hole are not there
    close = bars[bars["symbol"] == cut["symbol"].iloc[0]].set_index("timestamp")["close"]
    close = close.loc[cut["timestamp"]].to_numpy()
    assert cut["price"].to_numpy() == pytest.approx(100 * close / close[0], rel=1e-4)


def test_drift_compares_training_with_test_windows(market):
    (fold,) = market.folds
    found = drift(market, fold)
    assert set(found) == set(market.feature_names)
    column = market.features[:, market.feature_names.index("rsi")]
    assert found["rsi"] == stability_index(column[fold.train], column[fold.test])


def test_the_learners_see_every_window_up_to_a_limit(market, monkeypatch):
    (fold,) = market.folds
    monkeypatch.setattr(fold_baselines, "_CHUNK", 100)
    found = fitting_windows(market, fold)
    assert found["train"].x.dtype == np.float32
    np.testing.assert_array_equal(
        found["train"].x, window_summary(gather(market.features, fold.train, 10))
    )
    np.testing.assert_array_equal(found["train"].labels, fold.labels[fold.train])
    monkeypatch.setattr(fold_baselines, "_MOST", {"train": 200, "validation": 50})
    few = fitting_windows(market, fold)
    assert {name: len(windows.labels) for name, windows in few.items()} == {
        "train": 200,
        "validation": 50,
        "test": len(fold.test),
    }
    for name, windows in few.items():  # the whole time, evenly
        assert windows.blocks.max() == found[name].blocks.max()
        kept = subsample(len(found[name].labels), len(windows.labels))
        np.testing.assert_array_equal(windows.x, found[name].x[kept])
        np.testing.assert_array_equal(windows.labels, found[name].labels[kept])


def test_windows_are_of_one_learner_at_a_time_in_the_type_that_spares_a_copy(market, monkeypatch):
    (fold,) = market.folds
    seen, held = [], []

    def learner(train, validation, *, prior, seed, progress):
        held.append(weakref.ref(train))
        seen.append((train.x.dtype.name, validation.x.dtype.name))
        return fitted.Fitted(None, np.array([1]), prior)

    def give_up():
        assert all(windows() is None for windows in held)
        seen.append("given up")

    monkeypatch.setattr(fold_baselines, "FITTED", dict.fromkeys(fold_baselines.FITTED, learner))
    monkeypatch.setattr(fold_baselines, "release_memory", give_up)
    fit_learners(market, fold, seed=0)
    regression, trees = ("float32", "float32"), ("float64", "float32")
    assert seen == ["given up", regression, "given up", trees, "given up"]


def test_the_share_that_is_done_rises_and_is_told_before_each_part_of_the_answers(
    market, monkeypatch
):
    (fold,) = market.folds
    few = replace(fold, train=fold.train[:50], validation=fold.validation[:5], test=fold.test[:12])

    def learner(train, validation, *, prior, seed, progress):
        progress(0.5)
        return fitted.Fitted(None, np.array([1]), prior)

    shares = []
    monkeypatch.setattr(fold_baselines, "FITTED", dict.fromkeys(fold_baselines.FITTED, learner))
    monkeypatch.setattr(fold_baselines, "_AT_ONCE", 5)
    fit_learners(market, few, seed=0, progress=shares.append)
    assert shares == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


def test_all_windows_are_answered_though_few_choose(market, monkeypatch):
    (fold,) = market.folds
    monkeypatch.setattr(fold_baselines, "_MOST", {"train": 200, "validation": 50})
    for learner in fit_learners(market, fold, seed=0).values():
        for split, probabilities in learner.probabilities.items():
            summaries = window_summary(gather(market.features, getattr(fold, split), 10))
            np.testing.assert_allclose(
                learner.fitted.predict_proba(summaries), probabilities, rtol=0, atol=1e-12
            )


def test_windows_are_answered_by_parts_as_all_at_once(market, monkeypatch):
    (fold,) = market.folds
    few = replace(fold, train=fold.train[::4], validation=fold.validation[::4])
    whole = fit_learners(market, few, seed=0)
    summarised = []
    whole_summaries = fold_baselines._summaries

    def counted(market, ends, *options):
        summarised.append(len(ends))
        return whole_summaries(market, ends, *options)

    monkeypatch.setattr(fold_baselines, "_summaries", counted)
    monkeypatch.setattr(fold_baselines, "_AT_ONCE", 64)
    monkeypatch.setattr(fitted, "_AT_ONCE", 32)
    by_parts = fit_learners(market, few, seed=0)
    assert max(summarised[4:]) == 64  # after those that each of two learners is fitted to
    assert sum(summarised[4:]) == len(few.validation) + len(few.test)
    assert list(by_parts) == list(whole)
    for name, learner in whole.items():
        for split, probabilities in learner.probabilities.items():
            np.testing.assert_allclose(
                by_parts[name].probabilities[split], probabilities, rtol=0, atol=1e-6
            )
