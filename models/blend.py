"""Fits of other kinds as layers beside the network, and one model of all of them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from models.calibration import LogOfMean
from models.layers.boosted_trees import BoostedTrees
from models.layers.clipped_dense import ClippedDense
from models.layers.window_summary import WindowSummary


def log_of_blend(
    network: keras.Model,
    fits: Sequence[tuple[layers.Layer, layers.Layer]],
    weights: Sequence[float],
) -> keras.Model:
    """Returns a model from raw windows to the logarithm of a weighted mean of probabilities.

    Args:
        network: windows to probabilities; its weights are shared, not copied.
        fits: layers from window summaries to logits, each with the layer from its logits to its
            probabilities.
        weights: of the network, then of each fit, with the sum 1.
    """
    like = network.inputs[0]
    windows = keras.Input(batch_shape=like.shape, dtype=like.dtype, name=like.name)
    summary = WindowSummary(name="summary", dtype="float32")(windows)
    said = [restoration(fit(summary)) for fit, restoration in fits]
    blend = LogOfMean(weights, name="log_of_blend")([network(windows), *said])
    return keras.Model(windows, blend)


def summary_columns(num_features: int) -> int:
    """Returns the columns that fits see of windows with so many features."""
    return WindowSummary().compute_output_shape((None, None, num_features))[-1]


def trees_layer(trees: Any, columns: int, name: str = "trees") -> BoostedTrees:
    """Returns trees as a layer from columns (batch, columns) to logits (batch, classes).

    Args:
        trees: arrays feature, threshold, missing_left, children, value and base, as `BoostedTrees`
            has them, and the depth.
        columns: that the trees may ask for.
        name: of the layer.
    """
    classes = len(trees.base)
    num_trees, nodes = np.shape(trees.feature)
    layer = BoostedTrees(num_trees // classes, classes, nodes, trees.depth, name=name)
    layer.build((None, columns))
    arrays = [trees.feature, trees.threshold, trees.missing_left, trees.children, trees.value]
    layer.set_weights([*arrays, trees.base])
    return layer


def line_layer(line: Any, columns: int, name: str = "regression") -> ClippedDense:
    """Returns a linear model as a layer from columns (batch, columns) to logits (batch, classes).

    Args:
        line: arrays mean, scale, kernel and bias, as `ClippedDense` has them, and its clip.
        columns: of the input.
        name: of the layer.
    """
    layer = ClippedDense(len(line.bias), line.clip, name=name)
    layer.build((None, columns))
    layer.set_weights([line.mean, line.scale, line.kernel, line.bias])
    return layer
