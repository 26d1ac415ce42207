from dataclasses import replace

import numpy as np
import pytest
from planted_answers import grid, rows
from small_market import SETTINGS

from data.bars.synthetic import random_walk
from data.features.settings import FeatureSettings
from data.market.market import build_market
from evaluation.across.common_moves import by_heart, common_moves, common_variance


def planted(share, num_symbols, num_bars=3000, seed=0):
    """Returns moves with a common part of so much of the variance, their times and symbols."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(num_bars, 1))
    own = rng.normal(size=(num_bars, num_symbols))
    moves = np.sqrt(share) * common + np.sqrt(1 - share) * own
    return rows(moves * np.linspace(0.001, 0.1, num_symbols) + 0.01), *grid(num_bars, num_symbols)


@pytest.mark.parametrize("num_symbols", [4, 30])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.61, 1.0])
def test_a_known_share_is_found_whatever_the_volatilities(share, num_symbols):
    assert common_variance(*planted(share, num_symbols)) == pytest.approx(share, abs=0.03)


def test_it_is_the_mean_correlation_of_the_pairs():
    moves, times, symbols = planted(0.4, 5, 200)
    pairs = np.corrcoef(moves.reshape(5, -1))[np.triu_indices(5, 1)]
    assert common_variance(moves, times, symbols) == pytest.approx(pairs.mean())
    order = np.random.default_rng(0).permutation(len(moves))
    found = common_variance(moves[order], times[order], symbols[order])
    assert found == pytest.approx(pairs.mean())


def test_symbols_that_come_and_go_count_where_they_are():
    moves, times, symbols = planted(0.5, 12)
    there = (symbols > 5) | (times > times[1500])
    found = common_variance(moves[there], times[there], symbols[there])
    assert found == pytest.approx(0.5, abs=0.03)


def test_too_few_symbols_or_moves_have_no_share():
    moves, times, symbols = planted(0.5, 5)
    few = symbols < 3
    assert common_variance(moves[few], times[few], symbols[few]) is None
    short = (symbols < 3) | (times < times[29])
    assert common_variance(moves[short], times[short], symbols[short]) is None
    still = np.where(symbols < 3, moves, 0.0)
    assert common_variance(still, times, symbols) is None
    apart = times + symbols * np.timedelta64(10, "m")  # no two at a bar
    assert common_variance(moves, apart, symbols) is None


@pytest.fixture(scope="module")
def together():
    """A market whose symbols move as one in the training time, and apart later."""
    market = build_market(random_walk(4, 500), SETTINGS)
    (fold,) = market.folds
    times = np.unique(market.timestamps, return_inverse=True)[1]
    moves = np.random.default_rng(0).normal(size=times.max() + 1)[times]
    late = ~np.isin(np.arange(len(times)), fold.train)
    moves[late] = np.random.default_rng(1).normal(size=late.sum())
    return replace(market, forward_return=moves.astype(np.float32))


def test_a_line_is_said_where_much_is_common_and_labels_are_absolute(together):
    (fold,) = together.folds
    assert common_moves(together, fold) == (
        "100% of the variance of 4-bar moves is common to all symbols; "
        "LABEL_REFERENCE=market asks instead which symbols do better than the market"
    )
    relative = replace(together, settings=replace(SETTINGS, label_reference="market"))
    assert common_moves(relative, fold) is None
    assert common_moves(together, replace(fold, train=fold.test)) is None


def test_other_windows_than_those_of_training_change_nothing(together):
    (fold,) = together.folds
    changed = together.forward_return.copy()
    changed[~np.isin(np.arange(len(changed)), fold.train)] = 1e3
    assert common_moves(replace(together, forward_return=changed), fold) == common_moves(
        together, fold
    )


def test_seconds_by_which_feeds_are_late_change_nothing():
    moves, times, symbols = planted(0.4, 6)
    late = times + np.where(symbols % 2, 2, 0) * np.timedelta64(1, "s")
    assert common_variance(moves, late, symbols) == common_variance(moves, times, symbols)


def test_market_features_with_absolute_labels_are_warned_of():
    bars, beside = random_walk(4, 400), FeatureSettings(market=("rsi",))
    for features, reference in [(beside, "none"), (beside, "market"), (FeatureSettings(), "none")]:
        settings = replace(SETTINGS, features=features, label_reference=reference)
        told = by_heart(build_market(bars, settings))
        assert bool(told) == (features is beside and reference == "none")
