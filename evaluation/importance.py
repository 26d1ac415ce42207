"""Why a model answers as it does: which features it needs, and how many bars it looks back.

Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019), on validation windows. A
feature's whole course in a window is exchanged with that of a window from another block of time, so
that it keeps its shape and loses its tie to the label. Features that say the same stand in for each
other: each then seems to matter less than it does.
"""

import numpy as np
from scipy.stats import t as student

from data.market.market import Fold, Market, training_statistics
from data.market.windows import gather, subsample
from evaluation.figures.run import FeatureRise, Importance, LookbackRise
from evaluation.judge import blocks_of
from evaluation.metrics import losses
from evaluation.verdict import LEVEL

MOST_WINDOWS = 256  # evenly spaced over the validation windows: a few seconds in all
_MOST_BLOCKS = 20  # that the courses are exchanged between


def explain(model, market: Market, fold: Fold, *, seed: int) -> Importance:
    """Returns what the validation NLL loses without each feature, and without the earlier bars.

    Args:
        model: gives probabilities of raw windows, as the deployable model does.
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
    blocks = blocks_of(market, ends)

    def losses_with(changed: np.ndarray) -> np.ndarray:
        return losses(labels, np.asarray(model.predict_on_batch(changed), np.float64))

    base = losses_with(windows)

    features = []
    for column, name in enumerate(market.feature_names):
        changed = windows.copy()
        changed[:, :, column] = windows[other_blocks(len(ends), rng), :, column]
        features.append(FeatureRise(name, *mean_interval(losses_with(changed) - base, blocks)))
    mean, _ = training_statistics(market, fold)
    lookback = []
    for bars in _bars_left(length):
        changed = windows.copy()
        changed[:, : length - bars] = mean
        nll = losses_with(changed)
        lookback.append(LookbackRise(bars, float(nll.mean()), *mean_interval(nll - base, blocks)))
    return Importance(
        windows=len(ends),
        nll=float(base.mean()),
        features=sorted(features, key=lambda part: -part.rise),
        lookback=lookback,
    )


def other_blocks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns for each of `count` windows, sorted by time, the one to exchange with, (count,).

    Equal blocks of neighbours change places, none keeps its own; within a block the order stays.
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
