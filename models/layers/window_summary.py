"""What trees and regression see of a window: a few numbers for each feature, made in the model."""

import keras
from keras import layers, ops

from models.layers.common import widest_dtype


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class WindowSummary(layers.Layer):
    """Maps windows (batch, time, features) to summaries, float32 (batch, 4 * features).

    The last bar, the mean and standard deviation over the window, and the mean over its last
    quarter, as `evaluation.baselines.window_summary` makes them for the fits. The sums are taken
    in float64 where the backend has it: a tree is a step function, so whoever adds in another order
    must still round to the same float32. On JAX they are float32, and a value that lies on a
    threshold, as those that recur every day may, can fall on its other side.
    """

    def call(self, inputs):
        """Returns the summaries, (batch, 4 * features)."""
        bars = ops.cast(inputs, widest_dtype())
        mean = _mean(bars)
        deviation = ops.sqrt(_mean(ops.square(bars - ops.expand_dims(mean, 1))))
        late = _mean(bars[:, -max(1, inputs.shape[1] // 4) :])
        parts = [bars[:, -1], mean, deviation, late]  # each (batch, features)
        return ops.cast(ops.concatenate(parts, axis=-1), "float32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 4 * input_shape[-1])


def _mean(bars):
    """Returns the mean over time; `keras.ops.mean` on JAX takes float64 through float32."""
    return ops.sum(bars, axis=1) / bars.shape[1]
