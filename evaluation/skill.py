"""Skill by calendar month and by symbol: does it hold, or was it one lucky spell?

The intervals are those of the verdict: a part of the test windows is judged as the whole is. A part
that holds too few blocks of time says nothing certain about itself, and gets no interval.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.answers import Answers, tables
from evaluation.verdict import SKILLS, time_blocks, with_interval

FEWEST_BLOCKS = 3  # of a part, for an interval
MOST_SYMBOLS = 40  # those with the most windows


def skill_by_part(
    timestamps: np.ndarray,
    symbols: np.ndarray,
    symbol_names: Sequence[str],
    labels: np.ndarray,
    model: Answers,
    *,
    block_seconds: float,
) -> dict[str, list[dict[str, Any]]]:
    """Returns the skill in each calendar month, each year and each symbol, with intervals.

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,).
        symbols: positions in `symbol_names`, (samples,).
        symbol_names: by code.
        labels: class codes, (samples,).
        model: what it says of the windows.
        block_seconds: length of a block; see `verdict`.

    Returns:
        `by_month` and `by_year` in the order of time, `by_symbol` by falling number of windows (at
        most `MOST_SYMBOLS`): lists of name, windows, direction and direction_interval, movement
        and movement_interval (intervals are None with fewer than `FEWEST_BLOCKS` blocks), and
        num_blocks.
    """
    timestamps = np.asarray(timestamps, "datetime64[ns]")

    def judged(name: str, rows: np.ndarray) -> dict[str, Any]:
        blocks = time_blocks(timestamps[rows], block_seconds)
        own = Answers(model.calls[rows], model.sides[rows])
        counted, num_blocks = tables(blocks, labels[rows], own), int(blocks.max()) + 1
        found: dict[str, Any] = {"name": name, "windows": len(rows)}
        for skill in SKILLS:
            value, reach = with_interval(counted[skill])
            found[skill] = value
            found[f"{skill}_interval"] = reach if num_blocks >= FEWEST_BLOCKS else None
        return found | {"num_blocks": num_blocks}

    def parts(keys: np.ndarray) -> list[dict[str, Any]]:
        return [judged(str(key), np.flatnonzero(keys == key)) for key in np.unique(keys)]

    codes, counts = np.unique(symbols, return_counts=True)
    largest = codes[np.argsort(-counts, kind="stable")][:MOST_SYMBOLS]
    return {
        "by_month": parts(timestamps.astype("datetime64[M]")),
        "by_year": parts(timestamps.astype("datetime64[Y]")),
        "by_symbol": [
            judged(symbol_names[c], np.flatnonzero(symbols == c)) for c in map(int, largest)
        ],
    }
