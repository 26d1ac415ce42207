"""Starts a training at earlier weights: of another run, or of the fold before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from core.errors import InputError
from core.i18n import date
from data.market.market import Market
from data.market.windows import spans
from models.deployable import contract_of, load_classifier, networks_in
from models.training.callbacks.base import copy_of
from recipe.run.origin import differs

_LEAST_SPREAD = 1e-6  # of a feature that was not constant
Weights = Mapping[str, list[np.ndarray]]  # by the name of a layer


@dataclass(frozen=True)
class Start:
    """The weights that the members of a fold start at.

    Attributes:
        members: the trainable weights of each member, by the layer's name.
        mean: of each feature, as these networks scale their input, (features,).
        variance: likewise.
    """

    members: tuple[Weights, ...]
    mean: np.ndarray
    variance: np.ndarray

    def give(self, classifier: keras.Model, member: int) -> None:
        """Copies a member's weights into a fresh classifier.

        The classifier then gives that member's answers: the embedding makes up for a different
        scaling of the features.

        Args:
            classifier: of the same network, in either form.
            member: number of the member.
        """
        weights = dict(self.members[member % len(self.members)])
        kernel, bias = weights["embedding"]
        weights["embedding"] = self._rescaled(kernel, bias, *_scaling(classifier))
        for layer in classifier.layers:
            values = weights.get(layer.name, [])
            for variable, value in zip(layer.trainable_weights, values, strict=True):
                variable.assign(value)

    def _rescaled(
        self, kernel: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> list[np.ndarray]:
        """Returns the embedding, adapted to features scaled by another mean and variance."""
        before, now = np.sqrt(self.variance), np.sqrt(variance)
        known = before > _LEAST_SPREAD  # a constant was scaled to 0, so its weights learnt nothing
        divisor = np.where(known, before, 1.0)
        shift = np.where(known, (mean - self.mean) / divisor, 0.0)
        return [kernel * np.where(known, now / divisor, 1.0)[:, None], bias + shift @ kernel]


def start_at(models: list[keras.Model]) -> Start:
    """Returns a start at the weights of trained classifiers, one for each member."""
    members = tuple(
        {
            layer.name: [copy_of(variable) for variable in layer.trainable_weights]
            for layer in model.layers
            if layer.trainable_weights
        }
        for model in models
    )
    return Start(members, *_scaling(models[0]))


def start_of(path: Path, market: Market) -> Start:
    """Returns a start at the weights in a model file.

    Args:
        path: a model.keras.
        market: to train on.

    Raises:
        InputError: with a line for each difference between the market and that of the model's
            training, or if the model was trained on bars that would now test it.
    """
    model = load_classifier(path)
    contract = contract_of(model)
    label = contract.get("label") or {}
    pairs = {
        "features": (contract["feature_names"], list(market.feature_names)),
        "sequence_length": (contract["sequence_length"], market.sequence_length),
        "interval_seconds": (contract["interval_seconds"], market.interval_seconds),
        "label.method": (label.get("method"), market.label_method),
        "label.reference": (label.get("reference", "none"), market.settings.label_reference),
        "label.future_window_bars": (label.get("future_window_bars"), market.future_window),
    }
    faults = [differs(path, name, *both) for name, both in pairs.items() if both[0] != both[1]]
    if faults:
        raise InputError(faults)
    _check_later(path, contract.get("training_period"), market)
    return start_at(networks_in(model))


def _check_later(path: Path, period: Sequence[str] | None, market: Market) -> None:
    """Checks that validation and test come after everything the start was trained on."""
    if period is None:  # the model was saved before contracts had one
        return
    judging = np.concatenate([r for fold in market.folds for r in (fold.validation, fold.test)])
    begins, _ends = spans(judging, market.timestamps, market.sequence_length, market.future_window)
    if begins.min() <= np.datetime64(period[1]):
        raise InputError(
            "to start from {path}, validation and test must begin after its training, which "
            "ended {ended}; they begin {begin}: add newer bars, or lower VALIDATION_FRACTION "
            "and TEST_FRACTION",
            path=path,
            ended=date(period[1]),
            begin=date(str(begins.min())[:19]),
        )


def _scaling(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and variance that a network scales features by, (features,) each."""
    layer: Any = model.get_layer("scaling")
    arrays = (keras.ops.convert_to_numpy(each) for each in (layer.mean, layer.variance))
    mean, variance = (np.asarray(each, np.float64).ravel() for each in arrays)
    return mean, variance
