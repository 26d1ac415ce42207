import json
import warnings

import numpy as np
import pytest

from models.training.collapse_forecast import best_answer, forecast_collapse
from models.training.losses import MixedLoss
from recipe.cli.console import forecast_in_words

NAMES = ("SELL", "HOLD", "BUY")


# The predecessor's documented settings, each with the class that took over.
@pytest.mark.parametrize(
    "quotas, alpha, gamma, collapsed_to",
    [
        ((28, 34, 38), 1.0, 2.0, "BUY"),
        ((0.25, 0.5, 0.25), (1, 1, 0.8), (2, 2, 3), "HOLD"),
        ((0.3, 0.35, 0.35), (1.1, 0.7, 1), (2, 1.5, 2.5), "SELL"),
        ((0.33, 0.33, 0.34), (1.02, 1.08, 0.94), 2.0, "HOLD"),
    ],
)
def test_forecast_names_the_class_that_took_over(quotas, alpha, gamma, collapsed_to):
    forecast = forecast_collapse(quotas, alpha, gamma)
    assert NAMES[forecast.favoured] == collapsed_to
    assert forecast.margin > 0.005
    assert collapsed_to in forecast_in_words(forecast.as_dict(NAMES))


def test_cross_entropy_falls_to_the_quotas():
    forecast = forecast_collapse([0.33, 0.40, 0.33], 1.0, 0.0)
    np.testing.assert_allclose(forecast.probabilities, np.array([33, 40, 33]) / 106, atol=1e-6)
    pure_ce = forecast_collapse([2, 3, 5], (1, 2, 3), 2.0, 0.1, ce_weight=1.0)
    np.testing.assert_allclose(pure_ce.probabilities, [0.2, 0.3, 0.5], atol=1e-6)


def test_smoothing_pulls_the_constant_towards_uniform():
    forecast = forecast_collapse([0.2, 0.3, 0.5], 1.0, 0.0, smoothing=0.3)
    expected = 0.7 * np.array([0.2, 0.3, 0.5]) + 0.1
    np.testing.assert_allclose(forecast.probabilities, expected, atol=1e-6)


def test_mirrored_settings_give_the_mirrored_forecast():
    quotas, alpha, gamma, eps = (0.3, 0.35, 0.35), (1.1, 0.7, 1), (2, 1.5, 2.5), (0.1, 0.0, 0.05)
    forecast = forecast_collapse(quotas, alpha, gamma, eps, 0.2)
    mirrored = forecast_collapse(quotas[::-1], alpha[::-1], gamma[::-1], eps[::-1], 0.2)
    np.testing.assert_allclose(mirrored.probabilities, forecast.probabilities[::-1], atol=1e-6)


def test_no_other_constant_has_a_lower_training_loss():
    rng = np.random.default_rng(0)
    posterior = np.array([0.25, 0.35, 0.4])
    parameters = {"alpha": [1.1, 0.7, 1.0], "gamma": [2.0, 1.5, 2.5], "smoothing": [0.1, 0.0, 0.2]}
    best = best_answer(posterior, *parameters.values(), ce_weight=0.3)
    constants = np.vstack([best, rng.dirichlet([1, 1, 1], 300), best + [[0.01, -0.01, 0.0]]])
    loss = MixedLoss(ce_weight=0.3, reduction=None, **parameters)
    labels = np.repeat(np.arange(3), len(constants))
    values = np.asarray(loss(labels, np.tile(np.log(constants), (3, 1)).astype("float32")))
    expected = posterior @ values.reshape(3, -1)
    assert expected.argmin() == 0


def test_without_an_edge_no_class_is_named():
    forecast = forecast_collapse([1, 1, 1], 1.0, 2.0)
    assert "no class is favoured" in forecast_in_words(forecast.as_dict(NAMES))


def test_forecast_survives_json():
    forecast = forecast_collapse([0.2, 0.3, 0.5], 1.0, 2.0)
    for content in (forecast.as_dict(NAMES),):
        assert json.loads(json.dumps(content)) == content
    assert forecast.as_dict(NAMES)["favoured"] == "BUY"
    assert forecast.as_dict(NAMES)["probabilities"]["BUY"] == forecast.probabilities[2]


def test_quotas_must_be_positive():
    with pytest.raises(ValueError, match="quotas must be positive"):
        forecast_collapse([0.5, 0.5, 0.0], 1.0, 2.0)


def test_the_forecast_leaves_the_filter_of_warnings_to_the_threads_beside_it(monkeypatch):
    def shared(*arguments, **options):
        raise AssertionError("the filter of warnings is one for all threads")

    monkeypatch.setattr(warnings, "catch_warnings", shared)
    forecast_collapse((0.33, 0.40, 0.33), (1.0, 1.0, 1.0), (1.0, 2.0, 1.0), 0.05, 0.3)
