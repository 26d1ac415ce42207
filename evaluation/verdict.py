"""Answers two questions, with intervals: is there skill, and is it more than a baseline's?

There are two kinds of skill (see `evaluation.answers`): when prices move, and where to. Whether the
model beats a baseline rests on the second: knowing only the size of moves earns nothing by trading.
`evaluation.verdict_words` puts it into words.

Neighbouring windows share bars and label bars, and all symbols move together, so the windows are
not independent draws. Blocks of calendar time, with all symbols in them, are left out in turn, the
same ones for the model and the baseline, and how far the figure moves gives its standard error
(Kuensch 1989, The Annals of Statistics 17:1217; the blocks do not overlap here). The interval is
Student's t with one degree of freedom fewer than blocks, as for the means of a few large
groups (Ibragimov and Mueller 2010, Journal of Business & Economic Statistics 28:453).
benchmarks/intervals.md shows how often it misses the truth, and how much skill it detects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from core.calls import hardly_called
from data.market.labels import CLASS_NAMES
from evaluation.answers import Answers, tables
from evaluation.figures.scores import Scores, Shares, Skill, Trades, Verdict
from evaluation.metrics import mcc

LEVEL = 0.95
FEW_BLOCKS = 20  # with 10, a fifth of the models with a direction of 0.17 were missed
SKILLS = ("direction", "movement")
YES, NOT_SHOWN, NONE, WORSE = "yes", "not shown", "none", "worse"
# An interval below it rules out more: 52.5 % of the sides right. A 12-bar move of 1 % then brings
# 5 basis points, half of what the default costs take.
LEAST_SKILL = 0.05


def verdict(
    timestamps: np.ndarray,
    labels: np.ndarray,
    model: Answers,
    other: Answers,
    *,
    baseline: str,
    block_seconds: float,
    trials: int = 1,
    num_folds: int = 1,
) -> Verdict:
    """Returns both skills of the model, their distance from a baseline's, and what they mean.

        >>> verdict(times, labels, model, prior, baseline="prior", block_seconds=43_200)
        Verdict(skill_in_direction='yes', skill_in_movement='none', ...)

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,), in any order.
        labels: class codes, (samples,).
        model: its answers for the windows.
        other: answers of the baseline to beat.
        baseline: its name; chosen on other windows, as `pick` does.
        block_seconds: length of a block; at least the span of a window and its label.
        trials: number of runs compared before this one was chosen.
        num_folds: walk-forward folds that the windows come from.

    Returns:
        skill_in_direction and skill_in_movement ("yes": the interval lies above 0; "none": it
        lies below `LEAST_SKILL`, and not above 0; else "not shown"), better_than_baseline ("yes",
        "not shown" or "worse", by the difference in direction; "yes" needs skill in direction,
        too), baseline, direction and movement (each: mcc, interval, baseline, difference,
        difference_interval), mcc (of the three classes), mcc_interval, num_blocks, block_seconds,
        trials, num_folds.

    Raises:
        ValueError: if arrays do not fit together.
    """
    blocks = time_blocks(timestamps, block_seconds)
    counts, other_counts = (tables(blocks, labels, answers) for answers in (model, other))
    direction, movement = (_against(counts[skill], other_counts[skill]) for skill in SKILLS)
    mcc_of_classes, mcc_interval = with_interval(counts["classes"])
    return Verdict(
        skill_in_direction=_skill(direction.interval),
        skill_in_movement=_skill(movement.interval),
        better_than_baseline=_better(direction),
        baseline=baseline,
        direction=direction,
        movement=movement,
        mcc=mcc_of_classes,
        mcc_interval=mcc_interval,
        num_blocks=len(counts["classes"]),
        block_seconds=float(block_seconds),
        trials=trials,
        num_folds=num_folds,
    )


def with_trades(verdict: Verdict, trades: Trades) -> Verdict:
    """Returns the verdict with the result of trading on the calls after costs."""
    return replace(
        verdict,
        net_return=trades.model.net_return,
        trades=trades.model.trades,
        baseline_net_return=trades.baselines[verdict.baseline].net_return,
        buy_and_hold_net_return=trades.buy_and_hold.net_return,
        cost_bps=trades.cost_bps,
    )


def with_calls(verdict: Verdict, scores: Scores) -> Verdict:
    """Returns the verdict with the classes that are never called, or hardly ever."""
    called, true = scores.class_rates.predicted, scores.class_rates.true
    rare = hardly_called(called, true)
    return replace(
        verdict, hardly_called={CLASS_NAMES[c]: Shares(called[c], true[c]) for c in rare}
    )


def pick(scores: Mapping[str, Scores]) -> str:
    """Returns the baseline with the most skill in direction; of equals, the one of lowest NLL.

    Args:
        scores: results of `evaluation.metrics.evaluate` for each, on windows not used for the
            verdict: the best of several on the test windows looks too good by chance.

    Raises:
        ValueError: if there is none.
    """
    if not scores:
        raise ValueError("a verdict needs at least one baseline")
    return max(scores, key=lambda name: (scores[name].direction, -scores[name].nll))


def with_interval(table: np.ndarray) -> tuple[float, list[float]]:
    """Returns the MCC of all blocks together, and its interval.

    Args:
        table: counts of each block, (blocks, kinds, kinds).
    """
    value = float(mcc(table.sum(axis=0)))
    return value, interval(value, left_out(table), widest=1.0)


def _against(counts: np.ndarray, other: np.ndarray) -> Skill:
    value, reach = with_interval(counts)
    baseline = float(mcc(other.sum(axis=0)))
    without = left_out(counts) - left_out(other)
    return Skill(
        mcc=value,
        interval=reach,
        baseline=baseline,
        difference=value - baseline,
        difference_interval=interval(value - baseline, without, widest=2.0),
    )


def time_blocks(timestamps: np.ndarray, block_seconds: float) -> np.ndarray:
    """Returns for each window the number of its block, 0.. without holes, (samples,)."""
    if not block_seconds > 0:
        raise ValueError(f"block_seconds must be above 0, got {block_seconds}")
    timestamps = np.asarray(timestamps, "datetime64[ns]")
    nanoseconds = (timestamps - timestamps.min()).astype(np.int64)
    blocks = nanoseconds // round(block_seconds * 1e9)
    return np.unique(blocks, return_inverse=True)[1]


def left_out(table: np.ndarray) -> np.ndarray:
    """Returns the MCC without each of the blocks, (..., blocks).

    Args:
        table: counts of each block, (..., blocks, kinds, kinds).
    """
    return mcc(table.sum(axis=-3, keepdims=True) - table)


def interval(value: float, without: np.ndarray, widest: float) -> list[float]:
    """Returns the jackknife's interval of a value at the 95 % level.

    Args:
        value: over all blocks.
        without: the value without each of the blocks, (blocks,); with a single block the interval
            is all that is possible.
        widest: the largest value possible; its negative is the lowest.
    """
    num_blocks = len(without)
    if num_blocks < 2:
        return [-widest, widest]
    error = np.sqrt((num_blocks - 1) * np.var(without))
    reach = float(student.ppf((1 + LEVEL) / 2, num_blocks - 1) * error)
    return [max(value - reach, -widest), min(value + reach, widest)]


def _skill(reach: Sequence[float]) -> str:
    low, high = reach
    if low > 0:
        return YES
    return NONE if high < LEAST_SKILL else NOT_SHOWN


def _better(direction: Skill) -> str:
    low, high = direction.difference_interval
    if high < 0:
        return WORSE
    return YES if low > 0 and direction.interval[0] > 0 else NOT_SHOWN
