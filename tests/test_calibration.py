import json

import keras
import numpy as np
import pytest
from known_posterior import known_posterior
from scipy.special import log_softmax, softmax

from core.priors import fit_temperature, tempered
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from evaluation.metrics import classwise_ece, confidence_ece
from models.calibration import RestoreProbabilities
from models.training.collapse_forecast import best_answer
from models.training.losses import MixedLoss

SETTINGS = [
    {"alpha": [1.0, 1.0, 1.0], "gamma": [1.0, 2.0, 1.0]},
    {"alpha": [1.1, 0.7, 1.0], "gamma": [2.0, 0.5, 0.0]},
    {"alpha": 2.0, "gamma": 1.5, "ce_weight": 0.3},
    {"alpha": [1.1, 0.7, 1.0], "gamma": [2.0, 1.5, 2.5], "smoothing": [0.05, 0.1, 0.0]},
    {"alpha": 1.0, "gamma": [1.0, 2.0, 1.0], "smoothing": 0.05, "ce_weight": 0.3},
]


def restored(logits, **arguments):
    layer = RestoreProbabilities(**arguments)
    return keras.ops.convert_to_numpy(layer(np.asarray(logits, "float32")))


def inverse(p, **settings):
    """Returns what the layer makes of the loss's best answers `p`, (samples, classes)."""
    return restored(np.log(p), **settings)


def expected_slope(logits, posterior, settings):
    """Returns the largest slope of the expected training loss, by central differences."""
    eps = np.broadcast_to(settings.get("smoothing", 0.0), 3)
    alpha, gamma = (np.broadcast_to(settings[name], 3) for name in ("alpha", "gamma"))
    w = settings.get("ce_weight", 0.0)

    def loss(z):
        log_p = log_softmax(z)
        smoothed = -(1 - eps) * log_p - eps * log_p.mean()
        focal = alpha * (1 - np.exp(log_p)) ** gamma * smoothed
        return posterior @ (w * -log_p + (1 - w) * focal)

    steps = 1e-5 * np.eye(3)
    return max(abs(loss(logits + s) - loss(logits - s)) / 2e-5 for s in steps)


def test_inverse_is_the_closed_form_without_smoothing_and_blend():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, alpha, gamma = rng.dirichlet([1, 1, 1]), rng.uniform(0.5, 2, 3), rng.uniform(0, 3, 3)
        bent = (1 - p) ** gamma - gamma * p * (1 - p) ** (gamma - 1) * np.log(p)
        expected = p / (alpha * bent)
        found = inverse(p[None], alpha=alpha, gamma=gamma)[0]
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS)
def test_slope_of_the_expected_loss_is_0_at_the_inverse(settings):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 0.8, (50, 3))
    posteriors = inverse(softmax(logits, axis=1), **settings)
    for z, posterior in zip(logits, posteriors, strict=True):
        assert expected_slope(z, posterior, settings) < 2e-6


@pytest.mark.parametrize("settings", SETTINGS)
def test_inverse_undoes_the_best_answer(settings):
    posteriors = np.random.default_rng(2).dirichlet([2, 2, 2], 20)
    answers = np.stack([best_answer(posterior, **settings) for posterior in posteriors])
    assert np.abs(answers - posteriors).max() > 0.02
    np.testing.assert_allclose(inverse(answers, **settings), posteriors, atol=1e-6)


def test_neutral_parameters_change_nothing():
    p = np.random.default_rng(3).dirichlet([1, 1, 1], 50)
    for settings in [{}, {"alpha": 3.0}, {"gamma": 2.0, "smoothing": 0.2, "ce_weight": 1.0}]:
        np.testing.assert_allclose(inverse(p, **settings), p, atol=1e-6)


def test_inverse_of_smoothed_cross_entropy_is_linear():
    posteriors = np.random.default_rng(4).dirichlet([2, 2, 2], 50)
    smoothed = 0.9 * posteriors + 0.1 / 3
    np.testing.assert_allclose(inverse(smoothed, smoothing=0.1), posteriors, atol=1e-6)


def test_answers_that_no_posterior_explains_stay_positive_and_in_order():
    p = np.array([[0.98, 0.015, 0.005], [0.999, 0.0009, 0.0001]])
    found = inverse(p, gamma=2.0, smoothing=0.1)
    assert np.all(found > 0)
    assert np.all(np.diff(found, axis=1) < 0)


@pytest.mark.parametrize("settings", [*SETTINGS, {"gamma": 5.0}, {"gamma": [0.0, 0.3, 5.0]}])
def test_extreme_logits_give_finite_probabilities(settings):
    logits = 100.0 * np.array([[1, 0, -1], [0, 1, 0], [-1, -1, 1], [0, 0, 0]])
    found = restored(logits, **settings)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[:3].argmax(axis=1), [0, 1, 2])


def test_every_step_is_off_by_default():
    logits = np.random.default_rng(6).normal(0, 2, (50, 3)).astype("float32")
    plain = softmax(logits, axis=1)
    for off in [
        {},
        {"smoothing": None, "temperature": None},
        {"gamma": 2.0, "ce_weight": 1.0},
        {"training_prior": [0.2, 0.5, 0.3], "deploy_prior": [2, 5, 3]},
    ]:
        np.testing.assert_allclose(restored(logits, **off), plain, atol=1e-6)


