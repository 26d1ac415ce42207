"""The cells in float32 against themselves in float64, at gates of any size over 512 steps."""

import functools

import keras
import numpy as np
import pytest
from batch_first import slstm_cell
from golden_numbers import GATES, assert_close, assert_gradients_close, runner
from keras import ops

from models.layers.common import block_diagonal
from models.layers.mlstm_cell import mlstm_cell

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="keras.ops.matmul gives float32 for float64 there"
)
BATCH, HEADS, TIME, DEPTH = 2, 2, 512, 8
MARGIN = 0.01
MLSTM, SLSTM = (1e-4, 3e-4), (5e-5, 1e-4)  # outputs, gradients: tests/golden/README.md
TENSORFLOW = keras.backend.backend() == "tensorflow"
HARD = 35  # two steps that nearly cancel, after a step where a chunk ends
SEEDS = [
    seed if seed in (0, 1, 2, 3, HARD) else pytest.param(seed, marks=pytest.mark.slow)
    for seed in range(40)
]
ANY_GATES = [
    pytest.mark.parametrize("jit", [False, True] if TENSORFLOW else [True]),
    pytest.mark.parametrize("size", [3, 30, 200]),
    pytest.mark.parametrize("seed", SEEDS),
]


def any_gates(test):
    for mark in ANY_GATES:
        test = mark(test)
    return test


@functools.cache
def run(function, jit):
    return runner(function, jit=jit)


def mlstm(*tensors):
    h, state = mlstm_cell(*tensors)
    return h, *state


def slstm(*tensors):
    pre, kernels, biases = (tensors[place : place + 4] for place in (0, 4, 8))
    pre = ops.concatenate([p + b for p, b in zip(pre, biases, strict=True)], axis=-1)
    kernel = ops.concatenate([block_diagonal(k) for k in kernels], axis=-1)
    empty = ops.zeros((BATCH, HEADS * DEPTH), pre.dtype)
    y, state = slstm_cell(pre, kernel, [empty] * 4)
    return y, *state


def assert_float32_is_enough(function, jit, arrays, cotangent, names, limits):
    single = [np.asarray(array, "float32") for array in (*arrays, cotangent)]
    double = [array.astype("float64") for array in single]
    outputs, gradients = run(function, jit)(single[:-1], single[-1])
    expected = run(function, jit)(double[:-1], double[-1])
    assert_close(outputs[0], ops.convert_to_numpy(expected[0][0]), limits[0], "output")
    assert_gradients_close(
        dict(zip(names, gradients, strict=True)),
        dict(zip(names, map(ops.convert_to_numpy, expected[1]), strict=True)),
        limits[1],
    )


def queries(draw, k, i, f):
    """Returns queries such that no n . q nearly cancels, and none is near the kink of its bound.

    There rounding alone moves h, or makes its gradient jump, in whatever form it is computed.
    """
    q = draw.normal(size=k.shape)
    n, m = np.zeros((BATCH, HEADS, DEPTH)), np.full((BATCH, HEADS), -np.inf)
    log_forget = -np.logaddexp(0, -f)
    for t in range(TIME):
        m_new = np.maximum(log_forget[:, :, t] + m, i[:, :, t])
        written = np.exp(i[:, :, t] - m_new)[..., None] * k[:, :, t] / np.sqrt(DEPTH)
        n = np.exp(log_forget[:, :, t] + m - m_new)[..., None] * n + written
        m = m_new
        while True:
            product = np.abs(np.sum(n * q[:, :, t], axis=-1))
            largest = np.linalg.norm(n, axis=-1) * np.linalg.norm(q[:, :, t], axis=-1)
            floor = np.exp(-m)
            near = np.abs(product / floor - 1) < MARGIN
            near |= (product < MARGIN * largest) & (product > 0.9 * floor)
            if not near.any():
                break
            q[:, :, t][near] = draw.normal(size=(near.sum(), DEPTH))
    return q


@any_gates
def test_the_mlstm_core_is_as_good_in_float32(seed, size, jit):
    draw = np.random.default_rng(seed)
    k, v, cotangent = draw.normal(size=(3, BATCH, HEADS, TIME, DEPTH))
    i, f = draw.uniform(-size, size, (2, BATCH, HEADS, TIME))
    arrays = [queries(draw, k, i, f), k, v, i, f]
    assert_float32_is_enough(mlstm, jit, arrays, cotangent, "qkvif", MLSTM)


@any_gates
def test_the_slstm_cell_is_as_good_in_float32(seed, size, jit):
    draw = np.random.default_rng(seed)
    units = HEADS * DEPTH
    i, f = draw.uniform(-size, size, (2, BATCH, TIME, units))
    z, o, cotangent = draw.normal(size=(3, BATCH, TIME, units))
    kernels = 0.3 * draw.normal(size=(4, HEADS, DEPTH, DEPTH))
    biases = 0.3 * draw.normal(size=(4, units))
    names = [f"{kind}_{gate}" for kind in ("pre", "R", "b") for gate in GATES]
    arrays = [i, f, z, o, *kernels, *biases]
    assert_float32_is_enough(slstm, jit, arrays, cotangent, names, SLSTM)
