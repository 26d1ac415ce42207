import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from models import probabilities
from models.probabilities import cross_entropies, log_of_rest, plain


def test_cross_entropies_are_those_of_keras_and_finite_far_out():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 3)) * 3, rng.integers(0, 3, 9)
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(cross_entropies(logits, labels), expected, rtol=1e-5)
    assert cross_entropies(np.array([[1000.0, -1000.0]]), np.array([1])) == [2000.0]


def test_cross_entropies_of_single_precision_are_summed_in_double():
    logits = np.random.default_rng(1).normal(size=(9, 3)).astype("float32")
    labels = np.arange(9) % 3
    found = cross_entropies(logits, labels)
    assert found.dtype == np.float64
    log_p = log_softmax(logits.astype("float64"), axis=-1)
    np.testing.assert_array_equal(found, -log_p[np.arange(9), labels])


def test_cross_entropies_by_parts_are_those_of_all_at_once(monkeypatch):
    logits, labels = np.random.default_rng(2).normal(size=(9, 3)), np.arange(9) % 3
    whole = cross_entropies(logits, labels)
    monkeypatch.setattr(probabilities, "_AT_ONCE", 4)
    np.testing.assert_array_equal(cross_entropies(logits, labels), whole)
    np.testing.assert_array_equal(cross_entropies(logits, labels.tolist()), whole)
    with pytest.raises(IndexError):  # the ninth window's logits would do for any number of labels
        cross_entropies(logits, np.zeros(12, int))


def test_log_of_rest_keeps_what_a_difference_from_1_would_lose():
    p = np.array([[0.2, 0.3, 0.5], [1 - 1e-9, 7e-10, 3e-10]])
    found = np.asarray(log_of_rest(keras.ops.convert_to_tensor(np.log(p), "float32")))
    rest = np.array([[0.8, 0.7, 0.5], [1e-9, 1.0, 1.0]])
    np.testing.assert_allclose(found, np.log(rest), rtol=1e-6, atol=1e-7)


def test_plain_numbers_are_those_that_json_holds():
    assert plain(None) is None and plain(1) == 1.0 and type(plain(np.float32(2))) is float
    assert plain((1, np.float32(0.5))) == [1.0, 0.5]
    assert plain([[0, 1], [2, 0]]) == [[0.0, 1.0], [2.0, 0.0]]
