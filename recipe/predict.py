"""From raw bars to probabilities with a trained model: exactly the rows of its training."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from data.bars import check_bars
from data.batches import WindowSequence
from data.errors import InputError
from data.features import WARM_UP_BARS, feature_names
from data.labels import CLASS_NAMES
from data.rows import fill_rows
from data.windows import bar_interval_ns, ends_within, symbol_bounds
from models.deployable import contract_of
from recipe.familiar import unfamiliar_shares, warnings

_INTERVAL_TOLERANCE = 0.01  # relative
_PREDICTED_AT_ONCE = 1024  # windows
Note = Callable[[str], None]


def classify(model, bars: pd.DataFrame, *, note: Note | None = None) -> pd.DataFrame:
    """Returns the probabilities of every bar that ends a window.

    Args:
        model: a deployable model, as `load_classifier` returns it.
        bars: of any number of symbols: timestamp, symbol, open, high, low, close, volume.
        note: called with a sentence for each symbol that has no window, and with one where many
            windows are unfamiliar or the model is old against its training period.

    Returns:
        one row for each window, by symbol, then time: timestamp (of the window's last bar),
        symbol, p_sell, p_hold, p_buy, unfamiliar (share of the window's values outside the 0.1 %
        and 99.9 % quantiles of the training; NaN for a model that was saved without them).

    Raises:
        InputError: where the bars are faulty, or their interval, the features or the class order
            are not those of the model's training.
    """
    return _classify(model, bars, note, newest_only=False)


def classify_latest(model, bars: pd.DataFrame, *, note: Note | None = None) -> pd.DataFrame:
    """Returns the probabilities of the newest bar of every symbol, for live use.

    The same as the last row of each symbol in the table of `classify`, but makes only the features
    of one window. A symbol whose newest bar ends no window (a hole in time lies in it) has no row.

    Args:
        model: as `classify` takes it.
        bars: as `classify` takes them; all that there are: holes in time are told from the
            trading hours that the symbol's bars show.
        note: called with a sentence for each symbol that has no row, and as by `classify`.

    Returns:
        one row for each symbol, with the columns of `classify`.

    Raises:
        InputError: see `classify`.
    """
    return _classify(model, bars, note, newest_only=True)


def _classify(model, bars: pd.DataFrame, note: Note | None, *, newest_only: bool) -> pd.DataFrame:
    contract = contract_of(model)
    bars = check_bars(bars)
    _check_contract(contract, bars)
    length, names = contract["sequence_length"], bars["symbol"].cat.categories
    num_bars = np.bincount(bars["symbol"].cat.codes, minlength=len(names))
    num_rows = np.full(len(names), length) if newest_only else num_bars - WARM_UP_BARS
    num_rows[num_bars < WARM_UP_BARS + length] = 0
    features, timestamps, bounds = _rows(contract, bars, num_rows)
    ends = ends_within(bounds, length, 0)
    symbols = np.searchsorted(np.cumsum(num_rows), ends, side="right")
    for code in np.setdiff1d(np.arange(len(names)), symbols):
        if note is not None:
            what = "its newest bar ends" if newest_only else "they make"
            note(f"symbol {names[code]} is skipped: of its {num_bars[code]} bars {what} no window")
    if not len(ends):
        raise InputError(
            f"a window needs {WARM_UP_BARS + length} bars of a symbol without a hole "
            f"({WARM_UP_BARS} of warm-up); no symbol has them"
        )
    windows = WindowSequence(features, ends, sequence_length=length, batch_size=_PREDICTED_AT_ONCE)
    probabilities = model.predict(windows, verbose=0)
    columns = {f"p_{name.lower()}": probabilities[:, i] for i, name in enumerate(CLASS_NAMES)}
    times = pd.to_datetime(timestamps[ends], utc=True)
    table = pd.DataFrame({"timestamp": times, "symbol": names.to_numpy()[symbols], **columns})
    table["unfamiliar"] = unfamiliar_shares(contract, features, ends)
    if note is not None:
        for warning in warnings(contract, table):
            note(warning)
    return table


def _rows(contract: dict, bars: pd.DataFrame, num_rows: np.ndarray):
    """Returns features (rows, features), timestamps (rows,) and the bounds of the segments.

    Args:
        contract: of the model.
        bars: checked, of all symbols.
        num_rows: how many of the last rows of each symbol to make, (symbols,).
    """
    stops = np.cumsum(num_rows)
    features = np.empty((stops[-1], len(contract["feature_names"])), np.float32)
    timestamps, bounds = np.empty(stops[-1], "datetime64[ns]"), [np.zeros(1, np.int64)]
    places = symbol_bounds(bars["symbol"].cat.codes.to_numpy())
    for first, last, count, stop in zip(places[:-1], places[1:], num_rows, stops, strict=True):
        if count:
            part = slice(stop - count, stop)
            segments = fill_rows(
                bars.iloc[first:last],
                features[part],
                timestamps[part],
                intraday=contract["intraday"],
                max_gap_bars=contract["max_gap_bars"],
            )
            bounds.append(segments[1:] + part.start)
    return features, timestamps, np.concatenate(bounds)


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
