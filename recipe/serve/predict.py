"""Calls and probabilities of a trained model for raw bars, from the same rows as in training."""

import pandas as pd

from data.batches.datasets import WindowSequence
from models.deployable import contract_of
from models.prediction import AT_ONCE, predict_windows
from recipe.serve.inference import Note, inference_windows


def classify(
    model, bars: pd.DataFrame, *, universe: pd.DataFrame | None = None, note: Note | None = None
) -> pd.DataFrame:
    """Returns the call and the probabilities of every bar that ends a window.

        >>> model = load_classifier("runs/first/model.keras")
        >>> classify(model, read_bars("bars.parquet")).groupby("symbol")["call"].last()

    Args:
        model: a deployable model, as `load_classifier` returns it.
        bars: of any number of symbols: timestamp, symbol, open, high, low, close, volume, and the
            own columns of the training.
        universe: bars of other symbols of the training, which get no answer: a model with features
            beside the market needs at least half of its symbols.
        note: called with a sentence for each symbol without a window, and if many windows are
            unfamiliar, the bars are far past the model's training, or the model was saved before
            calls had a rule.

    Returns:
        one row for each window, by symbol, then time: timestamp (of the window's last bar),
        symbol, call (SELL, HOLD or BUY: the class whose probability gained most over its frequency
        in the training period, which need not be the most probable one), p_sell, p_hold, p_buy,
        unfamiliar (share of the window's values outside the 0.1 % and 99.9 % quantiles of the
        training; NaN for a model that was saved without them).

    Raises:
        InputError: if the bars are faulty, or their interval, the features or the class order
            differ from the model's training.
    """
    return _classify(model, bars, universe, note, newest_only=False)


def classify_latest(
    model, bars: pd.DataFrame, *, universe: pd.DataFrame | None = None, note: Note | None = None
) -> pd.DataFrame:
    """Returns call and probabilities of the newest bar of every symbol, for live use.

    The same as the last row of each symbol in the table of `classify`, but computes the features of
    one window only. A symbol whose newest window would have a hole in time has no row.

    Args:
        model: as for `classify`.
        bars: as for `classify`, with all history available: holes in time are told apart from
            closed hours by the trading hours in the symbol's bars.
        universe: as for `classify`.
        note: called with a sentence for each symbol without a row, and as by `classify`.

    Returns:
        one row for each symbol, with the columns of `classify`.

    Raises:
        InputError: see `classify`.
    """
    return _classify(model, bars, universe, note, newest_only=True)


def _classify(model, bars, universe, note: Note | None, *, newest_only: bool) -> pd.DataFrame:
    inference = inference_windows(
        contract_of(model), bars, newest_only=newest_only, universe=universe, note=note
    )
    windows = WindowSequence(
        inference.features,
        inference.ends,
        sequence_length=inference.sequence_length,
        batch_size=AT_ONCE,
    )
    return inference.table(predict_windows(model, windows))
