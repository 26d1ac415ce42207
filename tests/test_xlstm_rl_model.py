from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from model_files import CONTRACT

from models.calibration import RestoreProbabilities
from models.deployable import make_deployable, save_model
from models.xlstm_rl_model import (
    AsymmetricFocalLoss,
    MixedLoss,
    build_xlstm_classifier,
    load_classifier,
)

ROOT = Path(__file__).parent.parent
PRIOR = np.array([0.33, 0.40, 0.33])
NATURAL = PRIOR / PRIOR.sum()


def windows(seed=0, batch=5):
    return np.random.default_rng(seed).normal(size=(batch, 8, 6)).astype("float32")


def build(**changes):
    arguments = {"units": 8, "num_heads": 2, "class_prior": PRIOR}
    return build_xlstm_classifier(8, 6, **(arguments | changes))


@pytest.mark.parametrize("blocks", ["m", "s", "ms", "smm"])
def test_the_untrained_model_outputs_the_prior_on_any_input(blocks):
    keras.utils.set_random_seed(0)
    logits = build(blocks=blocks)(100 * windows())
    np.testing.assert_allclose(ops.softmax(logits), np.tile(NATURAL, (5, 1)), atol=1e-6)


def test_the_first_cross_entropy_is_the_entropy_of_the_prior():
    labels = np.random.default_rng(0).choice(3, 3000, p=NATURAL)
    labels = np.repeat([0, 1, 2], np.round(NATURAL * 3000).astype(int))
    x = np.tile(windows(batch=1), (len(labels), 1, 1))
    loss = MixedLoss(ce_weight=1.0)(labels, build(blocks="m")(x))
    shares = np.bincount(labels) / len(labels)
    assert float(loss) == pytest.approx(-np.sum(shares * np.log(NATURAL)), abs=1e-5)


def test_without_a_prior_the_head_is_a_plain_dense_layer():
    keras.utils.set_random_seed(0)
    model = build(class_prior=None)
    head = model.get_layer("classifier")
    assert type(head) is keras.layers.Dense
    assert model.layers[-1] is head
    assert np.any(head.kernel.numpy() != 0) and not np.any(head.bias.numpy())


def test_the_bias_of_the_head_has_no_weight_decay():
    model = build(weight_decay_l2=0.5)
    assert model.get_layer("classifier").bias_regularizer is None
    regularised = {w.path for w in model.trainable_variables if w.regularizer is not None}
    assert regularised and all("kernel" in path for path in regularised)
    assert not any("recurrent" in path or path.endswith("/gate_kernel") for path in regularised)
    assert not build(weight_decay_l2=0.0).losses


def test_scaling_sits_inside_the_model():
    keras.utils.set_random_seed(0)
    plain = build(class_prior=None)
    scaled = build(class_prior=None, feature_mean=np.full(6, 5.0), feature_variance=np.full(6, 4.0))
    pairs = zip(scaled.trainable_variables, plain.trainable_variables, strict=True)
    for variable, value in pairs:
        variable.assign(value)
    np.testing.assert_allclose(scaled(5 + 2 * windows()), plain(windows()), atol=1e-4)


def forms(labels_per_sequence=3, **changes):
    """Returns the training form, with random weights, and a function that makes a window form."""
    keras.utils.set_random_seed(0)
    changes = {"class_prior": None} | changes
    training = build(labels_per_sequence=labels_per_sequence, **changes)
    rng = np.random.default_rng(0)
    training.set_weights(
        [
            0.3 * rng.normal(size=w.shape) if "scaling" not in v.path else w
            for v, w in zip(training.weights, training.get_weights(), strict=True)
        ]
    )

    def window_form(length):
        arguments = {"units": 8, "num_heads": 2} | changes
        window = build_xlstm_classifier(length, 6, **arguments)
        window.set_weights(training.get_weights())
        return window

    return training, window_form


@pytest.mark.parametrize("blocks", ["m", "s", "ms", pytest.param("sm", marks=pytest.mark.slow)])
def test_the_training_form_answers_at_each_step_as_the_window_form_that_ends_there(blocks):
    training, window_form = forms(blocks=blocks, dropout_rnn1=0.2, logit_clip=2.0)
    logits = ops.convert_to_numpy(training(windows()))
    assert logits.shape == (5, 3, 3) and np.ptp(logits) > 0.1
    for step, length in enumerate([6, 7, 8]):
        expected = window_form(length)(windows()[:, :length])
        np.testing.assert_allclose(logits[:, step], expected, atol=1e-5)


def test_both_forms_have_the_same_weights_and_give_them_to_each_other():
    options = {"dropout_rnn1": 0.2, "dropout_rnn2": 0.1, "weight_decay_l2": 1e-4}
    training, window_form = forms(**options)
    window = window_form(8)
    described = [[(v.path, tuple(v.shape)) for v in form.weights] for form in (training, window)]
    assert described[0] == described[1]
    window.set_weights([2 * w for w in window.get_weights()])
    training.set_weights(window.get_weights())
    np.testing.assert_allclose(training(windows())[:, -1], window(windows()), atol=1e-5)


def test_the_training_form_has_one_dropout_mask_for_each_sequence():
    training, _ = forms(dropout_rnn1=0.5, blocks="m")
    layer = training.get_layer("dropout_0")
    dropped = ops.convert_to_numpy(layer(np.ones((4, 8, 8), "float32"), training=True))
    np.testing.assert_array_equal(dropped, np.tile(dropped[:, :1], (1, 8, 1)))
    assert len(np.unique(dropped[:, 0], axis=0)) > 1


