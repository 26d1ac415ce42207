import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from models.layers.slstm_block import ForgetBias, SLSTMBlock
from models.layers.slstm_cell import slstm_cell

ROOT = Path(__file__).parent.parent
BATCH, TIME, UNITS, HEADS = 3, 11, 8, 2
CHANGED = {
    "num_heads": 2,
    "conv_kernel_size": 3,
    "ff_factor": 2.0,
    "ff_activation": "silu",
    "ff_bias": True,
    "recurrent_dropout": 0.2,
    "gate_soft_cap": 15.0,
    "block_index": 1,
    "ff_units": 24,
    "num_blocks": 3,
    "seed": 5,
    "name": "mine",
}


def make(dtype="float32", batch_shape=(None, None, UNITS), **changes):
    """Returns a built block whose weights are all random, so that every path counts."""
    keras.utils.set_random_seed(0)
    block = SLSTMBlock(**{"num_heads": HEADS, "dtype": dtype, **changes})
    block.build(batch_shape)
    rng = np.random.default_rng(0)
    for weight in block.trainable_variables:
        weight.assign(weight + 0.5 * rng.normal(size=weight.shape))
    return block


def sequence(seed=1, time=TIME, dtype="float32"):
    return np.random.default_rng(seed).normal(size=(BATCH, time, UNITS)).astype(dtype)


def assert_same(got, expected, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), tolerance, tolerance)


def test_the_config_holds_every_argument():
    block = SLSTMBlock(**CHANGED, kernel_regularizer=keras.regularizers.L2(0.01))
    config = block.get_config()
    again = SLSTMBlock.from_config(config)
    assert again.get_config() == config
    assert {name: config[name] for name in CHANGED} == CHANGED
    assert float(again.kernel_regularizer.l2) == pytest.approx(0.01)
    defaults = SLSTMBlock(name="mine").get_config()
    assert all(defaults[name] != value for name, value in CHANGED.items() if name != "name")


def test_a_saved_block_gives_the_same_outputs_in_a_fresh_process(tmp_path):
    inputs = keras.Input((TIME, UNITS))
    block = make(gate_soft_cap=3.0, kernel_regularizer="l2")
    model = keras.Model(inputs, block(inputs))
    assert block.compute_output_shape((None, TIME, UNITS)) == model.output_shape
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", sequence())
    code = (
        "import sys, keras, numpy as np, models.layers.slstm_block\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "np.save(sys.argv[1] + '/y.npy', model(np.load(sys.argv[1] + '/x.npy')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert_same(np.load(tmp_path / "y.npy"), model(sequence()), 1e-6)


def test_mixed_precision_keeps_the_state_in_float32():
    block = make("mixed_float16")
    y, state = block(sequence(), return_state=True)
    assert y.dtype == "float16" and np.all(np.isfinite(y))
    assert [keras.backend.standardize_dtype(s.dtype) for s in state[:4]] == ["float32"] * 4
    assert np.all(np.isfinite(np.concatenate([np.ravel(s) for s in state])))


def trained(blocks, jit_compile):
    """Returns the weights of a model after two steps of training."""
    inputs = keras.Input((TIME, UNITS))
    x = inputs
    for block in blocks:
        x = block(x)
    keras.utils.set_random_seed(3)
    model = keras.Model(inputs, keras.layers.Dense(2)(x[:, -1]))
    optimizer = keras.optimizers.SGD(0.01, global_clipnorm=1.0)
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    for seed in (1, 2):
        model.train_on_batch(sequence(seed), sequence(seed)[:, 0, :2])
    return np.concatenate([np.ravel(w) for w in model.trainable_variables])


def test_whole_model_compilation_gives_the_same_training():
    assert_same(trained([make()], True), trained([make()], False))


@pytest.mark.parametrize("cut", [1, 2, 5, TIME - 1])
def test_a_sequence_goes_on_from_the_returned_state(cut):
    block, x = make("float64"), sequence(dtype="float64")
    reset = np.random.default_rng(2).random((BATCH, TIME)) < 0.2
    whole, last = block(x, reset=reset, return_state=True)
    first, state = block(x[:, :cut], reset=reset[:, :cut], return_state=True)
    second, state = block(x[:, cut:], state, reset=reset[:, cut:], return_state=True)
    assert_same(np.concatenate([first, second], axis=1), whole, 1e-12)
    for got, expected in zip(state, last, strict=True):
        assert_same(got, expected, 1e-12)


def test_a_reset_row_starts_anew_and_leaves_the_others_alone():
    block, x = make("float64"), sequence(dtype="float64")
    reset = np.zeros((BATCH, TIME), bool)
    reset[0, 4] = reset[1, 6] = reset[1, 8] = True
    y, state = block(x, reset=reset, return_state=True)
    for row, start in enumerate([4, 8, 0]):
        anew, last = block(x[row : row + 1, start:], return_state=True)
        assert_same(y[row, start:], anew[0], 1e-12)
        for got, expected in zip(state[:4], last[:4], strict=True):
            assert_same(got[row], expected[0], 1e-12)


def test_padded_steps_at_the_start_change_nothing_after_them():
    block, x = make("float64"), sequence(dtype="float64")
    mask = np.arange(TIME) >= np.array([[0], [3], [7]])
    y, state = block(x, mask=mask, return_state=True)
    for row, start in enumerate([0, 3, 7]):
        alone, last = block(x[row : row + 1, start:], return_state=True)
        assert_same(y[row, start:], alone[0], 1e-12)
        for got, expected in zip(state, last, strict=True):
            assert_same(got[row], expected[0], 1e-12)
    other = np.where(mask[..., None], x, 100.0)
    assert_same(block(other, mask=mask)[1, 3:], y[1, 3:], 1e-12)


def test_the_future_does_not_change_past_outputs():
    block, x = make(), sequence()
    other = x.copy()
    other[:, 6:] = 50.0
    assert np.array_equal(block(x)[:, :6], block(other)[:, :6])
    assert not np.array_equal(block(x)[:, 6:], block(other)[:, 6:])


def gradients(function, tensors):
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(t) for t in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value, tape.gradient(value, tensors)


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
