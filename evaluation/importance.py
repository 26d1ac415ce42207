"""Why a model answers as it does: which features it needs, and how many bars it looks back.

Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019), on validation windows. A
feature's whole course in a window is exchanged with that of a window from another block of time, so
that it keeps its shape and loses its tie to the label. Features that say the same stand in for each
other: each then seems to matter less than it does.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import t as student

from data.market.market import Fold, Market
from data.market.training_rows import training_statistics
from data.market.windows import gather, subsample
from evaluation.figures.run import FeatureRise, Importance, LookbackRise
from evaluation.judge import blocks_of
from evaluation.metrics import losses
from evaluation.verdict import LEVEL

MOST_WINDOWS = 256  # evenly spaced over the validation windows: a few seconds in all
_MOST_BLOCKS = 20  # that the courses are exchanged between
Answer = Callable[[Any], np.ndarray]


def explain(answer: Answer, market: Market, fold: Fold, *, seed: int) -> Importance:
    """Returns what the validation NLL loses without each feature, and without the earlier bars.

    Args:
        answer: gives the probabilities (windows, 3) of batches of raw windows in order;
            `batches[index]` is a tuple of one, x (batch, time, features).
        market: that the fold is of.
        fold: whose validation windows are read.
        seed: of the permutations.

    Returns:
        the number of windows that were read, their NLL in nats, its rise without each feature (the
        largest first), and its rise with only the newest bars left, the earlier ones at their
        training mean.
    """
    ends = fold.validation[subsample(len(fold.validation), MOST_WINDOWS)]
    ends = ends[np.lexsort((ends, market.timestamps[ends]))]  # by time, all symbols together
    length, rng = market.sequence_length, np.random.default_rng(seed)
    windows, labels = gather(market.features, ends, length), fold.labels[ends]
    exchanged = [other_blocks(len(ends), rng) for _ in market.feature_names]
    mean, _ = training_statistics(market, fold)
    asked = _Changed(windows, exchanged, mean, _bars_left(length))
    answered = np.asarray(answer(asked), np.float64).reshape(len(asked), len(ends), -1)
    base, *changed = (losses(labels, probabilities) for probabilities in answered)
    blocks, num_features = blocks_of(market, ends), len(market.feature_names)
    features = [
        FeatureRise(name, *mean_interval(nll - base, blocks))
        for name, nll in zip(market.feature_names, changed[:num_features], strict=True)
    ]
    lookback = [
        LookbackRise(bars, float(nll.mean()), *mean_interval(nll - base, blocks))
        for bars, nll in zip(asked.bars_left, changed[num_features:], strict=True)
    ]
    return Importance(
        windows=len(ends),
        nll=float(base.mean()),
        features=sorted(features, key=lambda part: -part.rise),
        lookback=lookback,
    )


class _Changed:
    """Windows as they are, then with each feature exchanged, then with fewer and fewer bars known.

    Args:
        windows: (windows, time, features).
        exchanged: for each feature the window that each window's course is taken from, (windows,).
        mean: what unknown bars show, (features,).
        bars_left: how many of the newest bars are known, in turn.
    """

    def __init__(self, windows: np.ndarray, exchanged: list, mean: np.ndarray, bars_left: list):
        self.windows, self.exchanged = windows, exchanged
        self.mean, self.bars_left = mean, bars_left

    def __len__(self) -> int:
        return 1 + len(self.exchanged) + len(self.bars_left)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        changed, column = self.windows.copy(), index - 1
        if 0 <= column < len(self.exchanged):
            changed[:, :, column] = self.windows[self.exchanged[column], :, column]
        elif index:
            left = self.bars_left[column - len(self.exchanged)]
            changed[:, : changed.shape[1] - left] = self.mean
        return (changed,)


def other_blocks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns for each of `count` windows, sorted by time, the one to exchange with, (count,).

    Equal blocks of neighbours change places, none keeps its place; within a block the order stays.
    """
    num_blocks = min(_MOST_BLOCKS, count)
    parts = np.array_split(np.arange(count), num_blocks)
    ring = rng.permutation(num_blocks)  # each takes the place of the next in the ring
    source = np.empty(num_blocks, np.int64)
    source[ring] = np.roll(ring, 1)
    return np.concatenate([np.resize(parts[source[i]], len(parts[i])) for i in range(num_blocks)])


def mean_interval(values: np.ndarray, blocks: np.ndarray) -> tuple[float, list[float] | None]:
    """Returns the mean and its 95 % interval over blocks of time; None for a single block.

    A t interval of the ratio of block sums to block sizes (Cochran 1977, ch. 6), since windows of
    one block are no independent draws.

    Args:
        values: one for each window.
        blocks: the number of each window's block, 0.. without holes.
    """
    mean, num_blocks = float(values.mean()), int(blocks.max()) + 1
    if num_blocks < 2:
        return mean, None
    rests = np.bincount(blocks, weights=values - mean)
    error = np.sqrt(num_blocks / (num_blocks - 1) * (rests**2).sum()) / len(values)
    width = float(student.ppf((1 + LEVEL) / 2, num_blocks - 1) * error)
    return mean, [mean - width, mean + width]


def _bars_left(length: int) -> list[int]:
    """Returns 1, 2, 4, ... up to the whole window."""
    powers = [2**k for k in range(length.bit_length()) if 2**k < length]
    return [*powers, length]
