import numpy as np
import pytest

from core.priors import fit_temperature, tempered
from evaluation.baselines import learners
from evaluation.baselines.learners import (
    PARTS,
    PENALTIES,
    ROUNDS,
    _parts_left_out,
    boosted_trees,
    fitted_anew,
    logistic_regression,
)
from evaluation.baselines.simple import constant_prior, persistence
from evaluation.baselines.summaries import Windows, window_summary
from evaluation.metrics import evaluate

LEARNERS = [logistic_regression, boosted_trees]


PRIOR = np.array([0.3, 0.4, 0.3])


def windows_of(x, labels, num_blocks=20):
    """Returns windows in order of time, in blocks of equal size."""
    return Windows(x, np.asarray(labels), np.arange(len(x)) * num_blocks // len(x))


@pytest.fixture
def summaries():
    """Returns windows with a signal in the first column: of training and of validation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    labels = np.digitize(x[:, 0] + rng.normal(size=3000), [-0.7, 0.7])
    return windows_of(x[:2000], labels[:2000]), windows_of(x[2000:], labels[2000:])


def mean_loss(fitted, windows):
    return fitted.losses(windows).mean()


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
    assert found.mcc > 0.5


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_was_chosen_is_fitted_anew_to_other_windows(learner, summaries):
    train, validation = summaries
    chosen = learner(train, validation, prior=PRIOR)
    same = fitted_anew(chosen, train, prior=PRIOR)
    np.testing.assert_array_equal(
        same.predict_proba(validation.x), chosen.predict_proba(validation.x)
    )
    other = fitted_anew(chosen, validation, prior=PRIOR)
    assert mean_loss(other, validation) < mean_loss(chosen, validation)
    kept = [(one.rounds, one.penalty, one.temperature) for one in (other, chosen)]
    assert kept[0] == kept[1] and kept[0][:2].count(None) == 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_learners_find_a_signal_and_say_probabilities(learner, summaries):
    train, validation = summaries
    found = evaluate(
        validation.labels, learner(train, validation, prior=PRIOR).predict_proba(validation.x)
    )
    prior = evaluate(validation.labels, constant_prior(train.labels, len(validation.labels)))
    assert found.mcc > 0.25
    assert found.nll < prior.nll - 0.1


@pytest.mark.parametrize("learner", LEARNERS)
def test_learners_are_deterministic(learner, summaries):
    first, second = (
        learner(*summaries, prior=PRIOR, seed=5).predict_proba(summaries[1].x) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("present", [[1], [0, 2], [0, 1]])
def test_learners_always_have_three_columns_in_class_order(learner, present, summaries):
    train, validation = summaries
    first, second = (
        windows_of(given.x, np.asarray(present)[(given.x[:, 0] > 0).astype(int) % len(present)])
        for given in (train, validation)
    )
    prior = np.bincount(first.labels, minlength=3) / len(first.labels)
    found = learner(first, second, prior=prior).predict_proba(second.x)
    assert found.shape == (len(second.x), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(np.flatnonzero(found.any(axis=0)), present)
    assert np.mean(found.argmax(axis=1) == second.labels) > 0.95


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_class_that_training_never_saw_does_not_stop_a_learner(learner, summaries):
    train, validation = summaries
    without = windows_of(train.x, np.where(train.labels == 2, 1, train.labels))
    prior = np.bincount(without.labels, minlength=3) / len(without.labels)
    found = learner(without, validation, prior=prior).predict_proba(validation.x)
    assert not found[:, 2].any() and np.isfinite(found).all()


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_where_nothing_is_to_be_known_the_answers_come_near_the_prior(learner, seed):
    rng = np.random.default_rng(seed)
    train, validation, later = (
        windows_of(rng.normal(size=(n, 6)).astype(np.float32), rng.choice(3, n, p=PRIOR))
        for n in (1500, 600, 3000)
    )
    fitted = learner(train, validation, prior=PRIOR)
    loss_of_prior = -np.log(PRIOR)[validation.labels].mean()
    assert (
        mean_loss(fitted, validation) <= loss_of_prior + 1e-5
    )  # the highest temperature leaves as much
    assert mean_loss(fitted, later) < -np.log(PRIOR)[later.labels].mean() + 0.01


def test_scale_of_a_column_does_not_matter_to_the_logistic_regression(summaries):
    scale = np.array([1e-4, 1, 1e3, 1, 1, 1])
    plain, scaled = (
        logistic_regression(
            *(Windows(change(one.x), one.labels, one.blocks) for one in summaries), prior=PRIOR
        ).predict_proba(change(summaries[1].x))
        for change in (lambda x: x, lambda x: x * scale + 5)
    )
    np.testing.assert_allclose(scaled, plain, atol=1e-3)


def test_the_temperature_is_about_the_prior_and_that_of_the_validation_windows(summaries):
    train, validation = summaries
    rng = np.random.default_rng(1)
    weak = np.where(rng.random(1000) < 0.2, validation.labels, rng.integers(0, 3, 1000))
    weaker = windows_of(validation.x, weak)
    fitted = logistic_regression(train, weaker, prior=PRIOR)
    log_p = fitted.log_p(validation.x)
    assert fitted.temperature > 1.3
    assert fitted.temperature == fit_temperature(log_p, weak, PRIOR, weaker.blocks)
    np.testing.assert_allclose(
        np.log(fitted.predict_proba(validation.x)), tempered(log_p, PRIOR, fitted.temperature)
    )


def test_the_penalty_is_the_strongest_that_validation_does_not_speak_against():
    rng = np.random.default_rng(0)

    def made(n, size):
        x = rng.normal(size=(n, 30)).astype(np.float32)
        return windows_of(x, np.digitize(size * x[:, 0] + rng.normal(size=n), [-0.7, 0.7]))

    chosen = []
    for size in (0.0, 6.0):
        train, validation = made(2000, size), made(2000, size)
        fitted = logistic_regression(train, validation, prior=PRIOR)
        chosen.append(1 / (fitted.estimator[-1].C * len(train.labels)))
    assert chosen == pytest.approx([PENALTIES[0], PENALTIES[-1]])


def test_of_penalties_that_are_all_cooled_to_the_prior_the_strongest_is_taken():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 30)).astype(np.float32)
    train = windows_of(x, np.digitize(x[:, 0], [-0.5, 0.5]))
    opposite = windows_of(x, 2 - train.labels)  # whatever is sure is wrong
    fitted = logistic_regression(train, opposite, prior=PRIOR)
    assert fitted.temperature > 1000
    assert fitted.estimator[-1].C * len(x) == pytest.approx(1 / PENALTIES[0])


def test_trees_grow_longer_where_there_is_more_to_learn():
    rng = np.random.default_rng(0)
    rounds = []
    for noise in (0.3, 30.0):
        train, validation = (
            windows_of(x, np.digitize(x[:, :2].sum(axis=1) + noise * e, [-0.7, 0.7]))
            for x, e in (
                (rng.normal(size=(n, 6)).astype(np.float32), rng.normal(size=n))
                for n in (2000, 1000)
            )
        )
        rounds.append(boosted_trees(train, validation, prior=PRIOR).rounds)
    assert rounds[0] > 5 * rounds[1] == 5 * ROUNDS[0]


def test_the_parts_left_out_are_clear_of_what_the_judges_are_fitted_to(summaries, monkeypatch):
    train, validation = summaries
    parts = list(_parts_left_out(train))
    assert len(parts) == PARTS
    for clear, left in parts:
        gaps = np.abs(clear.blocks[:, None] - np.unique(left.blocks))
        assert gaps.min() == 2  # of blocks as long as a window: no bar is shared
    together = np.concatenate([left.x for _, left in parts])
    np.testing.assert_array_equal(together, train.x)  # each window once
    shares, judged, judge = [], [], learners._judge

    def noted(clear, left, *given):
        judged.append(left)
        return judge(clear, left, *given)

    monkeypatch.setattr(learners, "_judge", noted)
    boosted_trees(train, validation, prior=PRIOR, progress=shares.append)
    assert shares == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert judged[-1] is validation  # no part whose temperature is asked
    few = windows_of(train.x, train.labels, num_blocks=5)
    assert not list(_parts_left_out(few))
    assert boosted_trees(few, validation, prior=PRIOR, progress=shares.append).rounds in ROUNDS
    assert shares[5:] == [0.2]


def test_trees_are_cooled_no_more_than_the_parts_left_out_ask_for(summaries):
    train, validation = summaries
    rng = np.random.default_rng(1)
    weak = np.where(rng.random(1000) < 0.6, validation.labels, rng.integers(0, 3, 1000))
    weaker = windows_of(validation.x, weak)
    fitted = boosted_trees(train, weaker, prior=PRIOR)
    by_validation = fitted.with_temperature(weaker)
    assert fitted.temperature < by_validation.temperature
    assert mean_loss(fitted, weaker) <= -np.log(PRIOR)[weak].mean()
    # Where that would leave the NLL above the prior's, validation alone decides.
    nonsense = windows_of(validation.x, rng.choice(3, 1000, p=PRIOR))
    fitted = boosted_trees(train, nonsense, prior=PRIOR)
    assert fitted.temperature == fitted.with_temperature(nonsense).temperature
    assert mean_loss(fitted, nonsense) <= -np.log(PRIOR)[nonsense.labels].mean() + 1e-5
