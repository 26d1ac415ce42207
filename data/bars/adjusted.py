"""Bars whose prices are adjusted for splits and dividends, and their volumes for splits."""

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import _
from data.bars.formats.faults import PRICES
from data.times.timestamps import read_times

# A step of adjusted / raw close is a split's if it is that far from 1: a dividend is less.
_LEAST_SPLIT = 1.09
_EXACT = 0.02  # relative; a split's ratio is one of small whole numbers
_LARGEST_PART = 20  # of the smaller part of a ratio such as 3:2


def scale(bars: dict[str, pd.Series], source: str) -> list[str]:
    """Scales prices by adjusted / raw close, in place, and returns remarks.

    Volumes are shares of their day: where the scale has a split in it they are scaled the other
    way, and by the split alone.

    Args:
        bars: columns, (bars,) each: `close` raw, and `adjusted`.
        source: the file's name.

    Raises:
        InputError: where an adjusted close is not above 0.
    """
    close = pd.to_numeric(bars["close"], errors="coerce")
    adjusted = pd.to_numeric(bars["adjusted"], errors="coerce")
    bad = (close.notna() & ~(adjusted > 0)).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            "{source}, row {row}: the adjusted close must be above 0", source=source, row=row + 1
        )
    factor = (adjusted / close).where(close.notna())
    for price in PRICES:
        numbers = pd.to_numeric(bars[price], errors="coerce")
        if numbers.notna().all():  # else the check names the value as the file has it
            bars[price] = numbers * factor
    return scale_volumes(bars, factor)


def scale_volumes(bars: dict[str, pd.Series], factor: pd.Series) -> list[str]:
    """Scales volumes, in place, by the splits that the scale of prices shows; returns a remark.

    Args:
        bars: `timestamp`, `volume` as the file has it, `symbol` where it has one, (bars,) each.
        factor: adjusted / raw price, (bars,).
    """
    volume, scales = pd.to_numeric(bars["volume"], errors="coerce"), factor.to_numpy(np.float64)
    if not (np.isfinite(scales) & (scales > 0)).all() or volume.isna().any():
        return []
    splits, ratios, times = np.ones(len(volume)), [], None
    for rows in _by_symbol(bars):
        if (_split_steps(scales[rows]) == 1).all():
            continue
        times = read_times(bars["timestamp"]).to_numpy() if times is None else times
        rows = rows[np.argsort(times[rows], kind="stable")]
        steps = _split_steps(scales[rows])
        # What comes after a bar scales it: the product of the steps from it to the newest bar.
        splits[rows] = np.append(np.cumprod(steps[::-1])[::-1], 1.0)
        ratios += [(rows[i + 1], ratio) for i, ratio in enumerate(steps) if ratio != 1]
    if not ratios:
        return []
    bars["volume"] = volume * splits
    row, ratio = ratios[0]
    return [
        _(
            "volumes before splits scaled as well (first split: {ratio:g} for 1 in row {row})",
            ratio=ratio,
            row=str(row + 1),
        )
    ]


def _by_symbol(bars: dict[str, pd.Series]) -> list[np.ndarray]:
    """Returns the rows of each symbol."""
    if "symbol" not in bars:
        return [np.arange(len(bars["volume"]))]
    groups = bars["symbol"].groupby(bars["symbol"], observed=True).indices
    return [np.asarray(rows) for rows in groups.values()]


def _split_steps(scales: np.ndarray) -> np.ndarray:
    """Returns from each bar to the next by what a split multiplied the shares, 1 for none."""
    steps = scales[1:] / scales[:-1]
    ratios = np.ones(len(steps))
    large = np.maximum(steps, 1 / steps) > _LEAST_SPLIT
    for place in np.flatnonzero(large):
        ratios[place] = _simple(steps[place])
    return ratios


def _simple(step: float) -> float:
    """Returns the nearest ratio of small whole numbers, 1 where none is near: no split."""
    larger = max(step, 1 / step)
    for part in range(1, _LARGEST_PART + 1):
        whole = round(larger * part)
        if whole > part and abs(whole / part / larger - 1) < _EXACT / part:
            return whole / part if step > 1 else part / whole
    return 1.0
