from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from evaluation.baselines import (
    ROUNDS,
    boosted_trees,
    constant_prior,
    logistic_regression,
    persistence,
    window_summary,
)
from evaluation.metrics import evaluate

LEARNERS = [logistic_regression, boosted_trees]


@pytest.fixture
def summaries():
    """Returns summaries with a signal in the first column, and labels: training and others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    labels = np.digitize(x[:, 0] + rng.normal(size=3000), [-0.7, 0.7])
    return x[:2000], labels[:2000], x[2000:], labels[2000:]


def test_summary_of_a_window_worked_by_hand():
    x = np.zeros((2, 8, 1), np.float32)
    x[1, :, 0] = [0, 0, 0, 0, 0, 0, 2, 6]
    np.testing.assert_allclose(window_summary(x)[0], [0, 0, 0, 0])
    np.testing.assert_allclose(window_summary(x)[1], [6, 1, np.sqrt(4), 4], rtol=1e-6)


def test_summary_keeps_the_order_of_the_windows_and_their_number_of_columns():
    x = np.random.default_rng(0).normal(size=(10, 7, 3)).astype(np.float32)
    whole = window_summary(x)
    assert (whole.shape, whole.dtype) == ((10, 12), np.float32)
    np.testing.assert_array_equal(window_summary(x[4:6]), whole[4:6])


def test_constant_prior_repeats_the_class_frequencies():
    found = constant_prior(np.array([0, 1, 1, 2]), 5)
    np.testing.assert_array_equal(found, np.tile([0.25, 0.5, 0.25], (5, 1)))


def test_persistence_is_the_counted_table():
    train_previous = np.array([0, 0, 0, 2, -1])
    train_labels = np.array([0, 0, 1, 0, 2])
    found = persistence(np.array([0, 1, 2, -1]), train_previous, train_labels)
    expected = [[3 / 6, 2 / 6, 1 / 6], [1 / 3] * 3, [2 / 4, 1 / 4, 1 / 4], [3 / 5, 1 / 5, 1 / 5]]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("follows", [0, 1])
def test_persistence_finds_trends_and_reversals(follows):
    rng = np.random.default_rng(0)
    previous = rng.integers(0, 3, 1000)
    usual = (previous + follows) % 3
    labels = np.where(rng.random(1000) < 0.6, usual, rng.integers(0, 3, 1000))
    found = evaluate(labels, persistence(previous, previous, labels))
    assert found["mcc"] > 0.5


@pytest.mark.parametrize("learner", LEARNERS)
def test_learners_find_a_signal_and_say_probabilities(learner, summaries):
    train_x, train_y, x, y = summaries
    found = evaluate(y, learner(train_x, train_y, x, y).predict_proba(x))
    prior = evaluate(y, constant_prior(train_y, len(y)))
    assert found["mcc"] > 0.25
    assert found["nll"] < prior["nll"] - 0.1


@pytest.mark.parametrize("learner", LEARNERS)
def test_learners_are_deterministic(learner, summaries):
    first, second = (learner(*summaries, seed=5).predict_proba(summaries[2]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("present", [[1], [0, 2], [0, 1]])
def test_learners_always_have_three_columns_in_class_order(learner, present, summaries):
    train_x, _, x, _ = summaries
    labels = np.asarray(present)[(train_x[:, 0] > 0).astype(int) % len(present)]
    expected = np.asarray(present)[(x[:, 0] > 0).astype(int) % len(present)]
    found = learner(train_x, labels, x, expected).predict_proba(x)
    assert found.shape == (len(x), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(np.flatnonzero(found.any(axis=0)), present)
    assert np.mean(found.argmax(axis=1) == expected) > 0.95


def test_scale_of_a_column_does_not_matter_to_the_logistic_regression(summaries):
    train_x, train_y, x, y = summaries
    scale = np.array([1e-4, 1, 1e3, 1, 1, 1])
    plain = logistic_regression(*summaries).predict_proba(x)
    moved = x * scale + 5
    scaled = logistic_regression(train_x * scale + 5, train_y, moved, y).predict_proba(moved)
    np.testing.assert_allclose(scaled, plain, atol=1e-3)


def test_regression_has_the_temperature_of_the_lowest_validation_nll(summaries):
    train_x, train_y, x, y = summaries
    rng = np.random.default_rng(1)
    shuffled = np.where(rng.random(len(y)) < 0.5, y, rng.integers(0, 3, len(y)))
    fitted = logistic_regression(train_x, train_y, x, shuffled)
    assert fitted.temperature > 1.5
    given, lowest = np.log(replace(fitted, temperature=1.0).predict_proba(x)), np.inf
    for temperature in np.linspace(0.5, 8, 200):
        lowest = min(lowest, log_loss(shuffled, softmax(given / temperature, axis=1)))
    assert log_loss(shuffled, fitted.predict_proba(x)) == pytest.approx(lowest, abs=1e-4)


@pytest.mark.parametrize("columns", [6, 1, 0])
def test_trees_have_the_rounds_of_the_highest_validation_mcc(columns, summaries):
    train_x, _, x, _ = summaries
    rng = np.random.default_rng(1)
    train_y, y = (
        np.digitize(given[:, :columns].sum(axis=1) + rng.normal(size=len(given)), [-0.7, 0.7])
        for given in (train_x, x)
    )
    most = boosted_trees(train_x, train_y, x, y).estimator.set_params(max_iter=max(ROUNDS))
    staged = list(most.fit(train_x, train_y).staged_predict_proba(x))
    scores = [evaluate(y, staged[rounds - 1])["mcc"] for rounds in ROUNDS]
    expected = staged[ROUNDS[int(np.argmax(scores))] - 1]
    np.testing.assert_allclose(boosted_trees(train_x, train_y, x, y).predict_proba(x), expected)
