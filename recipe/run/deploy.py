"""From a trained classifier to the model that is shipped: calibrated, with its contract."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from core.calls import LARGEST_LIFT
from core.priors import fit_temperature, tempered
from data.bars.sessions import GAP_RULE
from data.batches.datasets import WindowSequence
from data.market.labels import CLASS_NAMES
from data.market.market import Market, living_symbols
from data.market.training_range import training_ranges
from data.market.windows import spans
from evaluation.judge import blocks_of
from models.calibration import RestoreProbabilities
from models.deployable import log_mean_of, make_deployable
from models.prediction import AT_ONCE, predict_windows
from recipe.run.folder import versions
from recipe.run.network import focal_settings


def deploy(assembly, *, ce_weight: float) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the deployable model of a classifier, and the settings of its calibration.

    The temperature is fitted on the validation windows; the test windows are not looked at.

    Args:
        assembly: a `recipe.run.fold.Assembly` whose classifier has the weights to ship.
        ce_weight: weight of cross-entropy that the loss had when they were chosen.
    """
    market, fold = assembly.market, assembly.fold
    ends = fold.validation
    logits = predict_windows(assembly.window_form, window_sequence(market, ends))
    settings, _ = calibrate(assembly, logits, ends, ce_weight=ce_weight)
    restoration = RestoreProbabilities(**settings, name="restoration")
    contract = _contract(assembly, settings)
    deployable = make_deployable(assembly.window_form, restoration, contract)
    deployable.jit_compile = assembly.flags.JIT_COMPILE
    return deployable, settings


def deploy_mean(assembly, members: Sequence) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the deployable model of several trained members, and what is not of one alone.

    It gives the mean of the members' restored probabilities. Their own temperatures are left out:
    one is fitted for the mean, on the validation windows.

    Args:
        assembly: the `recipe.run.fold.Assembly` of one of them.
        members: a `recipe.run.fold.TrainedMember` each.
    """
    market, fold = assembly.market, assembly.fold
    restorations = [
        {name: v for name, v in member.calibration.items() if not name.startswith("temperature")}
        for member in members
    ]
    mean = log_mean_of(
        [
            (member.classifier, RestoreProbabilities(**settings, name="restoration"))
            for member, settings in zip(members, restorations, strict=True)
        ]
    )
    ends, settings = fold.validation, {}
    if assembly.flags.RESTORE_TEMPERATURE:
        log_p = predict_windows(mean, window_sequence(market, ends))
        settings = _temperature(assembly, log_p, ends)
    contract = _contract(assembly, settings | {"members": restorations})
    temperature = RestoreProbabilities(**settings, name="temperature")
    deployable = make_deployable(mean, temperature, contract)
    deployable.jit_compile = assembly.flags.JIT_COMPILE
    return deployable, settings


def calibrate(
    assembly, logits: np.ndarray, ends: np.ndarray, *, ce_weight: float
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the settings of the restoration, and the logarithms of the restored probabilities.

    Args:
        assembly: a `recipe.run.fold.Assembly`.
        logits: of validation windows, by which the temperature is fitted, (windows, classes).
        ends: end rows of these windows, (windows,).
        ce_weight: weight of cross-entropy that the loss had.
    """
    flags, settings = assembly.flags, {}
    if flags.RESTORE_LOSS:
        settings |= focal_settings(flags) | {"ce_weight": ce_weight}
    if flags.RESTORE_PRIOR:
        settings |= {
            "training_prior": assembly.class_prior.tolist(),
            # What the stream would have shown without quotas: of its symbols' weights.
            "deploy_prior": assembly.batches.plan.natural_prior.tolist(),
        }
    restored = RestoreProbabilities(**settings)(logits)
    log_p = np.log(np.maximum(np.asarray(keras.ops.convert_to_numpy(restored)), 1e-30))
    if flags.RESTORE_TEMPERATURE:
        settings |= _temperature(assembly, log_p, ends)
        log_p = tempered(log_p, settings["temperature_prior"], settings["temperature"])
    return settings, log_p


def _temperature(assembly, log_p: np.ndarray, ends: np.ndarray) -> dict[str, Any]:
    """Returns the temperature about the training period's prior that these windows speak for."""
    market, fold, prior = assembly.market, assembly.fold, assembly.natural_prior
    blocks = blocks_of(market, ends)
    temperature = fit_temperature(log_p, fold.labels[ends], prior, blocks)
    return {"temperature": temperature, "temperature_prior": prior.tolist()}


def window_sequence(market: Market, ends: np.ndarray) -> WindowSequence:
    """Returns the windows with these end rows, in order, to validate or predict them."""
    return WindowSequence(
        market.features,
        ends,
        sequence_length=market.sequence_length,
        batch_size=AT_ONCE,
    )


def _contract(assembly, settings: dict[str, Any]) -> dict[str, Any]:
    flags, market, fold = assembly.flags, assembly.market, assembly.fold
    first, last = spans(fold.train, market.timestamps, flags.SEQUENCE_LENGTH, flags.FUTURE_WINDOW)
    return {
        "class_names": list(CLASS_NAMES),
        "feature_names": list(market.feature_names),
        "features": market.settings.features.as_dict(),
        "warm_up_bars": market.settings.warm_up_bars,
        "sequence_length": flags.SEQUENCE_LENGTH,
        "max_gap_bars": flags.MAX_GAP_BARS,
        "gaps": GAP_RULE,
        "intraday": bool(market.intraday),
        "interval_seconds": market.interval_seconds,
        "label": {
            "method": flags.LABEL_METHOD,
            "reference": flags.LABEL_REFERENCE,
            "future_window_bars": flags.FUTURE_WINDOW,
            "threshold": fold.threshold,
        },
        "priors": {
            "training_stream": assembly.class_prior.tolist(),
            "training_period": assembly.natural_prior.tolist(),
        },
        "call": {"rule": LARGEST_LIFT, "prior": assembly.natural_prior.tolist()},
        "restoration": settings,
        "temperature": settings.get("temperature", 1.0),
        "training_ranges": training_ranges(market, fold),
        "training_period": [str(first.min())[:19], str(last.max())[:19]],
        "symbols": list(market.symbol_names),
        "universe": living_symbols(market),
        "versions": versions(),
    }
