import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef
from tiny_training import Windows, fit, make_model, validation_plan

from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.validation import ValidationMetrics, validation_metrics

NAMES = ("sell", "hold", "buy")


def test_figures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 99), rng.normal(size=(99, 3)).astype("float32")
    p = np.exp(logits.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    predicted = logits.argmax(-1)
    figures = validation_metrics(labels, logits, NAMES)
    expected = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(labels, predicted, average="macro"),
        "val_nll": log_loss(labels, p),
        "val_rate_sell": np.mean(predicted == 0),
        "val_rate_hold": np.mean(predicted == 1),
        "val_rate_buy": np.mean(predicted == 2),
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-5), name


def test_a_call_is_the_class_that_gained_most_over_the_prior():
    rng = np.random.default_rng(1)
    labels, prior = rng.integers(0, 3, 300), [0.1, 0.8, 0.1]
    logits = np.log(prior) + 0.3 * rng.normal(size=(300, 3))
    assert validation_metrics(labels, logits, NAMES)["val_rate_hold"] == 1
    figures = validation_metrics(labels, logits, NAMES, prior)
    predicted = (logits - np.log(prior)).argmax(-1)
    assert figures["val_mcc"] == pytest.approx(matthews_corrcoef(labels, predicted))
    assert figures["val_rate_hold"] == pytest.approx(np.mean(predicted == 1))


def test_figures_of_one_predicted_class_need_no_warning():
    figures = validation_metrics(np.array([0, 0, 2]), np.eye(3)[[1, 1, 1]] * 50.0, NAMES)
    assert figures["val_mcc"] == 0 and figures["val_macro_f1"] == 0
    assert figures["val_rate_hold"] == 1


def test_logged_figures_are_those_of_the_averages():
    model, ema = make_model(), EMAWeightsCallback()
    metrics = ValidationMetrics(validation_plan(Windows(seed=1)), ema)
    history = fit(model, ema, metrics)
    with ema.swapped(model):
        expected = validation_metrics(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    raw = validation_metrics(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    assert history["val_nll"][-1] == pytest.approx(expected["val_nll"], abs=1e-6)
    assert history["val_nll"][-1] != pytest.approx(raw["val_nll"], abs=1e-4)


def test_labels_of_other_windows_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(5, 3\), one row per label"):
        validation_metrics(np.zeros(5, int), np.zeros((4, 3)), NAMES)


def test_figures_are_of_what_would_be_shipped_and_the_logits_of_what_was_trained():
    def restore(epoch, logits):
        seen.append((epoch, logits))
        return logits + [0.0, 0.0, 99.0]

    seen, model = [], make_model()
    metrics = ValidationMetrics(validation_plan(Windows(seed=1), restore=restore))
    history = fit(model, metrics, epochs=2)
    assert [epoch for epoch, _ in seen] == [0, 1]
    np.testing.assert_array_equal(metrics.logits, seen[1][1])
    np.testing.assert_allclose(metrics.logits, model.predict(Windows(seed=1).x), atol=1e-6)
    assert history["val_rate_buy"] == [1, 1]
    assert metrics.seconds > 0
    assert metrics.losses.mean() == pytest.approx(history["val_nll"][-1])
