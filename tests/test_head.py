import keras
import numpy as np
import pytest
from keras import layers, ops

from models.layers.head import CappedDense, PriorBias

# Keras 3.15 saves arrays of TensorFlow in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def inputs(num=6):
    return np.random.default_rng(0).normal(size=(num, 4)).astype("float32") * 30


def make(cap, **arguments):
    keras.utils.set_random_seed(0)
    layer = CappedDense(3, logit_cap=cap, **arguments)
    layer.build((None, 4))
    return layer


def test_a_cap_of_zero_is_the_plain_dense_layer():
    keras.utils.set_random_seed(0)
    plain = layers.Dense(3)
    plain.build((None, 4))
    np.testing.assert_array_equal(make(0.0)(inputs()), plain(inputs()))


def test_logits_are_capped_and_small_ones_are_untouched():
    plain, capped = make(0.0)(inputs()), make(5.0)(inputs())
    assert np.abs(plain).max() > 20
    np.testing.assert_allclose(capped, 5 * np.tanh(np.asarray(plain) / 5), rtol=1e-5)
    small = inputs() * 1e-4
    np.testing.assert_allclose(make(5.0)(small), make(0.0)(small), rtol=1e-4)


def test_the_cap_can_change_in_a_compiled_model_and_is_not_trained():
    head = make(5.0)
    model = keras.Sequential([keras.Input((4,)), head])
    capped = model.predict(inputs(), verbose=0)
    head.logit_cap.assign(0.0)
    assert np.abs(model.predict(inputs(), verbose=0)).max() > np.abs(capped).max()
    assert len(model.trainable_variables) == 2


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_gradients_are_finite_with_and_without_a_cap(cap):
    model = keras.Sequential([keras.Input((4,)), make(cap)])
    model.compile("sgd", keras.losses.MeanSquaredError())
    model.fit(inputs() * 100, np.zeros((6, 3), "float32"), verbose=0)
    assert all(np.all(np.isfinite(ops.convert_to_numpy(v.value))) for v in model.weights)


def test_the_cap_of_the_moment_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((4,)), make(5.0, name="classifier")])
    model.layers[-1].logit_cap.assign(2.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.layers[-1].logit_cap) == 2.5
    np.testing.assert_array_equal(
        loaded.predict(inputs(), verbose=0), model.predict(inputs(), verbose=0)
    )


def test_a_negative_cap_is_refused():
    with pytest.raises(ValueError, match="logit_cap must be >= 0, got -1"):
        CappedDense(3, logit_cap=-1)


def test_a_bias_of_log_priors_makes_the_softmax_the_prior():
    prior = [0.2, 0.5, 0.3]
    head = make(0.0, kernel_initializer="zeros", bias_initializer=PriorBias(prior))
    np.testing.assert_allclose(ops.softmax(head(inputs())), [prior] * 6, rtol=1e-6)
    assert PriorBias.from_config(PriorBias(prior).get_config()).prior == prior
