"""Products with hand-written gradients, against the same formulas left to the backend."""

import keras
import numpy as np
import pytest
from keras import ops
from random_blocks import assert_same, gradients

from models.layers.common import scaled, shifted, silu

CASES = {
    "scaled": (scaled, lambda x, vector: x * vector),
    "shifted": (shifted, lambda x, vector: x + vector),
    "silu": (lambda x, vector: silu(x) * vector, lambda x, vector: x * ops.sigmoid(x) * vector),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_formula(name):
    rng = np.random.default_rng(0)
    x, vector = rng.normal(0, 3, (4, 7, 5)), rng.normal(size=5)
    (value, slopes), (expected, wanted) = (gradients(f, [x, vector]) for f in CASES[name])
    assert_same(value, expected, 1e-12)
    for slope, right in zip(slopes, wanted, strict=True):
        assert_same(slope, right, 1e-12)


def test_silu_and_its_gradient_are_finite_where_exp_overflows():
    x = np.array([-1e4, -800.0, 0.0, 800.0, 1e4], "float32")
    value, (slope,) = gradients(silu, [x])
    np.testing.assert_allclose(value, [0, 0, 0, 800, 1e4])
    np.testing.assert_allclose(slope, [0, 0, 0.5, 1, 1])


def test_half_precision_sums_in_single_precision():
    """4,096 ones: a sum in float16 that adds one by one stops at 2,048."""
    x = keras.ops.ones((1, 4096, 1), "float16")
    bias = keras.ops.zeros((1,), "float16")
    _, (_, slope) = gradients(shifted, [x, bias])
    assert float(slope[0]) == 4096
