"""The deployable model: raw windows in, probabilities out, all that it needs inside."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from keras import layers

from core import atomic
from core.contract import Contract
from core.errors import InputError, printable
from core.i18n import N_, _
from models.calibration import LogOfMean

# Importing the modules registers their classes, so that loading needs no custom_objects.
from models.layers import (  # noqa: F401
    head,
    mlstm_block,
    rolling_deviation,
    slstm_block,
)
from models.layers.fits import BoostedTrees, ClippedDense, WindowSummary
from models.model_file import Bounds, check_model_file, refused


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class ModelContract(layers.Layer):
    """Passes its input on and carries, in its config, what the model was trained on.

    Args:
        contract: a dictionary that JSON can hold: `class_names`, `feature_names`,
            `sequence_length`, `max_gap_bars`, `gaps` (the rule that tells holes in time), `label`,
            `interval_seconds`, `priors`, `call` (`rule`, "largest
            lift", and `prior`: the class of an answer is the one with the largest p / prior),
            `temperature`, `training_ranges`, `training_period`, `versions`.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(self, contract: Contract, **kwargs):
        super().__init__(**kwargs)
        self.contract = dict(contract)

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "contract": self.contract}


def make_deployable(
    classifier: keras.Model, restoration: layers.Layer, contract: Contract
) -> keras.Model:
    """Returns a model from raw windows (batch, time, features) to probabilities (batch, classes).

    Args:
        classifier: the trained model, windows to logits; its weights are shared, not copied.
        restoration: the layer from training logits to deployable probabilities.
        contract: see `ModelContract`.
    """
    outputs = ModelContract(contract, name="contract")(restoration(classifier.outputs[0]))
    return keras.Model(classifier.inputs, outputs, name="deployable")


def without_contract(model: keras.Model, name: str = "network") -> keras.Model:
    """Returns a deployable model as a part of another one; weights are shared, not copied."""
    return keras.Model(model.inputs, model.get_layer("contract").input, name=name)


def log_mean_of(members: Sequence[tuple[keras.Model, layers.Layer]]) -> keras.Model:
    """Returns a model from raw windows to the logarithm of the mean of its members' probabilities.

    Args:
        members: classifiers, windows to logits, each with the layer from its logits to its
            probabilities; weights are shared, not copied.
    """
    like = members[0][0].inputs[0]
    windows = keras.Input(batch_shape=like.shape, dtype=like.dtype, name=like.name)
    each = [
        keras.Model(classifier.inputs, restoration(classifier.outputs[0]), name=f"member_{number}")
        for number, (classifier, restoration) in enumerate(members)
    ]
    mean = LogOfMean(name="log_of_mean")([member(windows) for member in each])
    return keras.Model(windows, mean)


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
    probabilities = [restoration(fit(summary)) for fit, restoration in fits]
    blend = LogOfMean(weights, name="log_of_blend")([network(windows), *probabilities])
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


def networks_in(model: keras.Model) -> list[keras.Model]:
    """Returns the classifiers inside a deployable model: itself, or its members in their order."""
    if any(layer.name == "classifier" for layer in model.layers):
        return [model]
    inside = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [network for layer in inside for network in networks_in(layer)]


def save_model(model: keras.Model, path: str | Path) -> None:
    """Writes the model to `path` (.keras) at once or not at all."""
    atomic.write(Path(path), model.save)


def contract_of(model: keras.Model) -> Contract:
    """Returns what a deployable model was trained on.

    Raises:
        InputError: if the model carries no contract.
    """
    for layer in model.layers:
        if isinstance(layer, ModelContract):
            return cast(Contract, layer.contract)
    raise InputError(
        "the model must be a model.keras of this project, got {name!r}", name=model.name
    )


def load_classifier(
    path: str | Path,
    *,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    bounds: Bounds | None = None,
) -> keras.Model:
    """Returns the deployable model in `path`, loaded in Keras's safe mode and uncompiled.

    Args:
        path: a `model.keras` of a run folder.
        feature_names: if given, the features that the caller will feed, in order.
        class_names: if given, the class order that the caller expects.

        bounds: of its network; None: see `Bounds`.

    Raises:
        InputError: if the file is missing, no such model, broken or beyond the bounds, or carries
            other names.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise InputError("no such model file: {path}", path=path)
    contract = check_model_file(path, bounds or Bounds())
    with refused(printable(str(path), 200), layers=True):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    _compare(N_("features"), feature_names, contract["feature_names"], path)
    _compare(N_("classes"), class_names, contract["class_names"], path)
    return model


def _compare(what: str, expected: Sequence[str] | None, stored: Sequence[str], path) -> None:
    if expected is None or list(expected) == list(stored):
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, stored, strict=False)) if a != b),
        min(len(expected), len(stored)),
    )
    here = expected[place] if place < len(expected) else _("nothing")
    there = stored[place] if place < len(stored) else _("nothing")
    raise InputError(
        "the {what} must be those of {path}, in its order: at place {place} it has {there}, "
        "got {here}",
        what=_(what),
        path=path,
        place=place,
        there=there,
        here=here,
    )
