"""The classifier head: logits softly capped in the early epochs, a bias that knows the prior."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class CappedDense(layers.Dense):
    """A dense layer whose outputs z become cap * tanh(z / cap) while its cap is above 0.

    The cap is a non-trainable weight, `logit_cap`, so that a callback can change it during
    training, a resumed run finds it as it was, and a saved model gives the figures it was chosen
    by. A cap of 0 is the plain dense layer. `models.training.schedules` has the release.

    Args:
        units: number of classes.
        logit_cap: the cap at the start, in nats; 0 for none.
        **kwargs: those of `keras.layers.Dense`.

    Source: the soft cap of the logits in xLSTM-7B (Beck et al. 2025, arXiv 2503.13427).
    """

    def __init__(self, units: int, logit_cap: float = 0.0, **kwargs):
        if logit_cap < 0:
            raise ValueError(f"logit_cap must be >= 0, got {logit_cap}")
        super().__init__(units, **kwargs)
        self.initial_logit_cap = float(logit_cap)

    def build(self, input_shape):
        super().build(input_shape)
        self.logit_cap = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_logit_cap),
            trainable=False,
            dtype="float32",
            autocast=False,
            name="logit_cap",
        )

    def call(self, inputs, training=None):
        logits: Any = super().call(inputs)
        cap = ops.cast(self.logit_cap, logits.dtype)
        # The unused branch of `where` still gets a gradient: its divisor must not be 0.
        divisor = ops.where(cap > 0, cap, ops.ones_like(cap))
        return ops.where(cap > 0, divisor * ops.tanh(logits / divisor), logits)

    # A dense layer saves its kernel and bias alone, and would refuse to load them with a third.
    def save_own_variables(self, store):
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        layers.Layer.load_own_variables(self, store)

    def get_config(self):
        return {**super().get_config(), "logit_cap": self.initial_logit_cap}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class PriorBias(keras.initializers.Initializer):
    """Initialises a bias to the logarithm of a class distribution, (classes,)."""

    def __init__(self, prior: Sequence[float]):
        self.prior = list(prior)

    def __call__(self, shape, dtype=None):
        bias = np.log(np.asarray(self.prior, "float64"))
        return ops.reshape(ops.convert_to_tensor(bias, dtype or "float32"), shape)

    def get_config(self):
        return {"prior": self.prior}
