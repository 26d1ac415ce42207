import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.scores import Scores
from evaluation.metrics import classwise_ece, confidence_ece, evaluate, mcc, reliability


@pytest.fixture
def windows():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 500, p=[0.2, 0.5, 0.3])
    probabilities = rng.dirichlet([1.0, 2.0, 1.5], 500)
    probabilities[np.arange(500), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_figures_agree_with_scikit_learn(windows):
    labels, probabilities = windows
    predicted = probabilities.argmax(axis=1)
    found = evaluate(labels, probabilities)
    expected = {
        "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "nll": sklearn_metrics.log_loss(labels, probabilities),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(
        found.confusion, sklearn_metrics.confusion_matrix(labels, predicted)
    )


def test_figures_survive_json_unchanged(windows):
    found = evaluate(*windows)
    written = json.dumps(to_plain(found), allow_nan=False)
    assert from_plain(Scores, json.loads(written)) == found


def test_class_rates_and_support_are_the_margins_of_the_confusion_matrix(windows):
    labels, probabilities = windows
    found = evaluate(labels, probabilities)
    assert found.support == np.bincount(labels).tolist()
    np.testing.assert_allclose(found.class_rates.true, np.bincount(labels) / 500)
    predicted = np.bincount(probabilities.argmax(axis=1))
    np.testing.assert_allclose(found.class_rates.predicted, predicted / 500)


@pytest.mark.parametrize("present", [[0], [0, 2], [1, 2]])
def test_absent_classes_give_finite_figures_without_warnings(present):
    labels = np.resize(present, 20)
    probabilities = np.tile([0.2, 0.5, 0.3], (20, 1))
    found = evaluate(labels, probabilities)
    assert found.mcc == 0
    assert np.shape(found.confusion) == (3, 3)
    assert found.balanced_accuracy == (1 / len(present) if 1 in present else 0)
    assert np.isfinite([found.macro_f1, found.nll, found.ece]).all()


def test_mcc_of_many_matrices_is_that_of_each():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 3, (2, 7, 40))
    tables = [
        sklearn_metrics.confusion_matrix(y, p, labels=[0, 1, 2])
        for y, p in zip(labels, predicted, strict=True)
    ]
    expected = [
        sklearn_metrics.matthews_corrcoef(y, p) for y, p in zip(labels, predicted, strict=True)
    ]
    np.testing.assert_allclose(mcc(np.stack(tables)), expected, atol=1e-12)


def test_calibration_error_worked_by_hand():
    probabilities = np.array([[0.8, 0.1, 0.1]] * 4 + [[0.3, 0.6, 0.1]] * 6)
    labels = np.array([0, 0, 1, 2, 1, 1, 1, 0, 0, 2])
    # Half of the first four come true where 0.8 was said, half of the last six where 0.6 was.
    assert confidence_ece(labels, probabilities) == pytest.approx(0.4 * 0.3 + 0.6 * 0.1)


def test_labels_drawn_from_the_probabilities_have_a_small_calibration_error():
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet([2.0, 3.0, 2.0], 40_000)
    labels = (rng.random(40_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    assert confidence_ece(labels, probabilities) < 0.012
    assert classwise_ece(labels, probabilities) < 0.012
    sharpened = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    assert confidence_ece(labels, sharpened) > 0.1
    assert classwise_ece(labels, sharpened) > 0.05


def test_reliability_bins_hold_equally_many_windows():
    probability = np.linspace(0, 1, 10)
    given, rate, size = reliability(probability > 0.5, probability, num_bins=2)
    np.testing.assert_allclose(given, [probability[:5].mean(), probability[5:].mean()])
    assert (rate.tolist(), size.tolist()) == ([0, 1], [5, 5])


def test_an_impossible_label_costs_a_finite_nll():
    assert evaluate(np.array([0]), np.array([[0.0, 0.5, 0.5]])).nll == pytest.approx(34.54, 1e-3)


@pytest.mark.parametrize(
    "labels, probabilities, message",
    [
        ([0, 1], [[0.2, 0.3, 0.5]], r"got \(2,\) and \(1, 3\)"),
        ([], np.zeros((0, 3)), "at least one"),
        ([3], [[0.2, 0.3, 0.5]], r"labels must be 0..2, got \[3\]"),
        ([-1], [[0.2, 0.3, 0.5]], r"labels must be 0..2"),
        ([0, 0], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]], "row 1 is"),
        ([0], [[np.nan, 0.5, 0.5]], "row 0 is"),
    ],
)
def test_input_that_makes_no_sense_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(labels, int), np.array(probabilities))
