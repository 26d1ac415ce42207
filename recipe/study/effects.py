"""The effect of flags on NLL, direction, MCC, ECE and the ranking of symbols, with intervals.

Two things differ from study to study: which stretch of time was seen, and which seeds were drawn.
The variance of an effect is taken as the sum of both parts: a jackknife over blocks of calendar
time, which are left out in turn from both arms (Kuensch 1989, The Annals of Statistics 17:1217),
and the spread of the effect over the seeds. The degrees of freedom are Welch and Satterthwaite's
(Satterthwaite 1946, Biometrics Bulletin 2:110).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from evaluation.answers import Answers, tables
from evaluation.metrics import NUM_BINS, checked, losses, mcc
from evaluation.verdict import time_blocks

MEASURES = ("direction", "mcc", "nll", "ece")
RANKED = ("rank_correlation", "timing")  # where enough symbols are at a bar
_CLASSES, _DIRECTION, _NLL = slice(0, 9), slice(9, 13), 13  # columns of the sums; then the bins
_RANKED = _NLL + 1 + NUM_BINS  # sum and count of each of RANKED, where there are any
LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """A difference of a measure, averaged over seeds.

    Args:
        value: of the changed arm less that of the other.
        low: lower end of the 95 % interval, or None where time or seeds are too few for one.
        high: its upper end.
        p: two-sided, 1 where there is no interval.
    """

    value: float
    low: float | None
    high: float | None
    p: float


def block_sums(
    timestamps: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    answers_given: Answers,
    block_seconds: float,
    ranked: tuple[Mapping[str, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Returns the sums per block of time behind all measures, (blocks, 14 + bins [+ 4]).

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,).
        labels: class codes, (samples,).
        probabilities: (samples, 3).
        answers_given: calls and sides of the same windows.
        block_seconds: length of a block; at least the span of a window and its label.
        ranked: their correlations (see `evaluation.across.cross_section`), if they are ranked.
    """
    labels, probabilities = checked(labels, probabilities)
    blocks = time_blocks(timestamps, block_seconds)
    counted = tables(blocks, labels, answers_given)
    num_blocks = len(counted["classes"])
    nll = np.bincount(blocks, weights=losses(labels, probabilities))
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(
        blocks * NUM_BINS + bins, weights=hits - confidence, minlength=num_blocks * NUM_BINS
    )
    counts = [counted[name].reshape(num_blocks, -1) for name in ("classes", "direction")]
    parts = [*counts, nll[:, None], gaps.reshape(-1, NUM_BINS)]
    if ranked is not None:
        by_bar, bars_blocks = ranked
        for name in RANKED:
            known = np.isfinite(by_bar[name])
            known_blocks = bars_blocks[known]
            parts.append(np.bincount(known_blocks, by_bar[name][known], num_blocks)[:, None])
            parts.append(np.bincount(known_blocks, minlength=num_blocks)[:, None])
    return np.concatenate(parts, axis=1)


def measured(sums: np.ndarray) -> tuple[str, ...]:
    """Returns the names of the measures that `measures` computes from such sums."""
    return MEASURES + RANKED if sums.shape[-1] > _RANKED else MEASURES


def measures(sums: np.ndarray) -> np.ndarray:
    """Returns the figures of sums over blocks, (..., columns) to (..., measures).

    Of blocks of which none is ranked the mean is NaN.
    """
    classes = sums[..., _CLASSES].reshape(*sums.shape[:-1], 3, 3)
    direction = sums[..., _DIRECTION].reshape(*sums.shape[:-1], 2, 2)
    total = sums[..., _CLASSES].sum(axis=-1)
    ece = np.abs(sums[..., _NLL + 1 : _RANKED]).sum(axis=-1) / total
    figures = [mcc(direction), mcc(classes), sums[..., _NLL] / total, ece]
    for column in range(_RANKED, sums.shape[-1], 2):
        added, count = sums[..., column], sums[..., column + 1]
        figures.append(np.where(count > 0, added / np.maximum(count, 1), np.nan))
    return np.stack(figures, axis=-1)


def paired_effects(changed: np.ndarray, other: np.ndarray) -> dict[str, Effect]:
    """Returns the effect on each measure that all runs have.

    Args:
        changed: `block_sums` of the changed arm for each seed, (seeds, blocks, columns).
        other: of the other arm, for the same seeds and blocks.
    """

    def difference(combine) -> np.ndarray:
        return measures(combine(changed)) - measures(combine(other))

    by_seed = difference(lambda sums: sums.sum(axis=1))  # (seeds, measures)
    if changed.shape[1] > 1:
        without = difference(lambda sums: sums.sum(axis=1, keepdims=True) - sums).mean(axis=0)
    else:
        without = by_seed[:1]  # a block cannot be left out where there is one
    return {
        name: _effect(by_seed[:, i], without[:, i])
        for i, name in enumerate(measured(changed))
        if np.isfinite(by_seed[:, i]).all() and np.isfinite(without[:, i]).all()
    }


def _effect(by_seed: np.ndarray, without: np.ndarray) -> Effect:
    """Returns the effect from its value for each seed, and its mean without each block."""
    value, num_blocks, num_seeds = float(by_seed.mean()), len(without), len(by_seed)
    if num_blocks < 2 or num_seeds < 2:
        return Effect(value, None, None, 1.0)
    time = (num_blocks - 1) * float(np.var(without))
    luck = float(np.var(by_seed, ddof=1)) / num_seeds
    if time + luck == 0:  # the change changed nothing
        return Effect(value, value, value, 1.0 if value == 0 else 0.0)
    freedom = (time + luck) ** 2 / (time**2 / (num_blocks - 1) + luck**2 / (num_seeds - 1))
    error = np.sqrt(time + luck)
    reach = float(student.ppf((1 + LEVEL) / 2, freedom) * error)
    p = float(2 * student.sf(abs(value) / error, freedom))
    return Effect(value, value - reach, value + reach, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    in_order = np.empty(len(p_values))
    in_order[order] = corrected
    return in_order.tolist()
