import functools

import keras
import numpy as np
import pytest
import random_blocks
from batch_first import slstm_cell
from keras import ops
from random_blocks import BATCH, TIME, UNITS, assert_same, gradients, sequence

from models.layers.slstm_block import ForgetBias, SLSTMBlock

make = functools.partial(random_blocks.make, "s")


def plain_loop(pre, recurrent, h, c, n, m, mask, reset, valid, cap):
    """The equations as they stand, one step after another, for differentiation by the backend."""
    outputs = []
    for t in range(pre.shape[1]):
        go, keep = valid[:, t, None], ~reset[:, t, None]
        h, c, n = (ops.where(keep, s, ops.zeros_like(s)) for s in (h, c, n))
        gates = pre[:, t] + ops.matmul(h * mask, recurrent)
        i, f, z, o = ops.split(gates, 4, axis=-1)
        i, f = cap * ops.tanh(i / cap), cap * ops.tanh(f / cap)
        kept = ops.where(n == 0, ops.full_like(m, -1e30), m) + ops.log_sigmoid(f)
        largest = ops.stop_gradient(ops.maximum(kept, i))
        a, b = ops.exp(kept - largest), ops.exp(i - largest)
        c_new, n_new = a * c + b * ops.tanh(z), a * n + b
        h_new = ops.sigmoid(o) * c_new / n_new
        pairs = [(h_new, h), (c_new, c), (n_new, n), (largest, m)]
        h, c, n, m = (ops.where(go, new, old) for new, old in pairs)
        outputs.append(h)
    return ops.stack(outputs, axis=1), [h, c, n, m]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
def test_the_written_gradient_is_that_of_the_plain_loop_with_cap_reset_and_valid():
    rng = np.random.default_rng(0)
    pre = 3 * rng.normal(size=(BATCH, TIME, 4 * UNITS))
    recurrent = 0.5 * rng.normal(size=(UNITS, 4 * UNITS))
    h, c = rng.normal(size=(2, BATCH, UNITS))
    n, m = 1 + rng.random((BATCH, UNITS)), rng.normal(size=(BATCH, UNITS))
    n[0], c[0], h[0] = 0, 0, 0  # an empty row beside others
    mask = 2.0 * (rng.random((BATCH, UNITS)) < 0.5)
    reset, valid = rng.random((BATCH, TIME)) < 0.2, rng.random((BATCH, TIME)) < 0.7
    weights = rng.normal(size=(BATCH, TIME, UNITS)), *rng.normal(size=(3, BATCH, UNITS))

    def loss(cell):
        def function(pre, recurrent, h, c, n):
            y, last = cell(pre, recurrent, h, c, n)
            values = [y, last[0], last[1] / last[2], ops.log(last[2])]
            return sum(ops.sum(w * v) for w, v in zip(weights, values, strict=True))

        return gradients(function, [pre, recurrent, h, c, n])

    def written(pre, recurrent, h, c, n):
        options = {"cap": 4.0, "mask": mask, "reset": reset, "valid": valid}
        return slstm_cell(pre, recurrent, [h, c, n, ops.convert_to_tensor(m)], **options)

    value, got = loss(written)
    plain, expected = loss(
        lambda *tensors: plain_loop(*tensors, ops.convert_to_tensor(m), mask, reset, valid, 4.0)
    )
    assert_same(value, plain, 1e-11)
    for place, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        rows = slice(1, None) if place == 4 else slice(None)  # log n has no gradient at n = 0
        assert_same(mine[rows], theirs[rows], 1e-9)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
@pytest.mark.parametrize("size", [0, 200])
def test_values_and_gradients_are_finite_at_any_gates_over_512_steps(size):
    rng = np.random.default_rng(0)
    pre = rng.normal(size=(2, 512, 4 * 4)) * 3
    if size:
        pre[..., :8] = size * rng.choice([-1, 1], size=(2, 512, 8))
        pre[0, :300, :8] = -size  # an almost empty memory for long
    recurrent = np.zeros((4, 16), "float32")
    state = [np.zeros((2, 4), "float32")] * 4
    import tensorflow as tf

    def function(pre, recurrent):
        y, last = slstm_cell(pre, recurrent, [tf.constant(s) for s in state])
        return ops.sum(ops.square(y)) + sum(ops.sum(s) for s in last[:3])

    value, parts = tf.function(gradients, autograph=False)(
        function, [pre.astype("float32"), recurrent]
    )
    assert np.all(np.isfinite(value)) and all(np.all(np.isfinite(p)) for p in parts)


