import keras
import numpy as np
import pytest
from keras import ops

from models.training.losses import (
    AsymmetricFocalLoss,
    CrossEntropyWeight,
    MixedLoss,
    asymmetric_focal_loss,
)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, 64).astype("int32"), rng.normal(0, 3, (64, 3)).astype("float32")


def softmax(logits):
    e = np.exp(logits.astype("float64") - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def focal(batch, **parameters):
    return ops.convert_to_numpy(asymmetric_focal_loss(*batch, **parameters))


def keras_ce(batch):
    return ops.convert_to_numpy(
        keras.losses.sparse_categorical_crossentropy(*batch, from_logits=True)
    )


def gradient(labels, logits, loss, jit=False):
    if keras.backend.backend() == "jax":
        import jax

        both = jax.value_and_grad(lambda x: loss(labels, x))
        return tuple(map(np.asarray, (jax.jit(both) if jit else both)(logits)))
    tf = pytest.importorskip("tensorflow")

    @tf.function(jit_compile=jit)
    def value_and_gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    value, slope = value_and_gradient(tf.constant(labels), tf.constant(logits))
    return value.numpy(), slope.numpy()


FULL = {
    "alpha": [1.1, 0.7, 1.0],
    "gamma": [2.0, 1.5, 0.5],
    "smoothing": [0.05, 0.1, 0.0],
    "negative_weight": 0.3,
    "negative_gamma": [1.0, 0.0, 0.5],
    "negative_margin": 0.1,
    "negative_costs": [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]],
}


def test_neutral_parameters_are_cross_entropy(batch):
    np.testing.assert_allclose(focal(batch), keras_ce(batch), rtol=1e-5, atol=1e-6)


def test_equal_gammas_are_keras_focal_loss(batch):
    labels, logits = batch
    theirs = keras.losses.CategoricalFocalCrossentropy(alpha=0.25, gamma=2.0, reduction=None)
    p = softmax(logits).astype("float32")
    kept = p[np.arange(64), labels] > 1e-6  # beyond, Keras clips
    expected = ops.convert_to_numpy(theirs(np.eye(3, dtype="float32")[labels], p))
    ours = focal(batch, alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(ours[kept], expected[kept], rtol=1e-4, atol=1e-6)


def test_smoothing_is_keras_label_smoothing(batch):
    labels, logits = batch
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )
    hot = np.eye(3, dtype="float32")[labels]
    np.testing.assert_allclose(focal(batch, smoothing=0.1), theirs(hot, logits), rtol=1e-5)


def test_gamma_0_for_the_rare_class_is_yeungs_asymmetric_focal_loss(batch):
    labels, logits = batch
    p_y = softmax(logits)[np.arange(64), labels]
    # Yeung et al. (2022), eq. 11: the focal factor is left out for the rare class.
    expected = np.where(labels == 2, 1.0, (1 - p_y) ** 2.0) * -np.log(p_y)
    np.testing.assert_allclose(focal(batch, gamma=[2.0, 2.0, 0.0]), expected, rtol=1e-4, atol=1e-6)


def test_whole_formula_against_plain_numpy(batch):
    labels, logits = batch
    p = softmax(logits)
    expected = []
    for y, row in zip(labels, p, strict=True):
        eps = FULL["smoothing"][y]
        target = np.full(3, eps / 3)
        target[y] += 1 - eps
        loss = FULL["alpha"][y] * (1 - row[y]) ** FULL["gamma"][y] * -(target @ np.log(row))
        for c in {0, 1, 2} - {int(y)}:
            q = max(row[c] - FULL["negative_margin"], 0)
            focus = q ** FULL["negative_gamma"][c] if q > 0 else 0
            loss += 0.3 * FULL["negative_costs"][y][c] * focus * -np.log(1 - q)
        expected.append(loss)
    np.testing.assert_allclose(focal(batch, **FULL), expected, rtol=2e-4, atol=1e-6)


def test_larger_gamma_weighs_a_class_down(batch):
    labels, _ = batch
    uniform = np.zeros((64, 3), "float32")
    ratio = focal((labels, uniform), gamma=[0.0, 1.0, 2.0]) / focal((labels, uniform))
    np.testing.assert_allclose(ratio, (2 / 3) ** labels.astype("float64"), rtol=1e-5)


def test_mirror_symmetry_of_sell_and_buy(batch):
    labels, logits = batch
    mirrored = {
        name: value[::-1] if isinstance(value, list) else value for name, value in FULL.items()
    }
    mirrored["negative_costs"] = [row[::-1] for row in FULL["negative_costs"]][::-1]
    np.testing.assert_allclose(
        focal((2 - labels, logits[:, ::-1]), **mirrored),
        focal(batch, **FULL),
        rtol=1e-4,
        atol=1e-6,
    )


