"""A linear model on standardised columns, as a layer: the logistic regression of a blend."""

from typing import Any

import keras
from keras import layers, ops

from models.layers.common import widest_dtype


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class ClippedDense(layers.Layer):
    """Maps columns (batch, columns) to logits (batch, units): clip((x - mean) / scale) W + b.

    It is not trained here: its weights come from a fit, by `set_weights`, in the order mean and
    scale (columns,), kernel (columns, units), bias (units,).

    Args:
        units: number of classes.
        clip: standardised columns are cut off at plus and minus this many standard deviations.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, units: int, clip: float, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.units, self.clip = int(units), float(clip)

    def build(self, input_shape):
        """Makes the weights."""
        columns = input_shape[-1]
        shapes = {"mean": (columns,), "scale": (columns,)}
        shapes |= {"kernel": (columns, self.units), "bias": (self.units,)}
        self.mean, self.scale, self.kernel, self.bias = (
            self.add_weight(shape=shape, initializer="ones", trainable=False, name=name)
            for name, shape in shapes.items()
        )

    def call(self, inputs):
        """Returns the logits, (batch, units)."""
        wide = widest_dtype()
        centred = ops.cast(inputs, wide) - ops.cast(self.mean, wide)
        columns = ops.clip(centred / ops.cast(self.scale, wide), -self.clip, self.clip)
        return ops.matmul(ops.cast(columns, "float32"), self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "clip": self.clip}
