from typing import Any

import keras
import numpy as np
import pytest

from models.layers.mlstm_block import MLSTMBlock
from models.layers.slstm_block import SLSTMBlock

BATCH, TIME, UNITS = 3, 11, 8
CASES = {
    "s": lambda **options: SLSTMBlock(2, ff_units=12, **options),
    "m, one chunk": lambda **options: MLSTMBlock(2, inner_units=16, **options),
    "m, chunks of 4": lambda **options: MLSTMBlock(2, inner_units=16, chunk_size=4, **options),
    "m, chunks of 1": lambda **options: MLSTMBlock(2, inner_units=16, chunk_size=1, **options),
}


def pair(case):
    """Returns a block for all steps and one for the last step, with the same random weights."""
    blocks = [CASES[case](dtype="float64", return_sequences=flag) for flag in (True, False)]
    rng = np.random.default_rng(0)
    blocks[0].build((None, None, UNITS))
    blocks[1].build((None, None, UNITS))
    values = [w + 0.5 * rng.normal(size=w.shape) for w in blocks[0].weights]
    for block in blocks:
        block.set_weights(values)
    return blocks


def options(kind):
    rng = np.random.default_rng(1)
    if kind == "reset":
        return {"reset": rng.random((BATCH, TIME)) < 0.3}
    if kind == "mask":
        return {"mask": rng.random((BATCH, TIME)) < 0.6}
    return {}


def sequence(seed=2):
    return np.random.default_rng(seed).normal(size=(BATCH, TIME, UNITS))


def assert_same(got, expected):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), 1e-11, 1e-11)


@pytest.mark.parametrize("kind", ["plain", "reset", "mask"])
@pytest.mark.parametrize("case", CASES)
def test_the_last_step_alone_is_that_of_all_steps(case, kind):
    every, last = pair(case)
    _, start = every(sequence(3), return_state=True)
    for state in (None, start):
        y, states = every(sequence(), state, return_state=True, **options(kind))
        alone, last_states = last(sequence(), state, return_state=True, **options(kind))
        assert alone.shape == (BATCH, UNITS)
        assert_same(alone, y[:, -1])
        for got, expected in zip(last_states, states, strict=True):
            assert_same(got, expected)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
@pytest.mark.parametrize("kind", ["plain", "reset", "mask"])
@pytest.mark.parametrize("case", CASES)
def test_its_gradients_are_those_of_the_last_of_all_steps(case, kind):
    import tensorflow as tf

    every, last = pair(case)
    x, gradients = tf.constant(sequence()), []
    for block in (every, last):
        variables = [v.value for v in block.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x, **options(kind))
            value = tf.reduce_sum(tf.sin(y[:, -1] if block is every else y))
        gradients.append(tape.gradient(value, [x, *variables]))
    assert len(gradients[0]) == len(every.trainable_variables) + 1
    for got, expected in zip(*reversed(gradients), strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize("case", CASES)
def test_one_step_of_it_goes_on_from_a_state(case):
    every, last = pair(case)
    state = every.initial_state(BATCH)
    for time in range(3):
        y, state = last.step(sequence()[:, time], state)
        assert_same(y, every(sequence()[:, : time + 1])[:, -1])


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_functional_model_takes_and_returns_a_state_and_can_be_saved(case, flag, tmp_path):
    block: Any = CASES[case](return_sequences=flag)
    inputs: Any = keras.Input((TIME, UNITS))
    first, state = block(inputs, return_state=True)
    y, state = block(inputs, initial_state=state, return_state=True)
    expected = (None, TIME, UNITS) if flag else (None, UNITS)
    assert first.shape == y.shape == expected == block.compute_output_shape(inputs.shape)
    keras.Model(inputs, [y, *state]).save(tmp_path / "model.keras")
    values = keras.saving.load_model(tmp_path / "model.keras")(sequence().astype("float32"))
    x = sequence().astype("float32")
    y, state = block(x, initial_state=block(x, return_state=True)[1], return_state=True)
    for got, expected in zip(values, [y, *state], strict=True):
        np.testing.assert_allclose(got, expected, 1e-6, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_flag_is_saved(case):
    block = CASES[case](return_sequences=False)
    assert type(block).from_config(block.get_config()).return_sequences is False


@pytest.mark.parametrize("case", ["s", "m, one chunk"])
def test_a_model_takes_a_block_without_following_its_call(case, monkeypatch):
    blocks = [CASES[case](dtype="float64", return_sequences=flag) for flag in (True, False)]
    for block in blocks:
        block.build((None, 5, UNITS))
        inputs = keras.Input((5, UNITS), dtype="float64")
        expected = keras.Operation.compute_output_spec(block, inputs)
        monkeypatch.setattr(block, "transform", None)  # calls of it fail
        found = block(inputs)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
