"""What the training rows show: mean, variance and range; and whether bars of later lie outside."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from core.contract import Contract
from core.i18n import _, date
from data.market.market import Fold, Market
from data.market.windows import gather, subsample

TAILS = (0.001, 0.999)  # quantiles of each feature that bound its range
MAX_ROWS = 200_000  # for the quantiles, evenly spaced: 200 of them lie beyond each
# A window is unfamiliar above this share. More than one feature is outside then: of 26 features one
# that is outside in every bar gives 0.04.
HIGH = 0.05
# Over the training rows 0.2 % of the values lie outside. By Markov's inequality at most
# 0.002 / 0.05 = 4 % of windows like those of training are above HIGH.
HIGH_WINDOWS = 0.04
# Of the training period's length. With the default split the test bars of a new model end 43 % of
# it after its training.
OLD = 0.5

_CHUNK = 1 << 11  # rows of which statistics are taken at a time
_MOST_DEVIATIONS = 8192  # windows
_LEAST_SPREAD = 0.1  # of a deviation over the windows, as a share of its mean


def training_rows(market: Market, fold: Fold) -> np.ndarray:
    """Returns the rows that the training windows show, bool (rows,): what scaling may look at."""
    shown = np.zeros(len(market.symbols), bool)
    breaks = np.flatnonzero(np.diff(fold.train) != 1) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(fold.train)], strict=True):
        first, last = fold.train[start], fold.train[stop - 1]
        shown[first - market.sequence_length + 1 : last + 1] = True
    return shown


def training_statistics(market: Market, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of every feature over the rows of the training windows.

    Returns:
        two float32 arrays (features,), as `keras.layers.Normalization` takes them.
    """
    shown = training_rows(market, fold)
    count, mean, spread = 0, 0.0, 0.0
    for start in range(0, len(shown), _CHUNK):
        part = market.features[start : start + _CHUNK][shown[start : start + _CHUNK]]
        if len(part):
            # Chan et al. 1979: merging means and squared deviations of the chunks is stable.
            chunk_mean, step = part.mean(axis=0, dtype=np.float64), len(part) / (count + len(part))
            spread = spread + ((part - chunk_mean) ** 2).sum(axis=0)
            spread = spread + (chunk_mean - mean) ** 2 * count * step
            mean, count = mean + (chunk_mean - mean) * step, count + len(part)
    return np.asarray(mean, np.float32), np.asarray(spread / count, np.float32)


def deviation_statistics(market: Market, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of every feature, and of its deviation within training windows.

    The features are those of `training_statistics`; the deviations are of 8,192 windows, evenly
    spaced, where there are more. A deviation that is nearly the same in all of them, as that of the
    time of day over whole days, has a spread of a tenth of its mean: divided by less, rounding and
    the first bars of a window, where all deviations are 0, would drown the rest.

    Returns:
        two float32 arrays (2 * features,).
    """
    ends = fold.train[subsample(len(fold.train), _MOST_DEVIATIONS)]
    deviations = np.concatenate(
        [
            gather(market.features, part, market.sequence_length).std(axis=1, dtype=np.float64)
            for part in np.array_split(ends, -(-len(ends) // 256))
        ]
    )
    floor = _LEAST_SPREAD * deviations.mean(axis=0)
    mean, variance = training_statistics(market, fold)
    return (
        np.r_[mean, deviations.mean(axis=0)].astype(np.float32),
        np.r_[variance, np.maximum(deviations.std(axis=0), floor) ** 2].astype(np.float32),
    )


def training_ranges(market: Market, fold: Fold) -> list[list[float]]:
    """Returns the 0.1 % and the 99.9 % quantile of each feature over the training rows.

    Returns:
        two lists of numbers by feature: the low ends and the high ends.
    """
    rows = np.flatnonzero(training_rows(market, fold))
    shown = market.features[rows[subsample(len(rows), MAX_ROWS)]]
    return np.quantile(shown, TAILS, axis=0).tolist()


def unfamiliar_shares(contract: Contract, features: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns which share of each window's values lies outside the training ranges.

    Args:
        contract: of the model.
        features: (rows, features).
        ends: last rows of the windows, (windows,).

    Returns:
        from 0 to 1, float64 (windows,); NaN where the model was made before there were ranges.
    """
    if "training_ranges" not in contract:
        return np.full(len(ends), np.nan)
    outside = np.zeros(len(features) + 1, np.int64)
    for column, low, high in zip(features.T, *contract["training_ranges"], strict=True):
        outside[1:] += (column < np.float32(low)) | (column > np.float32(high))
    before, length = np.cumsum(outside), contract["sequence_length"]
    counts = before[ends + 1] - before[ends + 1 - length]
    return counts / (length * features.shape[1])


def warnings(contract: Contract, table: pd.DataFrame) -> Iterator[str]:
    """Yields a sentence where many windows are unfamiliar, and one where the model is old.

    Args:
        contract: of the model.
        table: of windows, at least one, as `InferenceWindows.about` of `recipe.serve.inference`.
    """
    high = table["unfamiliar"].to_numpy(np.float64) > HIGH
    if high.mean() > HIGH_WINDOWS:
        names = list(dict.fromkeys(table["symbol"].to_numpy()[high]))
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield _(
            "inputs fall outside the training range: in {count:,} of {num_windows:,} windows "
            "({shown}) more than {share:.0%} of the values do",
            count=high.sum(),
            num_windows=len(table),
            shown=shown,
            share=HIGH,
        )
    if "training_period" not in contract:
        return
    first, last = (np.datetime64(time) for time in contract["training_period"])
    newest = table["timestamp"].to_numpy("datetime64[ns]").max()
    if newest - last > OLD * (last - first):
        first, last, newest = (date(str(time)[:10]) for time in (first, last, newest))
        yield _(
            "the model is old: its training bars run from {first} to {last}, and the newest bar "
            "is of {newest}, later by more than half that period; retrain it",
            first=first,
            last=last,
            newest=newest,
        )
