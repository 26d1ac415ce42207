"""Dropout with one mask for each sequence (Gal and Ghahramani 2016, arXiv 1512.05287)."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class SequenceDropout(layers.Dropout):
    """`keras.layers.Dropout` with the same draws, and a mask as `dropout_mask` makes it.

    Args:
        rate: the share of inputs that is set to 0 in training.
        noise_shape: of the mask: None for the batch, then numbers, 1 where it is shared; None: that
            of the inputs.
        seed: of the draws.
        **kwargs: those of `keras.layers.Layer`.
    """

    def call(self, inputs, training=False):
        if not (training and self.rate):
            return inputs
        shape = (ops.shape(inputs)[0], *(self.noise_shape or inputs.shape)[1:])
        return inputs * dropout_mask(shape, self.rate, self.seed_generator, inputs.dtype)


def dropout_mask(shape, rate: float, seed, dtype):
    """Returns 1 / (1 - rate) with probability 1 - rate, else 0, for each element of a shape.

    Zeros and ones are multiplied by the identity: what a product gives XLA computes once. Without,
    each operation that reads the mask, at every step, makes it anew from random bits, which lie in
    rows of four and are gathered one by one: a tenth of the training step.

    Args:
        shape: of the mask; its last dimension must be a number.
        rate: the share that is 0.
        seed: a `keras.random.SeedGenerator`.
        dtype: of the mask.
    """
    drawn = keras.random.dropout(ops.ones(shape, dtype), rate, seed=seed)
    kept = ops.matmul(ops.cast(drawn > 0, dtype), ops.eye(shape[-1], dtype=dtype))
    return kept * (1 / (1 - rate))
