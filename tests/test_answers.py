"""Calls, sides and their tables: when a market moves and where to, told apart."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from core.calls import calls
from data.market.labels import BUY, HOLD, SELL
from evaluation.answers import EVEN, Answers, answers, directions, tables
from evaluation.metrics import evaluate, mcc

PRIOR = np.array([0.2, 0.5, 0.3])


@pytest.fixture
def windows():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 800, p=PRIOR)
    probabilities = rng.dirichlet([2.0, 5.0, 3.0], 800)
    probabilities[np.arange(800), labels] += 0.1
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_figures_are_scikit_learns_of_calls_and_of_sides_where_it_moved(windows):
    labels, probabilities = windows
    found = evaluate(labels, probabilities, PRIOR)
    called = calls(probabilities, PRIOR)
    moved = labels != HOLD
    lifts = probabilities / PRIOR
    side = np.where(lifts[:, BUY] > lifts[:, SELL], BUY, SELL)
    expected = {
        "mcc": matthews_corrcoef(labels, called),
        "movement": matthews_corrcoef(moved, called != HOLD),
        "direction": matthews_corrcoef(labels[moved], side[moved]),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found.direction > 0.1 and found.movement > 0.1
    assert found.class_rates.predicted == (np.bincount(called) / 800).tolist()


def test_what_is_said_is_said_about_the_prior(windows):
    labels, probabilities = windows
    shy = PRIOR + 0.05 * (probabilities - PRIOR)  # the most probable class is always HOLD
    assert set(shy.argmax(axis=1)) == {HOLD}
    own, other = (evaluate(labels, given, PRIOR) for given in (shy, probabilities))
    for name in ("direction", "movement", "mcc", "confusion"):
        assert getattr(own, name) == getattr(other, name)
    assert evaluate(labels, shy).mcc == 0  # by an even prior it is the most probable class


def test_calibration_and_nll_do_not_depend_on_the_prior(windows):
    even, told = (evaluate(*windows, prior) for prior in (EVEN, PRIOR))
    for name in ("nll", "ece", "classwise_ece"):
        assert getattr(even, name) == getattr(told, name)
    assert even.mcc != told.mcc


def test_sell_and_buy_can_change_places(windows):
    labels, probabilities = windows
    found = evaluate(labels, probabilities, PRIOR)
    mirrored = evaluate(2 - labels, probabilities[:, ::-1], PRIOR[::-1])
    for name in ("direction", "movement", "mcc", "balanced_accuracy", "accuracy", "nll", "ece"):
        assert getattr(mirrored, name) == pytest.approx(getattr(found, name), abs=1e-12), name


def test_each_window_may_have_the_prior_of_its_own_fold(windows):
    labels, probabilities = windows
    priors = np.repeat([PRIOR, PRIOR[::-1]], 400, axis=0)
    found = answers(probabilities, priors)
    halves = [answers(probabilities[:400], PRIOR), answers(probabilities[400:], PRIOR[::-1])]
    for name in ("calls", "sides"):
        expected = np.concatenate([getattr(half, name) for half in halves])
        np.testing.assert_array_equal(getattr(found, name), expected)


def test_who_says_the_prior_takes_no_side_and_has_no_skill(windows):
    labels, _ = windows
    constant = np.tile(PRIOR.astype(np.float32), (800, 1))
    given = answers(constant, PRIOR)
    assert not given.sides.any() and set(given.calls) == {HOLD}
    found = evaluate(labels, constant, PRIOR)
    assert found.direction == found.movement == found.mcc == 0


def test_a_side_that_is_not_told_is_half_a_window_for_each():
    blocks, labels = np.zeros(5, int), np.array([SELL, BUY, BUY, HOLD, SELL])
    sides = np.array([-1, 1, 0, 1, 0])
    assert directions(blocks, labels, sides).tolist() == [[[1.5, 0.5], [0.5, 1.5]]]


def test_whoever_knows_the_size_of_a_move_alone_has_no_direction():
    rng = np.random.default_rng(1)
    busy = rng.random(20_000) < 0.5
    share = np.where(busy, 0.4, 0.15)
    draw = rng.random(20_000)
    labels = np.where(draw < share, SELL, np.where(draw < 2 * share, BUY, HOLD))
    lean = rng.normal(0, 0.02, 20_000)  # without any sense
    probabilities = np.stack([share + lean, 1 - 2 * share, share - lean], axis=1)
    found = evaluate(labels, probabilities, np.bincount(labels) / 20_000)
    assert found.movement > 0.4 and found.mcc > 0.15
    assert abs(found.direction) < 0.03


def test_blocks_sum_to_the_whole(windows):
    labels, probabilities = windows
    given = answers(probabilities, PRIOR)
    blocks = np.random.default_rng(2).permutation(np.arange(800) % 7)
    found = tables(blocks, labels, given)
    whole = tables(np.zeros(800, int), labels, given)
    for name, table in found.items():
        assert len(table) == 7
        np.testing.assert_array_equal(table.sum(axis=0), whole[name][0])
    third = blocks == 3
    own = Answers(given.calls[third], given.sides[third])
    alone = tables(np.zeros(third.sum(), int), labels[third], own)
    for name, table in alone.items():
        np.testing.assert_array_equal(found[name][3], table[0])
        assert mcc(table[0]) != 0
    with pytest.raises(ValueError, match="an answer for each window"):
        tables(blocks[1:], labels, given)
