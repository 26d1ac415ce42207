import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from core.calls import calls
from core.priors import fit_temperature, tempered

PRIOR = np.array([0.25, 0.5, 0.25])


def nll(log_p, labels):
    return -log_softmax(log_p, axis=-1)[np.arange(len(labels)), labels].mean()


def known(num=6000, spread=0.5, seed=0):
    """Returns true log-probabilities around PRIOR, labels drawn from them, and blocks of time."""
    rng = np.random.default_rng(seed)
    log_p = log_softmax(np.log(PRIOR) + spread * rng.normal(size=(num, 3)), axis=-1)
    labels = (rng.random((num, 1)) > np.exp(log_p).cumsum(axis=1)[:, :2]).sum(axis=1)
    return log_p, labels, np.arange(num) * 30 // num


def test_the_call_is_the_class_that_gained_most_over_the_prior():
    answers = [[0.30, 0.45, 0.25], [0.2, 0.6, 0.2], [0.26, 0.44, 0.30]]
    assert calls(answers, PRIOR).tolist() == [0, 1, 2]


def test_the_prior_itself_is_called_by_its_most_frequent_class():
    assert calls(np.tile(PRIOR.astype("float32"), (3, 1)), PRIOR).tolist() == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0.3, 3.0, 300.0, 1e4])
def test_the_call_does_not_depend_on_the_temperature(temperature):
    log_p, _, _ = known()
    answers = softmax(tempered(log_p, PRIOR, temperature), axis=-1)
    assert np.mean(calls(answers, PRIOR) == calls(np.exp(log_p), PRIOR)) > 0.999


def test_a_temperature_of_one_changes_nothing_and_a_high_one_answers_the_prior():
    log_p, _, _ = known()
    np.testing.assert_allclose(tempered(log_p, PRIOR, 1.0), log_p, atol=1e-12)
    np.testing.assert_allclose(np.exp(tempered(log_p, PRIOR, 1e6)), np.tile(PRIOR, (6000, 1)), 1e-5)


@pytest.mark.parametrize("truth", [0.5, 2.0, 5.0])
def test_a_temperature_that_many_blocks_agree_on_is_found(truth):
    log_p, labels, blocks = known(40_000)
    bent = tempered(log_p, PRIOR, 1 / truth)
    assert fit_temperature(bent, labels, PRIOR, blocks) == pytest.approx(truth, rel=0.1)


def test_true_probabilities_are_left_as_they_are():
    log_p, labels, blocks = known()
    assert fit_temperature(log_p, labels, PRIOR, blocks) == pytest.approx(1.0, abs=0.05)


def test_where_nothing_is_known_the_answer_is_the_prior():
    log_p, _, blocks = known(spread=1.0)
    labels = np.random.default_rng(1).choice(3, len(log_p), p=PRIOR)
    temperature = fit_temperature(log_p, labels, PRIOR, blocks)
    answers = tempered(log_p, PRIOR, temperature)
    assert temperature > 5
    assert nll(answers, labels) <= nll(np.log(np.tile(PRIOR, (len(labels), 1))), labels) + 1e-4


def test_noise_over_few_blocks_sharpens_nothing():
    # Three blocks in which the answers happen to be right more often than they say.
    log_p, labels, _ = known(90, spread=0.2, seed=3)
    sharper = tempered(log_p, PRIOR, 2.0)
    assert fit_temperature(sharper, labels, PRIOR, np.arange(90) // 30) >= 1.0
    assert fit_temperature(sharper, labels, PRIOR, np.zeros(90, int)) >= 1.0


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    spread=st.floats(0.01, 4.0),
    skill=st.floats(-1.0, 3.0),
    shift=st.floats(-1.0, 1.0),
    num_blocks=st.integers(1, 12),
)
def test_no_head_is_shipped_with_an_nll_above_the_priors(seed, spread, skill, shift, num_blocks):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, 2, rng.choice(3, 300, p=PRIOR)]
    logits = spread * (rng.normal(size=(303, 3)) + skill * np.eye(3)[labels])
    logits += [0, shift, -shift]
    blocks = np.sort(rng.integers(0, num_blocks, 303))
    blocks = np.unique(blocks, return_inverse=True)[1]
    temperature = fit_temperature(logits, labels, PRIOR, blocks)
    prior = nll(np.tile(np.log(PRIOR), (303, 1)), labels)
    assert nll(tempered(logits, PRIOR, temperature), labels) <= prior + 1e-4
