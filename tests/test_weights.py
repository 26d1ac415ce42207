import dataclasses

import numpy as np
import pytest
from small_market import SETTINGS

from data.bars.synthetic import persistent_drift
from data.batches.training_batches import BatchSettings, ages, label_weights, training_batches
from data.market.labels import average_uniqueness
from data.market.market import build_market, training_prior
from data.market.training_rows import training_statistics

RATIOS = (0.33, 0.40, 0.33)


@pytest.fixture(scope="module")
def market():
    return build_market(persistent_drift(num_symbols=3, num_bars=500, seed=1), SETTINGS)


@pytest.fixture(scope="module")
def drifting(market):
    """A market whose early labels are SELL twice as often as its late ones."""
    fold, rng = market.folds[0], np.random.default_rng(0)
    middle = np.sort(market.timestamps[fold.train])[len(fold.train) // 2]
    early = market.timestamps < middle
    shares = np.where(early[:, None], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5])
    drawn = (rng.random(len(early))[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    labels = np.where(fold.labels >= 0, drawn, fold.labels).astype(np.int8)
    return dataclasses.replace(market, folds=(dataclasses.replace(fold, labels=labels),))


def batches_of(market, **options):
    fold = market.folds[0]
    settings = BatchSettings(batch_size=16, class_ratios=RATIOS, **options)
    return training_batches(settings, market, fold, 0, *training_statistics(market, fold))


def weighted_shares(batches, epoch=0):
    batches.set_epoch(epoch)
    totals = np.zeros(3)
    for index in range(len(batches)):
        _, y, weights = batches[index]
        totals += np.bincount(y.ravel() % 3, weights.ravel().astype(np.float64), 3)
    return totals / totals.sum()


def test_age_counts_the_later_bars_of_any_symbol():
    times = np.array(["2020-01-03", "2020-01-06", "2020-01-07", "2020-01-03"], "datetime64[ns]")
    np.testing.assert_array_equal(ages(times), [2, 1, 0, 2])


def test_a_label_weighs_half_after_the_half_life_and_all_weigh_1_in_the_mean():
    times = np.datetime64("2020-01-01", "ns") + np.arange(100).astype("timedelta64[h]")
    weights = label_weights(np.arange(100), times, half_life=7)
    np.testing.assert_allclose(weights[7:] / weights[:-7], 2, rtol=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-6)


def test_an_age_of_many_half_lives_leaves_a_weight_above_0():
    times = np.datetime64("2020-01-01", "ns") + np.arange(10_000).astype("timedelta64[h]")
    assert label_weights(np.arange(10_000), times, half_life=1).min() > 0


def test_age_and_uniqueness_multiply_and_neither_gives_no_weights():
    rng = np.random.default_rng(0)
    ends = np.sort(rng.choice(200, 60, replace=False))
    times = np.datetime64("2020-01-01", "ns") + ends.astype("timedelta64[h]")
    both, age = (label_weights(ends, times, horizon=h, half_life=20) for h in (5, 0))
    ratio = both / age / average_uniqueness(ends, 5)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert label_weights(ends, times) is None


@pytest.mark.parametrize("labels_per_sequence", [1, 6])
def test_balanced_classes_keep_their_ratios_whatever_their_ages(labels_per_sequence, drifting):
    batches = batches_of(
        drifting, labels_per_sequence=labels_per_sequence, balance_classes=True, half_life=60
    )
    expected = batches.plan.class_prior
    np.testing.assert_allclose(weighted_shares(batches), expected, rtol=1e-5)
    np.testing.assert_allclose(expected, np.array(RATIOS) / sum(RATIOS), atol=0.03)


def test_the_prior_that_is_restored_to_is_that_of_the_labels_whatever_their_age(drifting):
    """So is the one that calls are measured against: what knows nothing favours no class."""
    balanced, natural = (
        batches_of(drifting, labels_per_sequence=6, balance_classes=balance, half_life=60)
        for balance in (True, False)
    )
    shown = weighted_shares(natural)
    np.testing.assert_allclose(natural.plan.class_prior, shown, rtol=1e-5)
    fold = drifting.folds[0]
    plain = np.bincount(fold.labels[fold.train]) / len(fold.train)
    assert shown[2] > 0.42 > 0.38 > plain[2]
    for batches in (balanced, natural):
        np.testing.assert_array_equal(batches.plan.natural_prior, training_prior(fold))


@pytest.mark.parametrize("balance", [False, True])
def test_drawn_windows_keep_the_class_shares_with_a_hard_pool_of_old_windows(balance, drifting):
    batches = batches_of(
        drifting, balance_classes=balance, half_life=60, hard_share=lambda epoch: 0.5
    )
    before, labels = weighted_shares(batches, 1), batches.window_labels
    first = {c: np.flatnonzero(labels == c)[: (labels == c).sum() // 4] for c in range(3)}
    batches.set_hard_pool(first, epoch=1)
    after = weighted_shares(batches, 1)
    tolerance = {"rtol": 1e-5} if balance else {"atol": 0.02}  # rounds of draws are not whole
    for shares in (before, after):
        np.testing.assert_allclose(shares, batches.plan.class_prior, **tolerance)
