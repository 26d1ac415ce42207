"""What holds for blocks of either kind."""

import keras
import numpy as np
import pytest
from random_blocks import BATCH, BLOCKS, TIME, UNITS, assert_same, make, sequence

CHANGED = {
    "s": {
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
    },
    "m": {
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
    },
}


@pytest.fixture(params=BLOCKS)
def kind(request):
    return request.param


def test_the_config_holds_every_argument(kind):
    block_class, changed = BLOCKS[kind], CHANGED[kind]
    block = block_class(**changed, kernel_regularizer=keras.regularizers.L2(0.01))
    config = block.get_config()
    again = block_class.from_config(config)
    assert again.get_config() == config
    assert {name: config[name] for name in changed} == changed
    assert float(again.kernel_regularizer.l2) == pytest.approx(0.01)
    defaults = block_class(name="mine").get_config()
    assert all(defaults[name] != value for name, value in changed.items() if name != "name")


def test_saved_blocks_give_the_same_outputs(tmp_path):
    inputs = keras.Input((TIME, UNITS))
    blocks = [make(kind, gate_soft_cap=3.0, kernel_regularizer="l2") for kind in BLOCKS]
    model = keras.Model(inputs, [block(inputs) for block in blocks])
    assert [b.compute_output_shape((None, TIME, UNITS)) for b in blocks] == model.output_shape
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(np.stack(loaded(sequence())), np.stack(model(sequence())), 1e-6)


@pytest.mark.parametrize(("kind", "num_float32"), [("s", 4), ("m", 3)])
def test_mixed_precision_keeps_the_state_in_float32(kind, num_float32):
    y, state = make(kind, "mixed_float16")(sequence(), return_state=True)
    assert y.dtype == "float16" and np.all(np.isfinite(y))
    kept = [keras.backend.standardize_dtype(s.dtype) for s in state[:num_float32]]
    assert kept == ["float32"] * num_float32
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


def test_whole_model_compilation_gives_the_same_training(kind):
    assert_same(trained([make(kind)], True), trained([make(kind)], False))


@pytest.mark.parametrize("cut", [1, 2, 5, TIME - 1])
def test_a_sequence_goes_on_from_the_returned_state(cut, kind):
    block, x = make(kind, "float64"), sequence(dtype="float64")
    reset = np.random.default_rng(2).random((BATCH, TIME)) < 0.2
    whole, last = block(x, reset=reset, return_state=True)
    first, state = block(x[:, :cut], reset=reset[:, :cut], return_state=True)
    second, state = block(x[:, cut:], state, reset=reset[:, cut:], return_state=True)
    assert_same(np.concatenate([first, second], axis=1), whole, 1e-12)
    for got, expected in zip(state, last, strict=True):
        assert_same(got, expected, 1e-12)


def test_a_reset_row_starts_anew_and_leaves_the_others_alone(kind):
    block, x = make(kind, "float64"), sequence(dtype="float64")
    reset = np.zeros((BATCH, TIME), bool)
    reset[0, 4] = reset[1, 6] = reset[1, 8] = True
    y, state = block(x, reset=reset, return_state=True)
    for row, start in enumerate([4, 8, 0]):
        anew, last = block(x[row : row + 1, start:], return_state=True)
        assert_same(y[row, start:], anew[0], 1e-12)
        for got, expected in zip(state[:4], last[:4], strict=True):
            assert_same(got[row], expected[0], 1e-12)


def test_padded_steps_at_the_start_change_nothing_after_them(kind):
    block, x = make(kind, "float64"), sequence(dtype="float64")
    mask = np.arange(TIME) >= np.array([[0], [3], [7]])
    y, state = block(x, mask=mask, return_state=True)
    for row, start in enumerate([0, 3, 7]):
        alone, last = block(x[row : row + 1, start:], return_state=True)
        assert_same(y[row, start:], alone[0], 1e-12)
        for got, expected in zip(state, last, strict=True):
            assert_same(got[row], expected[0], 1e-12)
    other = np.where(mask[..., None], x, 100.0)
    assert_same(block(other, mask=mask)[1, 3:], y[1, 3:], 1e-12)


def test_the_future_does_not_change_past_outputs(kind):
    block, x = make(kind), sequence()
    other = x.copy()
    other[:, 6:] = 50.0
    assert np.array_equal(block(x)[:, :6], block(other)[:, :6])
    assert not np.array_equal(block(x)[:, 6:], block(other)[:, 6:])
