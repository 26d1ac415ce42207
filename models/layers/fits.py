"""Fits that may stand beside the network, as layers of one model file: regression and trees.

Both see a summary of the window, made in the model. Their weights come from a fit elsewhere.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from models.layers.common import widest_dtype


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class WindowSummary(layers.Layer):
    """Maps windows (batch, time, features) to summaries, float32 (batch, 4 * features).

    The last bar, the mean and standard deviation over the window, and the mean over its last
    quarter, as `evaluation.baselines.summaries` has them for the fits. The sums are taken
    in float64 where the backend has it: a tree is a step function, so whoever adds in another order
    must still round to the same float32. On JAX they are float32, and a value that lies on a
    threshold, as those that recur every day may, can fall on its other side.
    """

    def call(self, inputs):
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
        columns = input_shape[-1]
        shapes = {"mean": (columns,), "scale": (columns,)}
        shapes |= {"kernel": (columns, self.units), "bias": (self.units,)}
        self.mean, self.scale, self.kernel, self.bias = (
            self.add_weight(shape=shape, initializer="ones", trainable=False, name=name)
            for name, shape in shapes.items()
        )

    def call(self, inputs):
        wide = widest_dtype()
        centred = ops.cast(inputs, wide) - ops.cast(self.mean, wide)
        columns = ops.clip(centred / ops.cast(self.scale, wide), -self.clip, self.clip)
        return ops.matmul(ops.cast(columns, "float32"), self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "clip": self.clip}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class BoostedTrees(layers.Layer):
    """Maps columns (batch, columns) to logits (batch, classes): a base and the sum of leaves.

    Row x goes left at a node where x[feature] <= threshold, or where x[feature] is NaN and
    `missing_left` is 1. It is not trained here: its weights come from a fit, by `set_weights`, in
    this order, each but the last (trees, nodes) or, with both children, (trees, nodes, 2):

        feature, threshold, missing_left, children (left, right), value; base (classes,)

    Children are numbers of nodes, counted through all trees; a leaf is its own child. The trees of
    a round stand side by side, one for each class.

    Args:
        rounds: of boosting; there are rounds * classes trees.
        classes: number of classes.
        nodes: of the largest tree; smaller ones are filled up.
        depth: levels below the root of the deepest tree.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, rounds: int, classes: int, nodes: int, depth: int, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.rounds, self.classes = int(rounds), int(classes)
        self.nodes, self.depth = int(nodes), int(depth)

    def build(self, input_shape):
        table = (self.rounds * self.classes, self.nodes)
        kinds: dict[str, tuple[tuple[int, ...], str]] = {
            "feature": (table, "int"),
            "threshold": (table, "float32"),
            "missing_left": (table, "int"),
            "children": ((*table, 2), "int"),
            "value": (table, "float32"),
            "base": ((self.classes,), "float32"),
        }
        # "int" is Keras's word for the type of integers that variables of a backend may have on
        # every device.
        (
            self.feature,
            self.threshold,
            self.missing_left,
            self.children,
            self.value,
            self.base,
        ) = (
            self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                name=name,
            )
            for name, (shape, dtype) in kinds.items()
        )
        self.columns = int(input_shape[-1])

    def call(self, inputs):
        arrays = self.feature, self.threshold, self.missing_left, self.children, self.value
        feature, threshold, missing_left, children, value = (
            ops.reshape(part, (-1,)) for part in arrays
        )
        roots = self.nodes * np.arange(self.rounds * self.classes)
        # The root of every tree for every row: a sum, since the batch size is not known.
        node = ops.cast(ops.zeros_like(inputs[:, :1]), children.dtype)
        node = node + ops.cast(roots, children.dtype)  # (batch, trees)
        for _level in range(self.depth):
            values = ops.take_along_axis(inputs, ops.take(feature, node), axis=1)
            missing = ops.logical_and(ops.isnan(values), ops.take(missing_left, node) > 0)
            left = ops.logical_or(values <= ops.take(threshold, node), missing)
            right = ops.cast(ops.logical_not(left), children.dtype)
            node = ops.take(children, 2 * node + right)
        leaves = ops.cast(ops.take(value, node), widest_dtype())
        leaves = ops.reshape(leaves, (-1, self.rounds, self.classes))
        sums = ops.sum(leaves, axis=1) + ops.cast(self.base, leaves.dtype)
        return ops.cast(sums, "float32")

    def load_own_variables(self, store):
        """Loads the arrays; raises ValueError where they would point beside themselves."""
        super().load_own_variables(store)
        num_nodes = self.rounds * self.classes * self.nodes
        for name, most in [("feature", self.columns), ("children", num_nodes)]:
            numbers = ops.convert_to_numpy(getattr(self, name))
            if numbers.min() < 0 or numbers.max() >= most:
                raise ValueError(f"{name} of trees must be 0 to {most - 1}")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        sizes = {"rounds": self.rounds, "classes": self.classes}
        sizes |= {"nodes": self.nodes, "depth": self.depth}
        return {**super().get_config(), **sizes}
