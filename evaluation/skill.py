"""Skill by calendar month and by symbol: does it hold, or was it one lucky spell?

The intervals are those of the verdict: a part of the test windows is judged as the whole is. A part
that holds too few blocks of time says nothing certain about itself, and gets no interval.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.labels import CLASS_NAMES
from evaluation.verdict import verdict

FEWEST_BLOCKS = 3  # of a part, for an interval
MOST_SYMBOLS = 40  # those with the most windows


def skill_by_part(
    timestamps: np.ndarray,
    symbols: np.ndarray,
    symbol_names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    block_seconds: float,
) -> dict[str, list[dict[str, Any]]]:
    """Returns the MCC of each calendar month, each year and each symbol, with intervals.

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,).
        symbols: positions in `symbol_names`, (samples,).
        symbol_names: by code.
        labels: class codes, (samples,).
        probabilities: (samples, 3).
        block_seconds: length of a block; see `verdict`.

    Returns:
        `by_month` and `by_year` in the order of time, `by_symbol` by falling number of windows (at
        most `MOST_SYMBOLS`): lists of name, windows, mcc, mcc_interval (None with fewer than
        `FEWEST_BLOCKS` blocks) and num_blocks.
    """
    timestamps = np.asarray(timestamps, "datetime64[ns]")

    def judged(name: str, rows: np.ndarray) -> dict[str, Any]:
        found = verdict(
            timestamps[rows],
            labels[rows],
            probabilities[rows],
            {"chance": np.full((len(rows), len(CLASS_NAMES)), 1 / len(CLASS_NAMES))},
            block_seconds=block_seconds,
        )
        enough = found["num_blocks"] >= FEWEST_BLOCKS
        return {
            "name": name,
            "windows": len(rows),
            "mcc": found["mcc"],
            "mcc_interval": found["mcc_interval"] if enough else None,
            "num_blocks": found["num_blocks"],
        }

    def parts(keys: np.ndarray) -> list[dict[str, Any]]:
        return [judged(str(key), np.flatnonzero(keys == key)) for key in np.unique(keys)]

    codes, counts = np.unique(symbols, return_counts=True)
    largest = codes[np.argsort(-counts, kind="stable")][:MOST_SYMBOLS]
    return {
        "by_month": parts(timestamps.astype("datetime64[M]")),
        "by_year": parts(timestamps.astype("datetime64[Y]")),
        "by_symbol": [judged(symbol_names[c], np.flatnonzero(symbols == c)) for c in largest],
    }
