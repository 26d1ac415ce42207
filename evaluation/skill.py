"""Skill by calendar month and by symbol: does it hold, or was it one lucky spell?

Intervals are computed as for the verdict: each part of the test windows is judged like the whole. A
part with too few blocks of time allows no conclusion, and gets no interval.
"""

from collections.abc import Sequence

import numpy as np

from evaluation.answers import Answers, tables
from evaluation.figures.scores import PartSkill, SkillByPart
from evaluation.verdict import time_blocks, with_interval

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
) -> SkillByPart:
    """Returns the skill in each calendar month, each year and each symbol, with intervals.

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,).
        symbols: positions in `symbol_names`, (samples,).
        symbol_names: by code.
        labels: class codes, (samples,).
        model: its answers for the windows.
        block_seconds: length of a block; see `verdict`.

    Returns:
        months and years in the order of time, symbols by falling number of windows (at most
        `MOST_SYMBOLS`); intervals are None with fewer than `FEWEST_BLOCKS` blocks.
    """
    timestamps = np.asarray(timestamps, "datetime64[ns]")

    def skill(name: str, rows: np.ndarray) -> PartSkill:
        blocks = time_blocks(timestamps[rows], block_seconds)
        part = Answers(model.calls[rows], model.sides[rows])
        counts, num_blocks = tables(blocks, labels[rows], part), int(blocks.max()) + 1
        enough = num_blocks >= FEWEST_BLOCKS
        direction, direction_interval = with_interval(counts["direction"])
        movement, movement_interval = with_interval(counts["movement"])
        return PartSkill(
            name=name,
            windows=len(rows),
            direction=direction,
            direction_interval=direction_interval if enough else None,
            movement=movement,
            movement_interval=movement_interval if enough else None,
            num_blocks=num_blocks,
        )

    def parts(keys: np.ndarray) -> list[PartSkill]:
        return [skill(str(key), np.flatnonzero(keys == key)) for key in np.unique(keys)]

    codes, counts = np.unique(symbols, return_counts=True)
    largest = codes[np.argsort(-counts, kind="stable")][:MOST_SYMBOLS]
    return SkillByPart(
        by_month=parts(timestamps.astype("datetime64[M]")),
        by_year=parts(timestamps.astype("datetime64[Y]")),
        by_symbol=[skill(symbol_names[c], np.flatnonzero(symbols == c)) for c in map(int, largest)],
    )
