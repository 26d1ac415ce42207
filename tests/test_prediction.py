import threading

import keras
import numpy as np
import pytest

from core import threads
from data.batches.datasets import WindowSequence
from models.prediction import predict_windows

LENGTH, FEATURES = 3, 2


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(40, FEATURES)).astype(np.float32)


@pytest.fixture
def model():
    inputs = keras.Input((LENGTH, FEATURES))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


def windows(features, count, batch_size):
    ends = np.arange(LENGTH, LENGTH + count)
    return WindowSequence(features, ends, sequence_length=LENGTH, batch_size=batch_size)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_the_outputs_are_those_of_keras_for_any_number_of_windows(features, model, count):
    asked = windows(features, count, batch_size=8)
    np.testing.assert_allclose(
        predict_windows(model, asked), model.predict(asked, verbose=0), rtol=1e-6
    )


def test_an_array_of_windows_is_answered_too(features, model):
    x = np.stack([features[i : i + LENGTH] for i in range(30)])
    np.testing.assert_allclose(predict_windows(model, x), model.predict(x, verbose=0), rtol=1e-6)


def test_a_short_last_batch_is_filled_up_so_that_one_shape_is_traced(features, model, monkeypatch):
    shapes, predict = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda x: shapes.append(x.shape) or predict(x))
    assert predict_windows(model, windows(features, 20, batch_size=8)).shape == (20, 3)
    assert shapes == [(8, LENGTH, FEATURES)] * 3


def test_batches_are_predicted_at_once_after_the_first(features, model, monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one thread on other backends")
    monkeypatch.setattr(threads, "num_cores", lambda: 2)
    together, predict, calls = threading.Barrier(2, timeout=20), model.predict_on_batch, []

    def predict_with_another(x):
        calls.append(len(x))
        if len(calls) > 1:
            together.wait()
        return predict(x)

    asked = windows(features, 20, batch_size=4)
    expected = predict_windows(model, asked)
    monkeypatch.setattr(model, "predict_on_batch", predict_with_another)
    assert np.array_equal(predict_windows(model, asked), expected)
    assert calls == [4] * 5
