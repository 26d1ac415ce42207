import keras
import numpy as np
import pytest
from keras import layers, ops

from models.layers.dropout import SequenceDropout, dropout_mask

ONES = np.ones((64, 5, 8), "float32")


@pytest.mark.parametrize("shape", [(64, 8), (4, 64, 1, 6)])
def test_a_mask_has_the_draws_of_keras_and_its_scale(shape):
    mask = dropout_mask(shape, 0.3, keras.random.SeedGenerator(7), "float32")
    drawn = keras.random.dropout(ops.ones(shape), 0.3, seed=keras.random.SeedGenerator(7))
    np.testing.assert_array_equal(mask, drawn)
    assert set(np.unique(mask)) == {0, np.float32(1 / 0.7)}


@pytest.mark.parametrize("noise_shape", [(None, 1, 8), (None, 5, 1), None])
def test_the_layer_is_that_of_keras(noise_shape):
    arguments = {"noise_shape": noise_shape, "seed": 3}
    ours, theirs = SequenceDropout(0.3, **arguments), layers.Dropout(0.3, **arguments)
    for _ in range(2):  # the second time other draws
        np.testing.assert_array_equal(ours(ONES, training=True), theirs(ONES, training=True))
    np.testing.assert_array_equal(ours(ONES), ONES)


def test_the_layer_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([layers.Input((5, 8)), SequenceDropout(0.3, (None, 1, 8), seed=3)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ONES, training=True), model(ONES, training=True))