def test_change_of_prior_is_that_of_bayes():
    training, deploy = np.array([1, 1, 1]) / 3, np.array([0.1, 0.7, 0.2])
    p = np.random.default_rng(7).dirichlet([1, 1, 1], 50)
    expected = p * deploy / training
    expected /= expected.sum(axis=1, keepdims=True)
    found = restored(np.log(p), training_prior=training, deploy_prior=deploy)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_temperature_is_that_of_core_about_its_prior():
    logits, prior = np.random.default_rng(9).normal(0, 2, (50, 3)), [0.2, 0.5, 0.3]
    steps = {**SETTINGS[0], "training_prior": [1, 1, 1], "deploy_prior": prior}
    expected = np.exp(tempered(np.log(restored(logits, **steps)), prior, 1.7))
    found = restored(logits, **steps, temperature=1.7, temperature_prior=[2, 5, 3])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    cold = restored(logits, **steps, temperature=1e6, temperature_prior=prior)
    np.testing.assert_allclose(cold, np.tile(prior, (50, 1)), atol=1e-5)


def test_a_layer_without_a_temperature_prior_divides_as_models_before_it_did():
    logits = np.random.default_rng(9).normal(0, 2, (50, 3))
    expected = softmax(np.log(restored(logits, **SETTINGS[0])) / 1.7, axis=1)
    found = restored(logits, **SETTINGS[0], temperature=1.7)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layer_survives_saving(tmp_path):
    arguments = {
        **SETTINGS[4],
        "training_prior": (0.31, 0.38, 0.31),
        "deploy_prior": np.array([0.2, 0.5, 0.3]),
        "temperature": np.float32(1.5),
        "temperature_prior": np.array([0.2, 0.5, 0.3]),
    }
    inputs = keras.Input((3,))
    model = keras.Model(inputs, RestoreProbabilities(**arguments, name="restoration")(inputs))
    json.dumps(model.layers[-1].get_config())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    logits = np.random.default_rng(10).normal(0, 2, (50, 3)).astype("float32")
    np.testing.assert_array_equal(
        again.predict(logits, verbose=0), model.predict(logits, verbose=0)
    )
    assert again.layers[-1].get_config() == model.layers[-1].get_config()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"training_prior": [0.3, 0.4, 0.3]}, "must be given together"),
        ({"training_prior": [0.3, 0.4, 0.3], "deploy_prior": [0.5, 0.5, 0]}, "must be positive"),
        ({"temperature_prior": [0.0, 0.5, 0.5]}, "must be positive"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RestoreProbabilities(**arguments)


def balanced_windows(x, y):
    """Returns windows drawn evenly from the classes."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(np.flatnonzero(y == code), 20_000) for code in range(3)]
    balanced = rng.permutation(np.concatenate(drawn))
    return {"x": x[balanced, None], "y": y[balanced, None], "batch_size": 1000}


def weighted_sequences(x, y):
    """Returns sequences that carry three labels, with the classes' weights made even."""
    ends = np.arange(1, len(y))
    plan = SequencePlan(
        y[1:],
        np.zeros(len(ends), int),
        ends,
        sequence_length=2,
        labels_per_sequence=3,
        batch_size=333,
        seed=0,
        balance_classes=True,
    )
    return {"x": SequenceBatches(x, ends, plan=plan, sequence_length=2)}


@pytest.fixture(
    scope="module",
    params=[pytest.param(balanced_windows, marks=pytest.mark.slow), weighted_sequences],
)
def focal_network(request):
    """Returns logits of a small network trained with the focal loss on balanced classes."""
    settings = {"alpha": [1.0, 0.8, 1.0], "gamma": [2.0, 3.0, 2.0], "smoothing": 0.05}
    x, y, posterior = known_posterior(200_000, sequence_length=1, seed=0)
    train, data = np.arange(60_000), request.param(x[:60_000, -1], y[:60_000])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((None, 3)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(3)]
    )
    model.compile(keras.optimizers.Adam(0.01), MixedLoss(ce_weight=0.1, **settings))
    for rate in (0.01, 0.002):
        model.optimizer.learning_rate = rate
        model.fit(**data, epochs=10, verbose=0)
    logits = model.predict(x[60_000:], batch_size=20_000, verbose=0)[:, 0]
    restoration = {
        **settings,
        "ce_weight": 0.1,
        "training_prior": [1, 1, 1],
        "deploy_prior": np.bincount(y[train]),
    }
    return logits, y[60_000:], posterior[60_000:], restoration


def test_known_posteriors_are_restored(focal_network, record_property):
    logits, labels, posterior, restoration = focal_network
    fitting, judged = slice(0, 20_000), slice(20_000, None)
    before_temperature = np.log(restored(logits[fitting], **restoration))
    prior = restoration["deploy_prior"]
    temperature = fit_temperature(
        before_temperature, labels[fitting], prior / prior.sum(), np.arange(20_000) // 1000
    )
    raw = softmax(logits[judged], axis=1)
    found = restored(
        logits[judged], **restoration, temperature=temperature, temperature_prior=prior
    )
    labels, posterior = labels[judged], posterior[judged]
    for error in (confidence_ece, classwise_ece):
        assert error(labels, found) < 0.02
        assert error(labels, found) < error(labels, raw) / 3
        record_property(error.__name__, [float(error(labels, p)) for p in (raw, found)])
    distance, raw_distance = (np.abs(p - posterior).mean() for p in (found, raw))
    record_property("mean absolute distance", [float(raw_distance), float(distance)])
    assert distance < 0.02
    assert distance < raw_distance / 3
    assert temperature == pytest.approx(1, abs=0.1)
