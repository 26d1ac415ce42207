"""From raw bars to probabilities with a trained model: exactly the features of its training."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from data.bars import check_bars
from data.batches import WindowSequence
from data.errors import InputError
from data.features import WARM_UP_BARS, compute_features, feature_names
from data.labels import CLASS_NAMES
from data.windows import bar_interval_ns, ends_within, segment_bounds
from models.deployable import contract_of

_INTERVAL_TOLERANCE = 0.01  # relative


def classify(
    model, bars: pd.DataFrame, *, note: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Returns the probabilities of every bar that ends a window.

    Args:
        model: a deployable model, as `load_classifier` returns it.
        bars: of any number of symbols: timestamp, symbol, open, high, low, close, volume.
        note: called with a sentence for each symbol that is too short for one window.

    Returns:
        one row for each window, by symbol, then time: timestamp (of the window's last bar),
        symbol, p_sell, p_hold, p_buy.

    Raises:
        InputError: where the bars are faulty, or their interval, the features or the class order
            are not those of the model's training.
    """
    contract = contract_of(model)
    bars = check_bars(bars)
    _check_contract(contract, bars)
    parts = []
    for symbol, own in bars.groupby("symbol", sort=True, observed=True):
        part = _classify_symbol(model, own.reset_index(drop=True), contract)
        if part is None:
            if note is not None:
                note(f"symbol {symbol} is skipped: {len(own)} bars make no window")
            continue
        part.insert(1, "symbol", str(symbol))
        parts.append(part)
    if not parts:
        needed = WARM_UP_BARS + contract["sequence_length"]
        raise InputError(
            f"a window needs {needed} bars of a symbol without a hole ({WARM_UP_BARS} of "
            f"warm-up); no symbol has them"
        )
    return pd.concat(parts, ignore_index=True)


def _check_contract(contract: dict, bars: pd.DataFrame) -> None:
    if list(contract["class_names"]) != list(CLASS_NAMES):
        raise InputError(
            f"the model's classes must be {list(CLASS_NAMES)}, got {contract['class_names']}"
        )
    names = feature_names(contract["intraday"])
    if list(contract["feature_names"]) != list(names):
        raise InputError(
            "the model's features must be those of this version of the project; it has "
            f"{contract['feature_names']}"
        )
    expected = contract["interval_seconds"]
    interval = np.median(
        [
            bar_interval_ns(own["timestamp"].to_numpy("datetime64[ns]")) / 1e9
            for _, own in bars.groupby("symbol", observed=True)
            if len(own) > 1
        ]
        or [expected]
    )
    if abs(interval - expected) > _INTERVAL_TOLERANCE * expected:
        raise InputError(
            f"the model was trained on bars every {expected:g} seconds, got bars every "
            f"{interval:g} seconds"
        )


def _classify_symbol(model, bars: pd.DataFrame, contract: dict) -> pd.DataFrame | None:
    length = contract["sequence_length"]
    if len(bars) < WARM_UP_BARS + length:
        return None
    features = compute_features(bars, intraday=contract["intraday"]).to_numpy()[WARM_UP_BARS:]
    # Holes are looked for before the warm-up is cut off, as in training: they depend on all bars.
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    bounds = segment_bounds(np.zeros(len(bars), np.int16), times, contract["max_gap_bars"])
    bounds = np.unique(np.maximum(bounds - WARM_UP_BARS, 0))
    ends = ends_within(bounds, length, 0)
    if not len(ends):
        return None
    windows = WindowSequence(features, ends, sequence_length=length, batch_size=1024)
    probabilities = model.predict(windows, verbose=0)
    columns = {f"p_{name.lower()}": probabilities[:, i] for i, name in enumerate(CLASS_NAMES)}
    times = pd.to_datetime(times[WARM_UP_BARS:][ends], utc=True)
    return pd.DataFrame({"timestamp": times, **columns})
