import numpy as np
import pytest
from scipy.stats import t as student
from small_market import SETTINGS

from data.bars.synthetic import random_walk
from data.market.market import build_market
from evaluation.importance import explain, mean_interval, other_blocks

LENGTH = SETTINGS.sequence_length


@pytest.fixture(scope="module")
def market():
    return build_market(random_walk(2, 1200), SETTINGS)


class Oracle:
    """Knows the label of a window by the rsi of the bar `lag` bars before its last one."""

    def __init__(self, market, fold, lag):
        self.column, self.lag = market.feature_names.index("rsi"), lag
        ends = fold.validation
        values = market.features[ends - lag, self.column]
        self.answers = dict(zip(values.tolist(), fold.labels[ends].tolist(), strict=True))

    def __call__(self, batches):
        return np.concatenate([self.said(batches[n][0]) for n in range(len(batches))])

    def said(self, windows):
        values = windows[:, LENGTH - 1 - self.lag, self.column].tolist()
        named = [self.answers.get(value, 0) for value in values]
        return 0.85 * np.eye(3)[named] + 0.05


def test_the_feature_and_the_bars_that_a_model_needs_are_found(market):
    (fold,) = market.folds
    found = explain(Oracle(market, fold, lag=3), market, fold, seed=0)
    first, *others = found.features
    assert first.name == "rsi" and first.rise > 0.5 and first.interval[0] > 0
    assert {part.rise for part in others} == {0.0}
    assert len(found.features) == len(market.feature_names)
    assert found.nll == pytest.approx(-np.log(0.9))
    assert [part.bars for part in found.lookback] == [1, 2, 4, 8, 10]
    rises = [part.rise for part in found.lookback]
    assert min(rises[:2]) > 0.5 and rises[2:] == [0, 0, 0]  # the fourth newest bar is enough


def test_the_features_of_the_market_are_left_as_they_were(market):
    (fold,) = market.folds
    before = market.features.copy()
    explain(Oracle(market, fold, lag=0), market, fold, seed=0)
    assert np.array_equal(market.features, before)


@pytest.mark.parametrize("count", [2, 7, 20, 1003])
def test_no_window_keeps_its_own_block(count):
    taken = other_blocks(count, np.random.default_rng(count))
    parts = np.array_split(np.arange(count), min(20, count))
    for part in parts:
        assert not np.isin(taken[part], part).any()
    assert len(taken) == count and len(np.unique(taken)) > 0.9 * count


def test_the_interval_of_equal_blocks_is_the_t_interval_of_their_means():
    values = np.random.default_rng(0).normal(size=60)
    blocks = np.repeat(np.arange(6), 10)
    means = values.reshape(6, 10).mean(axis=1)
    width = student.ppf(0.975, 5) * means.std(ddof=1) / np.sqrt(6)
    mean, interval = mean_interval(values, blocks)
    assert mean == pytest.approx(means.mean())
    assert interval == pytest.approx([mean - width, mean + width])
    assert mean_interval(values, np.zeros(60, int)) == (pytest.approx(values.mean()), None)
