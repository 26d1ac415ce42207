"""How much each feature moved of late, beside each bar."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class RollingDeviation(layers.Layer):
    """Maps bars (batch, time, features) to (batch, time, 2 * features), float32.

    Each bar, then the standard deviation of every feature over the last `bars` bars up to and with
    it, of fewer where the input begins later. No bar knows a later one. Without this
    the network has to learn how unsteady each feature is, which trees and regression are told.

    Averages are products with a matrix, of distances to the first bar: a level far from 0 costs
    the deviations no digits, unless the first bar itself lies far from the others. Values must be
    finite: NaN and infinity reach all bars.

    Args:
        bars: that a deviation looks at, at least 1.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: if `bars` is below 1.

    Examples:
        >>> bars = np.array([[[1.0], [3.0], [5.0]]], "float32")  # (1, 3, 1)
        >>> np.asarray(RollingDeviation(2)(bars))[0].round(3).tolist()
        [[1.0, 0.0], [3.0, 1.0], [5.0, 1.0]]
    """

    def __init__(self, bars: int, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bars < 1:
            raise ValueError(f"bars must be >= 1, got {bars}")
        self.bars = int(bars)

    def call(self, inputs):
        averages = ops.convert_to_tensor(_averages(inputs.shape[1], self.bars))
        distances = inputs - inputs[:, :1]  # (batch, time, features)
        mean, square = (
            ops.einsum("ts,bsf->btf", averages, power)
            for power in (distances, ops.square(distances))
        )
        variance = ops.maximum(square - ops.square(mean), 0.0)
        return ops.concatenate([inputs, ops.sqrt(variance)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bars": self.bars}


def _averages(steps: int, bars: int) -> np.ndarray:
    """Returns the matrix whose row t averages the last `bars` steps up to t, (steps, steps)."""
    behind = np.arange(steps)[:, None] - np.arange(steps)
    rows = ((behind >= 0) & (behind < bars)).astype(np.float32)
    return rows / rows.sum(axis=1, keepdims=True)
