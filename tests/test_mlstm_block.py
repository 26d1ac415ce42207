import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from models.layers.mlstm_block import MLSTMBlock
from models.xlstm_rl_model import build_xlstm_classifier

ROOT = Path(__file__).parent.parent


BATCH, TIME, UNITS, HEADS = 3, 11, 8, 2


CHANGED = {
    "num_heads": 2,
    "proj_factor": 3.0,
    "qkv_block_size": 2,
    "conv_kernel_size": 3,
    "use_bias": True,
    "recurrent_dropout": 0.2,
    "gate_soft_cap": 15.0,
    "chunk_size": 3,
    "inner_units": 24,
    "num_blocks": 3,
    "seed": 5,
    "name": "mine",
}


def make(dtype="float32", batch_shape=(None, None, UNITS), **changes):
    """Returns a built block whose weights are all random, so that every path counts."""
    keras.utils.set_random_seed(0)
    block = MLSTMBlock(**{"num_heads": HEADS, "inner_units": 16, "dtype": dtype, **changes})
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
    block = MLSTMBlock(**CHANGED, kernel_regularizer=keras.regularizers.L2(0.01))
    config = block.get_config()
    again = MLSTMBlock.from_config(config)
    assert again.get_config() == config
    assert {name: config[name] for name in CHANGED} == CHANGED
    assert float(again.kernel_regularizer.l2) == pytest.approx(0.01)
    defaults = MLSTMBlock(name="mine").get_config()
    assert all(defaults[name] != value for name, value in CHANGED.items() if name != "name")


def test_a_saved_block_gives_the_same_outputs_in_a_fresh_process(tmp_path):
    inputs = keras.Input((TIME, UNITS))
    block = make(gate_soft_cap=3.0, kernel_regularizer="l2")
    model = keras.Model(inputs, block(inputs))
    assert block.compute_output_shape((None, TIME, UNITS)) == model.output_shape
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", sequence())
    code = (
        "import sys, keras, numpy as np, models.layers.mlstm_block\n"
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
    assert [keras.backend.standardize_dtype(s.dtype) for s in state[:3]] == ["float32"] * 3
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


def test_recurrent_dropout_is_one_mask_per_sequence_and_off_in_inference():
    x = sequence()
    plain, dropped = make(), make(recurrent_dropout=0.5, seed=4)
    assert np.array_equal(dropped(x), plain(x))
    assert np.array_equal(make(recurrent_dropout=0.0)(x, training=True), plain(x))
    first = np.asarray(dropped(x, training=True))
    assert not np.array_equal(first, plain(x))
    assert not np.array_equal(first, dropped(x, training=True))
    # Equal inputs at all steps without memory of the earlier ones: one mask gives equal outputs.
    still, reset = np.repeat(x[:, :1], TIME, axis=1), np.ones((BATCH, TIME), bool)
    y = dropped(still, reset=reset, training=True)
    assert_same(y, np.repeat(y[:, :1], TIME, axis=1), 1e-5)


def test_the_soft_cap_bounds_the_gates_and_a_wide_one_changes_nothing():
    block = make(gate_soft_cap=2.0)
    _, state = block(1000 * sequence(), return_state=True)
    assert np.all(np.abs(state[2]) <= 2.0 + 1e-5)
    block.input_gate_bias.assign([900.0, 900.0])
    _, state = block(sequence(), return_state=True)
    assert_same(state[2], np.full((BATCH, HEADS), 2.0), 1e-4)
    assert_same(make(gate_soft_cap=1e4)(sequence()), make()(sequence()), 1e-3)


def test_only_kernels_are_regularised():
    block = make(kernel_regularizer="l2", use_bias=True)
    names = {w.name for w in block.trainable_variables if w.regularizer is not None}
    assert names == {f"{name}_kernel" for name in ("up", "conv", "q", "k", "v", "down")}


def test_initial_values_are_the_official_ones():
    keras.utils.set_random_seed(0)
    block = MLSTMBlock(num_heads=4, num_blocks=4, use_bias=True)
    units = 256
    block.build((None, None, units))
    small, wang = np.sqrt(2 / (5 * units)), 2 / (4 * np.sqrt(units))
    stds = {"up_kernel": small, "down_kernel": wang, **{f"{n}_kernel": small for n in "qkv"}}
    weights = {w.name: np.asarray(w) for w in block.weights}
    for name, std in stds.items():
        assert weights[name].std() == pytest.approx(std, rel=0.04), name
        assert abs(weights[name].mean()) < 0.05 * std, name
    for name in ("conv_kernel", "conv_bias"):
        assert weights[name].min() < -0.47 and 0.47 < weights[name].max() < 0.5, name
        assert weights[name].std() == pytest.approx(0.5 / np.sqrt(3), rel=0.1), name
    for name in ("gate_kernel", "up_bias", "q_bias", "k_bias", "v_bias", "down_bias"):
        assert not np.any(weights[name]), name
    for name in ("norm_scale", "head_norm_scale", "skip_scale"):
        assert np.all(weights[name] == 1), name
    assert_same(weights["forget_gate_bias"], [3, 4, 5, 6])
    many = MLSTMBlock(num_heads=256)
    many.build((None, None, units))
    assert np.std(many.input_gate_bias) == pytest.approx(0.1, rel=0.15)


def test_a_deep_pattern_of_both_blocks_trains():
    model = build_xlstm_classifier(TIME, UNITS, units=8, num_heads=2, blocks="msmm")
    before = [np.copy(ops.convert_to_numpy(w)) for w in model.trainable_variables]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = [model.train_on_batch(sequence(), np.arange(BATCH)) for _ in range(15)]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
    for weight, old in zip(model.trainable_variables, before, strict=True):
        exempt = weight.name == "i_bias"  # the outputs do not depend on it from an empty start
        assert exempt or not np.array_equal(weight, old), weight.path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_heads": 3, "inner_units": 16}, "num_heads must divide the inner width 16, got 3"),
        ({"qkv_block_size": 3}, "qkv_block_size must divide the inner width 64, got 3"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be in [0, 1), got 1.0"),
        ({"chunk_size": 0}, "conv_kernel_size and chunk_size must be >= 1, got 4 and 0"),
    ],
)
def test_wrong_arguments_are_named(changes, text):
    with pytest.raises(ValueError) as error:
        MLSTMBlock(**changes).build((None, None, UNITS))
    assert text in str(error.value)
