"""Turns trained classifiers into the model that is shipped: calibrated, with its contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from core.calls import LARGEST_LIFT
from core.contract import Contract
from data.bars.sessions import GAP_RULE
from data.batches.datasets import WindowSequence
from data.market.labels import CLASS_NAMES
from data.market.market import Market, living_symbols
from data.market.training_range import training_ranges
from data.market.windows import spans
from evaluation.baselines.fold import Learner
from evaluation.blend.arrays import line_arrays, tree_arrays
from evaluation.blend.weights import blend_weights
from evaluation.judge import blocks_of
from models.calibration import RestoreProbabilities
from models.deployable import (
    contract_of,
    line_layer,
    log_mean_of,
    log_of_blend,
    make_deployable,
    summary_columns,
    trees_layer,
    without_contract,
)
from models.prediction import AT_ONCE, Batches, predict_windows
from recipe.run.folder import versions
from recipe.run.training import Training


@dataclass(frozen=True)
class Deployed:
    """A deployable model with its probabilities.

    Attributes:
        model: from raw windows to probabilities.
        calibration: arguments of its restoration, without those of single members.
        probabilities: of the validation and the test windows, (windows, classes) by split.
        parts: the model up to its restoration, and the restoration.
    """

    model: keras.Model
    calibration: dict[str, Any]
    probabilities: dict[str, np.ndarray]
    parts: tuple[keras.Model, keras.Model]

    def answer(self, windows: Batches) -> np.ndarray:
        """Returns the model's probabilities (windows, classes), from its compiled parts."""
        network, restoration = self.parts
        return predict_windows(restoration, predict_windows(network, windows))


def deploy(training: Training, epoch: int) -> Deployed:
    """Returns the deployable model of a classifier.

    The temperature is fitted on the validation windows; the test windows play no part.

    Args:
        training: its window form has the weights to ship.
        epoch: of these weights.
    """
    logits = _said(training, training.window_form)
    labels, blocks = _labels_and_blocks(training)
    calibration, _ = training.restoration.fitted(epoch, logits["validation"], labels, blocks)
    contract = _contract(training, calibration)
    return _deployed(training, training.window_form, logits, calibration, contract, "restoration")


def deploy_mean(
    training: Training, members: Sequence[tuple[keras.Model, dict[str, Any]]]
) -> Deployed:
    """Returns the deployable model of several trained members.

    Its output is the mean of the members' restored probabilities, without their own temperatures:
    one is fitted for the mean, on the validation windows.

    Args:
        training: of one member.
        members: the classifier of each, from windows to logits, and its calibration.
    """
    restorations = [
        {
            name: value
            for name, value in calibration_of_member.items()
            if not name.startswith("temperature")
        }
        for _, calibration_of_member in members
    ]
    mean = log_mean_of(
        [
            (classifier, RestoreProbabilities(**arguments, name="restoration"))
            for (classifier, _), arguments in zip(members, restorations, strict=True)
        ]
    )
    mean.jit_compile = training.settings.training.jit_compile
    log_p, (labels, blocks) = _said(training, mean), _labels_and_blocks(training)
    calibration = training.restoration.temperature(log_p["validation"], labels, blocks)
    contract = _contract(training, calibration | {"members": restorations})
    return _deployed(training, mean, log_p, calibration, contract, "temperature")


def deploy_blend(
    training: Training, network: Deployed, learners: Mapping[str, Learner]
) -> tuple[Deployed, dict[str, float]]:
    """Returns the deployable model of a network and baselines, and the weight of each by name.

    Its output is the weighted mean of the members' own probabilities, at a temperature for the
    mean. Weights and temperature are fitted on the validation windows, unless chosen before.

    Args:
        training: of the network.
        network: its deployable model.
        learners: the baselines to blend: "boosted trees", "logistic regression" or both.
    """
    labels, blocks = _labels_and_blocks(training)
    restoration, chosen = training.restoration, training.chosen and training.chosen.blend
    if chosen:
        weights = list(chosen.weights.values())
        restoration = replace(restoration, known_temperature=chosen.temperature)
    else:
        answers = [network.probabilities["validation"]]
        answers += [learner.probabilities["validation"] for learner in learners.values()]
        at_label = np.stack([shares[np.arange(len(labels)), labels] for shares in answers], axis=1)
        weights = blend_weights(at_label, blocks).tolist()
    columns = summary_columns(len(training.market.feature_names))
    fits = [_as_layers(learner, columns) for learner in learners.values()]
    blend = log_of_blend(without_contract(network.model), fits, weights)
    blend.jit_compile = training.settings.training.jit_compile
    log_p = _said(training, blend)
    calibration = restoration.temperature(log_p["validation"], labels, blocks)
    shares = dict(zip(("network", *learners), weights, strict=True))
    alone = contract_of(network.model)["restoration"]
    contract = _contract(training, calibration | {"network": alone})
    contract["blend"] = shares
    name = "temperature_of_blend"
    return _deployed(training, blend, log_p, calibration, contract, name), shares