def test_recurrent_dropout_is_one_mask_per_sequence_and_off_in_inference():
    x = sequence()
    plain = make()
    dropped = make(recurrent_dropout=0.5, seed=4)
    assert np.array_equal(dropped(x), plain(x))
    assert np.array_equal(make(recurrent_dropout=0.0)(x, training=True), plain(x))
    mask = np.asarray(dropped._dropout_mask(BATCH, "float32", True))
    assert mask.shape == (BATCH, UNITS) and set(np.unique(mask)) == {0.0, 2.0}
    first = np.asarray(dropped(x, training=True))
    assert not np.array_equal(first, plain(x))
    assert not np.array_equal(first, dropped(x, training=True))
    # The first step has no recurrent input.
    assert_same(first[:, 0], plain(x)[:, 0], 1e-6)


def test_the_soft_cap_bounds_the_gates_and_a_wide_one_changes_nothing():
    pre = np.zeros((1, 2, 16), "float32")
    pre[:, 1, :8] = 1000.0  # input and forget gates
    kernel, state = np.zeros((4, 16), "float32"), [np.zeros((1, 4), "float32")] * 4
    _, last = slstm_cell(*map(ops.convert_to_tensor, (pre, kernel)), state, cap=7.0)
    assert np.all(np.abs(last[3]) <= 7.0)
    assert_same(make(gate_soft_cap=1e4)(sequence()), make()(sequence()), 1e-4)


def test_only_kernels_are_regularised():
    block = make(kernel_regularizer="l2", ff_bias=True)
    names = {w.name for w in block.trainable_variables if w.regularizer is not None}
    ff = {f"ff_{part}_kernel" for part in ("gate", "up", "down")}
    assert names == {"conv_kernel", *ff, *(f"{gate}_kernel" for gate in "ifzo")}


def test_initial_values_are_the_official_ones():
    keras.utils.set_random_seed(0)
    block = SLSTMBlock(num_heads=1, num_blocks=4, block_index=2)
    units = 256
    block.build((None, None, units))
    small, wang = np.sqrt(2 / (5 * units)), 2 / (4 * np.sqrt(units))
    stds = {"ff_gate_kernel": small, "ff_up_kernel": small, "ff_down_kernel": wang}
    stds |= {f"{gate}_kernel": small for gate in "ifzo"}
    weights = {w.name: np.asarray(w) for w in block.weights}
    for name, std in stds.items():
        assert weights[name].std() == pytest.approx(std, rel=0.02), name
        assert abs(weights[name].mean()) < 0.02 * std, name
    for name in ("conv_kernel", "conv_bias"):
        assert weights[name].min() < -0.47 and 0.47 < weights[name].max() < 0.5, name
        assert weights[name].std() == pytest.approx(0.5 / np.sqrt(3), rel=0.1), name
    for name in ("i_bias", "z_bias", "o_bias", *(f"{g}_recurrent_kernel" for g in "ifzo")):
        assert not np.any(weights[name]), name
    for name in ("norm_scale", "head_norm_scale", "ff_norm_scale"):
        assert np.all(weights[name] == 1), name
    assert_same(weights["f_bias"], ForgetBias(1, 2, 4)((units,)))
    assert weights["f_bias"][0] == 5 and weights["f_bias"][-1] == -7


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_heads": 3}, "num_heads must divide the width 8, got 3"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be in [0, 1), got 1.0"),
        ({"ff_activation": "relu"}, "ff_activation must be 'gelu' or 'silu', got 'relu'"),
    ],
)
def test_wrong_arguments_are_named(changes, text):
    with pytest.raises(ValueError) as error:
        SLSTMBlock(**changes).build((None, None, UNITS))
    assert text in str(error.value)
