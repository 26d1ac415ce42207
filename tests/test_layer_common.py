"""Products with hand-written gradients, against the same formulas left to the backend."""

import numpy as np
import pytest
from golden_numbers import run
from keras import ops
from random_blocks import assert_same

from models.layers.common import scaled, shifted, silu

CASES = {
    "scaled": (scaled, lambda x, vector: x * vector),
    "shifted": (shifted, lambda x, vector: x + vector),
    "silu": (lambda x, vector: silu(x) * vector, lambda x, vector: x * ops.sigmoid(x) * vector),
}


def value_and_gradients(function, tensors, cotangent):
    (value,), slopes = run(lambda *x: (function(*x),), tensors, [], cotangent)
    return [ops.convert_to_numpy(x) for x in (value, *slopes)]


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_formula(name):
    rng = np.random.default_rng(0)
    tensors, cotangent = (
        [rng.normal(0, 3, (4, 7, 5)), rng.normal(size=5)],
        rng.normal(size=(4, 7, 5)),
    )
    ours, formula = (value_and_gradients(f, tensors, cotangent) for f in CASES[name])
    for mine, expected in zip(ours, formula, strict=True):
        assert_same(mine, expected)  # Keras multiplies in float32 on PyTorch


def test_silu_and_its_gradient_are_finite_where_exp_overflows():
    x = np.array([-1e4, -800.0, 0.0, 800.0, 1e4], "float32")
    value, slope = value_and_gradients(silu, [x], np.ones_like(x))
    np.testing.assert_allclose(value, [0, 0, 0, 800, 1e4])
    np.testing.assert_allclose(slope, [0, 0, 0.5, 1, 1], atol=1e-30)


def test_silu_far_below_0_in_half_precision():
    x = np.array([-6e4, -1000.0, -20.0, 0.0, 1000.0], "float16")
    value, slope = value_and_gradients(silu, [x], np.ones_like(x))
    np.testing.assert_allclose(value, [0, 0, 0, 0, 1000], atol=1e-4)
    np.testing.assert_allclose(slope, [0, 0, 0, 0.5, 1], atol=1e-4)


def test_half_precision_sums_in_single_precision():
    """4,096 ones: a sum in float16 that adds one by one stops at 2,048."""
    x, bias = np.ones((1, 4096, 1), "float16"), np.zeros(1, "float16")
    _, _, slope = value_and_gradients(shifted, [x, bias], np.ones_like(x))
    assert slope[0] == 4096
