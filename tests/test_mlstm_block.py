import functools

import keras
import numpy as np
import pytest
import random_blocks
from keras import ops
from random_blocks import BATCH, HEADS, TIME, UNITS, assert_same, sequence

from models.layers.mlstm_block import MLSTMBlock
from models.xlstm_rl_model import build_xlstm_classifier

make = functools.partial(random_blocks.make, "m")


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


@pytest.mark.slow
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