def _as_layers(learner: Learner, columns: int) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Returns a baseline as two layers: from window summaries to logits, and to probabilities."""
    fitted = learner.fitted
    if fitted.rounds is None:
        layer = line_layer(line_arrays(fitted), columns)
    else:
        layer = trees_layer(tree_arrays(fitted), columns)
    restoration = RestoreProbabilities(
        temperature=fitted.temperature,
        temperature_prior=fitted.prior.tolist(),
        name=f"{layer.name}_restoration",
    )
    return layer, restoration


def window_sequence(market: Market, ends: np.ndarray) -> WindowSequence:
    """Returns the windows with these end rows, in order, for validation or prediction."""
    return WindowSequence(
        market.features,
        ends,
        sequence_length=market.sequence_length,
        batch_size=AT_ONCE,
    )


def _said(training: Training, model: keras.Model) -> dict[str, np.ndarray]:
    """Returns a model's outputs for validation and test windows, (windows, classes) by split."""
    ends = {"validation": training.fold.validation, "test": training.fold.test}
    return {
        split: training.predict(model, window_sequence(training.market, rows))
        for split, rows in ends.items()
    }


def _deployed(
    training: Training,
    network: keras.Model,
    said: Mapping[str, np.ndarray],
    calibration: dict[str, Any],
    contract: Contract,
    name: str,
) -> Deployed:
    """Returns the deployable model of a network, with probabilities restored from its outputs.

    Args:
        training: of the network.
        network: from windows to the input of the restoration.
        said: its outputs, as `_said` returns them.
        calibration: arguments of the restoration.
        contract: of the model.
        name: of the restoration.
    """
    model = make_deployable(network, RestoreProbabilities(**calibration, name=name), contract)
    outputs = keras.Input(network.outputs[0].shape[1:], dtype=network.outputs[0].dtype)
    restoration = keras.Model(outputs, RestoreProbabilities(**calibration)(outputs))
    for each in (model, restoration):
        each.jit_compile = training.settings.training.jit_compile
    probabilities = {split: training.predict(restoration, own) for split, own in said.items()}
    return Deployed(model, calibration, probabilities, (network, restoration))


def _labels_and_blocks(training: Training) -> tuple[np.ndarray, np.ndarray]:
    fold = training.fold
    return fold.labels[fold.validation], blocks_of(training.market, fold.validation)


def _contract(training: Training, restoration: dict[str, Any]) -> Contract:
    market, fold = training.market, training.fold
    length, horizon = market.sequence_length, market.future_window
    first, last = spans(fold.train, market.timestamps, length, horizon)
    prior = training.restoration.natural_prior.tolist()
    contract: Contract = {
        "class_names": list(CLASS_NAMES),
        "feature_names": list(market.feature_names),
        "features": market.settings.features.as_dict(),
        "warm_up_bars": market.settings.warm_up_bars,
        "sequence_length": length,
        "max_gap_bars": market.settings.max_gap_bars,
        "gaps": GAP_RULE,
        "intraday": bool(market.intraday),
        "interval_seconds": market.interval_seconds,
        "label": {
            "method": market.label_method,
            "reference": market.settings.label_reference,
            "future_window_bars": horizon,
            "threshold": fold.threshold,
        },
        "priors": {
            "training_stream": training.restoration.training_prior.tolist(),
            "training_period": prior,
        },
        "call": {"rule": LARGEST_LIFT, "prior": prior},
        "restoration": restoration,
        "temperature": restoration.get("temperature", 1.0),
        "training_ranges": training_ranges(market, fold),
        "training_period": [str(first.min())[:19], str(last.max())[:19]],
        "symbols": list(market.symbol_names),
        "universe": living_symbols(market),
        "versions": versions(),
    }
    if training.chosen:
        again = {"verdict": "of the recipe, not of this model, which was trained on all bars"}
        contract["refit"] = again
    return contract
