"""Built blocks of either kind whose weights are all random, so that every path counts."""

import keras
import numpy as np

from models.layers.mlstm_block import MLSTMBlock
from models.layers.slstm_block import SLSTMBlock

BATCH, TIME, UNITS, HEADS = 3, 11, 8, 2
BLOCKS = {"s": SLSTMBlock, "m": MLSTMBlock}
OPTIONS = {"s": {}, "m": {"inner_units": 16}}


def make(kind, dtype="float32", **changes):
    keras.utils.set_random_seed(0)
    block = BLOCKS[kind](**{"num_heads": HEADS, "dtype": dtype, **OPTIONS[kind], **changes})
    block.build((None, None, UNITS))
    rng = np.random.default_rng(0)
    for weight in block.trainable_variables:
        weight.assign(weight + 0.5 * rng.normal(size=weight.shape))
    return block


def sequence(seed=1, time=TIME, dtype="float32"):
    return np.random.default_rng(seed).normal(size=(BATCH, time, UNITS)).astype(dtype)


def assert_same(got, expected, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), tolerance, tolerance)


def gradients(function, tensors):
    """Returns the value of a function of tensors, and its gradients by TensorFlow's tape."""
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(t) for t in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value, tape.gradient(value, tensors)
