"""From a trained classifier to the model that is shipped: calibrated, with its contract."""

from typing import Any

import keras
import numpy as np

from data.batches import WindowSequence
from data.features import WARM_UP_BARS
from data.labels import CLASS_NAMES
from data.market import Market
from data.windows import spans
from models.calibration import RestoreProbabilities, fit_temperature
from models.deployable import make_deployable
from recipe.network import focal_settings
from recipe.run_folder import versions

_PREDICTED_AT_ONCE = 1024  # windows


def deploy(assembly, *, ce_weight: float) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the deployable model of a classifier, and the settings of its calibration.

    The temperature is fitted on the validation windows; the test windows are not looked at.

    Args:
        assembly: a `recipe.fold.Assembly` whose classifier has the weights to ship.
        ce_weight: weight of cross-entropy that the loss had when they were chosen.
    """
    flags, market, fold = assembly.flags, assembly.market, assembly.fold
    ends = fold.validation
    logits = assembly.classifier.predict(window_sequence(market, ends), verbose=0)
    labels = fold.labels[ends]
    settings: dict[str, Any] = {}
    if flags.RESTORE_LOSS:
        settings |= focal_settings(flags) | {"ce_weight": ce_weight}
    if flags.RESTORE_PRIOR:
        settings |= {
            "training_prior": assembly.class_prior.tolist(),
            "deploy_prior": assembly.natural_prior.tolist(),
        }
    if flags.RESTORE_TEMPERATURE:
        restored = RestoreProbabilities(**settings)(logits)
        restored = np.asarray(keras.ops.convert_to_numpy(restored))
        settings["temperature"] = fit_temperature(np.log(np.maximum(restored, 1e-30)), labels)
    restoration = RestoreProbabilities(**settings, name="restoration")
    contract = _contract(assembly, settings)
    deployable = make_deployable(assembly.classifier, restoration, contract)
    return deployable, settings


def window_sequence(market: Market, ends: np.ndarray) -> WindowSequence:
    """Returns the windows with these end rows, in order, to validate or predict them."""
    return WindowSequence(
        market.features,
        ends,
        sequence_length=market.sequence_length,
        batch_size=_PREDICTED_AT_ONCE,
    )


def _contract(assembly, settings: dict[str, Any]) -> dict[str, Any]:
    flags, market, fold = assembly.flags, assembly.market, assembly.fold
    first, last = spans(fold.train, market.timestamps, flags.SEQUENCE_LENGTH, flags.FUTURE_WINDOW)
    return {
        "class_names": list(CLASS_NAMES),
        "feature_names": list(market.feature_names),
        "warm_up_bars": WARM_UP_BARS,
        "sequence_length": flags.SEQUENCE_LENGTH,
        "max_gap_bars": flags.MAX_GAP_BARS,
        "intraday": bool(market.intraday),
        "interval_seconds": market.interval_seconds,
        "label": {
            "method": flags.LABEL_METHOD,
            "future_window_bars": flags.FUTURE_WINDOW,
            "threshold": fold.threshold,
        },
        "priors": {
            "training_stream": assembly.class_prior.tolist(),
            "training_period": assembly.natural_prior.tolist(),
        },
        "restoration": settings,
        "temperature": settings.get("temperature", 1.0),
        "training_period": [str(first.min())[:19], str(last.max())[:19]],
        "symbols": list(market.symbol_names),
        "versions": versions(),
    }
