"""What the two memories are for: state tracking and recall. Minutes long."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from models.layers.mlstm_block import MLSTMBlock
from models.layers.slstm_block import SLSTMBlock

pytestmark = pytest.mark.slow
UNITS = 32


def parity(rng, batch, length):
    """Returns bits (batch, length) and the parity of every prefix."""
    bits = rng.integers(0, 2, size=(batch, length))
    return bits.astype("int32"), (np.cumsum(bits, axis=1) % 2).astype("int32")


def tagger(blocks, num_tokens, num_classes, *lengths):
    """Returns models from tokens (batch, length) to logits, of common weights, one per length."""
    embedding, norm = layers.Embedding(num_tokens, UNITS), layers.LayerNormalization(epsilon=1e-5)
    stack, models = [embedding, *blocks, norm, layers.Dense(num_classes)], []
    for length in lengths:
        tokens = x = keras.Input((length,), dtype="int32")
        for layer in stack:
            x = layer(x)
        models.append(keras.Model(tokens, x))
    return models


def train(model, batches, steps, rate=3e-3):
    """Trains on batches of (tokens, targets); targets of -1 do not count."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - 100, 0.05, warmup_target=rate, warmup_steps=100
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), loss, jit_compile=True)
    for step in range(steps):
        model.train_on_batch(*batches(step))


def accuracy(model, tokens, targets):
    counted = targets >= 0
    found = ops.convert_to_numpy(ops.argmax(model.predict(tokens, verbose=0), axis=-1))
    return float(np.mean((found == targets)[counted]))


def parity_accuracy(blocks):
    """Returns the accuracy at the last of 256 steps after training on lengths up to 40."""
    keras.utils.set_random_seed(0)
    model, long = tagger(blocks, 2, 2, 40, 256)
    rng = np.random.default_rng(0)

    def batch(step):  # every prefix counts as a sequence, at first only the short ones
        tokens, targets = parity(rng, 64, 40)
        targets[:, 8 if step < 200 else 40 :] = -1
        return tokens, targets

    train(model, batch, 800)
    tokens, targets = parity(np.random.default_rng(1), 256, 256)
    targets[:, :-1] = -1
    return accuracy(long, tokens, targets)


def test_slstm_solves_parity_far_beyond_its_training_lengths_and_mlstm_does_not():
    with_slstm = parity_accuracy([SLSTMBlock(num_heads=1)])
    without = parity_accuracy([MLSTMBlock(num_heads=1), MLSTMBlock(num_heads=1)])
    print(f"parity at 256 steps: sLSTM {with_slstm:.4f}, mLSTM only {without:.4f}")
    assert with_slstm > 0.99
    assert without < 0.75


NUM_PAIRS, NUM_KEYS, NUM_VALUES = 12, 24, 8


def recall(rng, batch):
    """Returns tokens key, value, key, value, ... and then keys to ask for; values as targets."""
    keys = np.argsort(rng.random((batch, NUM_KEYS)), axis=1)[:, :NUM_PAIRS]
    values = rng.integers(0, NUM_VALUES, size=(batch, NUM_PAIRS))
    order = np.argsort(rng.random((batch, NUM_PAIRS)), axis=1)
    pairs = np.stack([keys, NUM_KEYS + values], axis=-1).reshape(batch, -1)
    asked = np.take_along_axis(keys, order, axis=1)
    answers = np.take_along_axis(values, order, axis=1)
    targets = np.concatenate([np.full_like(pairs, -1), answers], axis=1)
    return np.concatenate([pairs, asked], axis=1).astype("int32"), targets.astype("int32")


def recall_accuracy(blocks):
    keras.utils.set_random_seed(0)
    [model] = tagger(blocks, NUM_KEYS + NUM_VALUES, NUM_VALUES, 3 * NUM_PAIRS)
    rng = np.random.default_rng(0)
    train(model, lambda step: recall(rng, 64), 1000)
    return accuracy(model, *recall(np.random.default_rng(1), 512)), model.count_params()


def test_mlstm_recalls_pairs_better_than_an_lstm_of_equal_parameters():
    blocks = [MLSTMBlock(num_heads=1), MLSTMBlock(num_heads=1)]
    mlstm, parameters = recall_accuracy(blocks)
    lstm, lstm_parameters = recall_accuracy([layers.LSTM(48, return_sequences=True)])
    print(
        f"recall of {NUM_PAIRS} pairs: mLSTM {mlstm:.4f} ({parameters} parameters), "
        f"LSTM {lstm:.4f} ({lstm_parameters} parameters)"
    )
    assert lstm_parameters >= parameters
    assert mlstm > lstm + 0.1