def test_the_untrained_training_form_outputs_the_prior_at_every_step():
    logits = build(labels_per_sequence=8)(windows())
    np.testing.assert_allclose(ops.softmax(logits), np.tile(NATURAL, (5, 8, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_the_training_form_answers_and_learns_in_mixed_precision(policy):
    training, _ = forms(blocks="ms")
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        half = build(labels_per_sequence=3, class_prior=None, blocks="ms")
    finally:
        keras.config.set_dtype_policy(before)
    half.set_weights(training.get_weights())
    np.testing.assert_allclose(half(windows()), training(windows()), atol=0.05)
    labels = np.random.default_rng(0).integers(0, 3, (5, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    half.compile(keras.optimizers.Adam(0.02), loss, run_eagerly=True)
    losses = half.fit(windows(), labels, epochs=8, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses)) and losses[-1] < 0.8 * losses[0], losses


def test_the_training_form_survives_saving(tmp_path):
    training, _ = forms()
    training.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    np.testing.assert_allclose(loaded(windows()), training(windows()), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"units": 7}, "units must be a multiple of num_heads, got units = 7, num_heads = 2"),
        ({"labels_per_sequence": 0}, "labels_per_sequence must be a whole number >= 1, got 0"),
        (
            {"labels_per_sequence": 9},
            "at most the 8 bars of a sequence, got 9",
        ),
        ({"blocks": "mx"}, "blocks must be letters m and s"),
        ({"blocks": ""}, "blocks must be letters m and s"),
        ({"class_prior": [0.5, 0.5]}, "class_prior must hold 3 positive numbers"),
        ({"class_prior": [0.5, 0.5, 0.0]}, "class_prior must hold 3 positive numbers"),
        ({"feature_mean": np.zeros(6)}, "must be given together"),
        ({"feature_mean": np.zeros(5), "feature_variance": np.ones(5)}, "shape (6,), got (5,)"),
    ],
)
def test_wrong_arguments_are_named(changes, text):
    with pytest.raises(ValueError) as error:
        build(**changes)
    assert text in str(error.value)


def test_the_saved_classifier_keeps_its_outputs(tmp_path):
    keras.utils.set_random_seed(0)
    model = build(class_prior=None, logit_clip=2.0, recurrent_dropout=0.1, weight_decay_l2=1e-4)
    contract = {**CONTRACT, "feature_names": list("abcdef")}
    contract |= {"sequence_length": model.input_shape[1], "training_ranges": [[0.0] * 6, [1.0] * 6]}
    deployable = make_deployable(model, RestoreProbabilities(gamma=[1.0, 2.0, 1.0]), contract)
    save_model(deployable, tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras", feature_names=list("abcdef"))
    found, expected = (m.predict(windows(), verbose=0) for m in (loaded, deployable))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="at place 1 it has b, got z"):
        load_classifier(tmp_path / "model.keras", feature_names=list("azcdef"))
    with pytest.raises(ValueError, match="classes must be those"):
        load_classifier(tmp_path / "model.keras", class_names=["BUY", "HOLD", "SELL"])


PROBABILITIES = {
    "by name": "sparse_categorical_crossentropy",
    "by the name of its class": "SparseCategoricalCrossentropy",
    "as a function": keras.losses.categorical_crossentropy,
    "as an object": keras.losses.SparseCategoricalCrossentropy(),
}


@pytest.mark.parametrize("loss", PROBABILITIES.values(), ids=PROBABILITIES)
def test_a_loss_of_probabilities_is_refused(loss):
    for given in [{"loss": loss}, {"optimizer": "adam", "loss": loss}]:
        with pytest.raises(ValueError, match="gives logits, and the loss"):
            build().compile(**given)
    with pytest.raises(ValueError, match="from_logits=True"):
        build().compile("adam", loss)


LOGITS = {
    "our own": MixedLoss(gamma=1.0),
    "of Keras": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "one's own": lambda y, logits: ops.mean((logits - 1.0) ** 2, axis=-1),
    "none": None,
}


@pytest.mark.parametrize("loss", LOGITS.values(), ids=LOGITS)
def test_a_loss_of_logits_is_taken(loss):
    build().compile("adam", loss)


@pytest.mark.slow
def test_a_compiled_model_goes_on_where_it_was_saved(tmp_path):
    keras.utils.set_random_seed(0)
    model = build(class_prior=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    labels = np.arange(5) % 3
    model.fit(windows(), labels, epochs=2, verbose=0)
    model.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    assert isinstance(loaded, keras.Model)
    losses = [each.fit(windows(), labels, verbose=0).history["loss"] for each in (model, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_saved_network_says_how_it_is_loaded(tmp_path):
    build().save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match="no contract.*keras.models.load_model reads one"):
        load_classifier(tmp_path / "own.keras")


@pytest.mark.parametrize("loss", [MixedLoss(ce_weight=0.5), AsymmetricFocalLoss(gamma=1.0)])
@pytest.mark.parametrize("form", [{}, {"labels_per_sequence": 3}])
def test_one_hot_labels_are_told(loss, form):
    model = build(**form)
    shape = (5, 3) if form else (5,)
    codes = np.random.default_rng(0).integers(0, 3, shape)
    model.compile("sgd", loss, run_eagerly=True)
    model.train_on_batch(windows(), codes)
    with pytest.raises(ValueError, match="must be class codes.*argmax"):
        model.train_on_batch(windows(), np.eye(3)[codes])