def test_alpha_0_switches_off_exactly_one_class(batch):
    loss = focal(batch, alpha=[1.0, 0.0, 1.0], gamma=1.0)
    assert np.all((loss == 0) == (batch[0] == 1))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_gradients_are_finite_and_alive_at_extreme_logits(jit, margin):
    corners = np.array([[a, b, c] for a in (-100, 0, 100) for b in (-100, 100) for c in (-100, 0)])
    logits = np.repeat(corners, 3, axis=0).astype("float32")
    labels = np.tile(np.arange(3, dtype="int32"), len(corners))
    parameters = {**FULL, "gamma": [2.0, 0.5, 0.0], "negative_margin": margin}
    value, slope = gradient(labels, logits, AsymmetricFocalLoss(**parameters), jit)
    assert np.isfinite(value) and np.all(np.isfinite(slope))
    wrong = logits.argmax(-1) != labels
    alive = np.abs(slope).max(-1) > 1e-4
    assert np.all(alive[wrong & (logits[np.arange(len(labels)), labels] < logits.max(-1))])


@pytest.mark.parametrize("loss", [AsymmetricFocalLoss(**FULL), MixedLoss(ce_weight=0.4, **FULL)])
def test_jit_gives_the_same_loss_and_gradient(batch, loss):
    value, slope = gradient(*batch, loss)
    jit_value, jit_slope = gradient(*batch, loss, jit=True)
    np.testing.assert_allclose(jit_value, value, rtol=1e-5)
    np.testing.assert_allclose(jit_slope, slope, rtol=1e-4, atol=1e-7)


def test_labels_may_be_columns_and_any_number_type(batch):
    labels, logits = batch
    expected = AsymmetricFocalLoss(**FULL)(labels, logits)
    for other in [labels[:, None], labels.astype("int64"), labels.astype("float32")]:
        assert AsymmetricFocalLoss(**FULL)(other, logits) == expected


def test_mixed_loss_at_weight_1_is_keras_cross_entropy_exactly(batch):
    ours = MixedLoss(ce_weight=1.0, gamma=2.0, smoothing=0.0, reduction=None)(*batch)
    np.testing.assert_array_equal(ours, keras_ce(batch))


def test_mixed_loss_at_weight_0_is_the_focal_loss_exactly(batch):
    ours = MixedLoss(ce_weight=0.0, reduction=None, **FULL)(*batch)
    np.testing.assert_array_equal(ours, focal(batch, **FULL))


def test_mixed_loss_blends_linearly(batch):
    ours = MixedLoss(ce_weight=0.25, reduction=None, **FULL)(*batch)
    expected = 0.25 * keras_ce(batch) + 0.75 * focal(batch, **FULL)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_a_change_of_the_weight_takes_effect_after_compile(batch, jit):
    labels, logits = batch
    loss = MixedLoss(ce_weight=1.0, gamma=2.0)
    identity = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((3,)), identity])
    shown = [CrossEntropyWeight(loss)]
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=shown, jit_compile=jit)
    settings = {"batch_size": 64, "epochs": 1, "verbose": 0}
    first = model.fit(logits, labels, **settings).history["loss"][0]
    loss.ce_weight.assign(0.0)
    second = model.fit(logits, labels, **settings).history["loss"][0]
    np.testing.assert_allclose(first, keras_ce(batch).mean(), rtol=1e-5)
    np.testing.assert_allclose(second, focal(batch, gamma=2.0).mean(), rtol=1e-5)


def test_the_variables_of_a_mixed_loss_are_all_that_it_holds():
    loss = MixedLoss(ce_weight=0.5)
    assert [id(v) for v in loss.variables] == [
        id(v) for v in vars(loss).values() if isinstance(v, keras.Variable)
    ]


@pytest.mark.parametrize("kind", [AsymmetricFocalLoss, MixedLoss])
def test_config_round_trip(batch, kind):
    loss = kind(**FULL)
    if kind is MixedLoss:
        loss.ce_weight.assign(0.75)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is kind
    assert again.get_config() == loss.get_config()
    assert again(*batch) == loss(*batch)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha": [1.0, -1.0, 1.0]}, "alpha must be >= 0"),
        ({"gamma": -1}, "gamma must be >= 0"),
        ({"smoothing": [0.0, 1.0, 0.0]}, r"smoothing must be in \[0, 1\)"),
        ({"ce_weight": 1.5}, r"ce_weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedLoss(**arguments)
