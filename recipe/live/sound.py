"""Which bars can be true: what is kept of an exchange's answers and of older files."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.bars.checks import LARGEST_PRICE, LARGEST_VOLUME, LEAST_PRICE

SLACK = 1e-9  # of the high, for prices that were rounded one by one


def sound(open_, high, low, close, volume) -> np.ndarray:
    """Returns which bars can be true: finite, in range, and not inverted.

    The ranges are those in which bars are read. The arrays, and the booleans that are returned,
    are `(bars,)`; NaN is never sound.
    """
    values = np.stack([np.asarray(part, np.float64) for part in (open_, high, low, close)])
    volume = np.asarray(volume, np.float64)
    open_, high, low, close = values
    found = ((values >= LEAST_PRICE) & (values <= LARGEST_PRICE)).all(axis=0)
    found &= (volume >= 0) & (volume <= LARGEST_VOLUME)
    slack = SLACK * np.where(found, high, 0)
    return (
        found
        & (np.maximum(open_, close) <= high + slack)
        & (np.minimum(open_, close) >= low - slack)
    )


def sound_rows(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Returns which of an exchange's rows (time, open, high, low, close, volume) can be true."""
    numbers = [[_number(cell) for cell in row[1:6]] for row in rows]
    return sound(*np.array(numbers, np.float64).reshape(-1, 5).T)


def _number(cell: Any) -> float:
    try:
        return math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan
