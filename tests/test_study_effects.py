import numpy as np
import pytest

from evaluation.across.cross_section import Forecasts, correlations
from evaluation.answers import answers as said
from evaluation.metrics import evaluate
from recipe.study.effects import (
    MEASURES,
    RANKED,
    block_sums,
    holm,
    measured,
    measures,
    paired_effects,
)

HOUR = 3600
NUM_BLOCKS, PER_BLOCK = 24, 20
PRIOR = (0.25, 0.4, 0.35)


def windows(rng, num_blocks=NUM_BLOCKS):
    """Returns times and labels; the shares of the classes move from block to block."""
    count = num_blocks * PER_BLOCK
    times = np.datetime64("2024-01-01", "ns") + np.arange(count) * np.timedelta64(180, "s")
    shares = np.repeat(rng.dirichlet([8, 8, 8], num_blocks), PER_BLOCK, axis=0)
    return times, (rng.random((count, 1)) > shares.cumsum(axis=1)[:, :2]).sum(axis=1)


def answers(rng, labels, skill):
    """Returns probabilities in which the true class is `skill` likelier, and much noise."""
    logits = rng.normal(0, 0.5, (len(labels), 3))
    logits[np.arange(len(labels)), labels] += skill
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def sums_of(times, labels, probabilities):
    return block_sums(times, labels, probabilities, said(probabilities, PRIOR), HOUR)


def seeds_of(rng, times, labels, skills):
    return np.stack([sums_of(times, labels, answers(rng, labels, s)) for s in skills])


def test_the_measures_of_block_sums_are_those_of_the_evaluation():
    rng = np.random.default_rng(0)
    times, labels = windows(rng)
    probabilities = answers(rng, labels, 0.5)
    sums = sums_of(times, labels, probabilities)
    assert len(sums) == NUM_BLOCKS
    whole = evaluate(labels, probabilities, PRIOR)
    assert measures(sums.sum(axis=0)) == pytest.approx([getattr(whole, name) for name in MEASURES])
    kept = slice(PER_BLOCK, None)
    without = evaluate(labels[kept], probabilities[kept], PRIOR)
    assert measures(sums[1:].sum(axis=0)) == pytest.approx(
        [getattr(without, name) for name in MEASURES]
    )


def test_the_interval_covers_no_effect_as_often_as_it_says():
    rng, misses = np.random.default_rng(1), np.zeros(len(MEASURES))
    for _ in range(200):
        times, labels = windows(rng)
        arms = [seeds_of(rng, times, labels, rng.normal(0.3, 0.1, 5)) for _ in range(2)]
        found = paired_effects(*arms).values()
        misses += [not effect.low <= 0 <= effect.high for effect in found]
        for effect in found:
            assert (effect.p < 0.05) == (not effect.low <= 0 <= effect.high)
    assert (misses / 200 < 0.08).all() and misses.sum() > 0


def test_an_arm_with_less_skill_is_told_from_the_other():
    rng = np.random.default_rng(2)
    times, labels = windows(rng)
    worse = seeds_of(rng, times, labels, [0.1] * 3)
    better = seeds_of(rng, times, labels, [0.8] * 3)
    found = paired_effects(worse, better)
    assert found["nll"].low > 0 and found["mcc"].high < 0 and found["direction"].high < 0


def ranked_sums(rng, tilt, num_symbols=12, num_bars=NUM_BLOCKS * 4):
    """Returns sums over blocks of four hourly bars, and the correlations of the bars."""
    times = np.datetime64("2024-01-01", "ns") + np.arange(num_bars) * np.timedelta64(HOUR, "s")
    times, symbols = np.tile(times, num_symbols), np.repeat(np.arange(num_symbols), num_bars)
    labels = rng.integers(0, 3, len(times))
    given = answers(rng, labels, 0.5)
    returns = given[:, 2] - given[:, 0] + tilt * rng.normal(size=len(times))
    ranked = correlations(Forecasts(times, symbols, given), returns, block_seconds=4 * HOUR)
    said_so = said(given, PRIOR)
    return block_sums(times, labels, given, said_so, 4 * HOUR, ranked), ranked


def test_rank_correlations_are_means_over_the_bars_of_all_blocks_and_of_all_but_one():
    sums, (by_bar, blocks) = ranked_sums(np.random.default_rng(0), 1.0)
    assert measured(sums) == MEASURES + RANKED
    found = measures(sums.sum(axis=0))[len(MEASURES) :]
    assert found == pytest.approx([np.nanmean(by_bar[name]) for name in RANKED])
    without = measures(sums[1:].sum(axis=0))[len(MEASURES) :]
    assert without == pytest.approx([np.nanmean(by_bar[name][blocks > 0]) for name in RANKED])
    plain = measures(sums[:, : sums.shape[1] - 4].sum(axis=0))
    assert measures(sums.sum(axis=0))[: len(MEASURES)] == pytest.approx(plain)


def test_an_arm_that_ranks_better_is_told_from_the_other():
    rng = np.random.default_rng(1)
    better, worse = (np.stack([ranked_sums(rng, tilt)[0] for _ in range(3)]) for tilt in (0.2, 2.0))
    found = paired_effects(worse, better)
    assert list(found) == list(MEASURES + RANKED)
    assert found["rank_correlation"].high < 0 and found["timing"].high < 0


def test_what_no_bar_has_is_no_effect():
    rng = np.random.default_rng(2)
    arms = [np.stack([ranked_sums(rng, 1.0)[0] for _ in range(2)]) for _ in range(2)]
    for arm in arms:
        arm[..., -2:] = 0  # sum and count of the timing
    assert list(paired_effects(*arms)) == [*MEASURES, "rank_correlation"]


def test_there_is_no_interval_over_one_seed_or_one_block():
    rng = np.random.default_rng(3)
    for num_blocks, num_seeds in [(NUM_BLOCKS, 1), (1, 5)]:
        times, labels = windows(rng, num_blocks)
        a, b = (seeds_of(rng, times, labels, [0.5] * num_seeds) for _ in range(2))
        effect = paired_effects(a, b)["nll"]
        assert (effect.low, effect.high, effect.p) == (None, None, 1.0)


def test_arms_that_are_equal_have_no_effect():
    rng = np.random.default_rng(4)
    same = seeds_of(rng, *windows(rng), [0.5] * 2)
    assert paired_effects(same, same)["mcc"].p == 1.0


def test_holm_multiplies_the_least_by_their_number_and_never_turns_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
