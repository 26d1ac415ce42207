"""Whether the model beats a baseline at saying where prices move: a jackknife over blocks of time.

Two skills are shown (see `evaluation.answers`): when prices move, and where to. The comparison
rests on the second: who knows the size of moves alone earns nothing by a trade.

Neighbouring windows share bars and label bars, and all symbols move together, so the windows are
no independent draws. Blocks of calendar time with all symbols in them are left out in turn, the
same ones for the model and the baseline, and how far the figure moves gives its standard error
(Kuensch 1989, The Annals of Statistics 17:1217; the blocks do not overlap here). The interval is
Student's t with a degree of freedom less than there are blocks, as for the means of a few large
groups (Ibragimov and Mueller 2010, Journal of Business & Economic Statistics 28:453).
benchmarks/intervals.md shows how often it misses the truth, and what skill it finds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from core.i18n import N_, _, ngettext
from data.market.relative import relative_in_words
from evaluation.answers import Answers, tables
from evaluation.metrics import mcc

LEVEL = 0.95
FEW_BLOCKS = 20  # at 10 a fifth of the models with a direction of 0.17 were missed
SKILLS = ("direction", "movement")
_IN_A_SENTENCE = {"constant prior": N_("the constant prior")}  # the others need no article


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
) -> dict[str, Any]:
    """Returns both skills of the model, their distance to a baseline's, and what they mean.

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,), in any order.
        labels: class codes, (samples,).
        model: what it says of the windows.
        other: what the baseline says of them that is to be beaten.
        baseline: its name; chosen on other windows, as `pick` does.
        block_seconds: length of a block; at least the span of a window and its label.
        trials: how many runs were compared before this one was looked at.
        num_folds: walk-forward folds that the windows come from.

    Returns:
        verdict ("beats", "no better than" or "worse than" the baseline, by the difference in
        direction), no_skill (the interval of direction covers 0), baseline, direction and
        movement (each: mcc, interval, baseline, difference, difference_interval), mcc (of the
        three classes), mcc_interval, num_blocks, block_seconds, trials, num_folds.

    Raises:
        ValueError: if arrays do not fit together.
    """
    blocks = time_blocks(timestamps, block_seconds)
    own, theirs = (tables(blocks, labels, said) for said in (model, other))
    found: dict[str, Any] = {"baseline": baseline}
    found |= {skill: _against(own[skill], theirs[skill]) for skill in SKILLS}
    found["mcc"], found["mcc_interval"] = with_interval(own["classes"])
    found |= {
        "num_blocks": len(own["classes"]),
        "block_seconds": float(block_seconds),
        "trials": trials,
        "num_folds": num_folds,
    }
    found["no_skill"] = _covers_zero(found["direction"]["interval"])
    found["verdict"] = _comparison(found["direction"])
    return {"verdict": found["verdict"], **found}


def pick(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the baseline with the most skill in direction; of equal ones that of the lowest NLL.

    Args:
        scores: what `evaluation.metrics.evaluate` says of each, on windows that judge nothing
            else: the best of several on the test windows is too good by chance.

    Raises:
        ValueError: if there is none.
    """
    if not scores:
        raise ValueError("a verdict needs at least one baseline")
    return max(scores, key=lambda name: (scores[name]["direction"], -scores[name]["nll"]))


def with_interval(table: np.ndarray) -> tuple[float, list[float]]:
    """Returns the MCC of all blocks together, and its interval.

    Args:
        table: counts of each block, (blocks, kinds, kinds).
    """
    value = float(mcc(table.sum(axis=0)))
    return value, interval(value, left_out(table), widest=1.0)


def _against(own: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    value, reach = with_interval(own)
    baseline = float(mcc(other.sum(axis=0)))
    without = left_out(own) - left_out(other)
    return {
        "mcc": value,
        "interval": reach,
        "baseline": baseline,
        "difference": value - baseline,
        "difference_interval": interval(value - baseline, without, widest=2.0),
    }


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


def _covers_zero(reach: list[float]) -> bool:
    return reach[0] <= 0 <= reach[1]


def _comparison(direction: Mapping[str, Any]) -> str:
    low, high = direction["difference_interval"]
    if high < 0:
        return N_("worse than")
    return N_("beats") if low > 0 and direction["interval"][0] > 0 else N_("no better than")


def sentence(found: Mapping[str, Any]) -> str:
    """Returns in words of the language of now what `verdict` found.

    `trials` may be set later, and `relative` where the labels are relative to the market.
    """
    pooled, baseline = found["num_folds"] > 1, str(found["baseline"])
    text = _compared(found["verdict"], baseline=_(_IN_A_SENTENCE.get(baseline, baseline)))
    if pooled:
        folds = found["num_folds"]
        text += ngettext(" over {n} walk-forward fold", " over {n} walk-forward folds", folds)
    text += f". {_shown(found)} {_figures(found, _blocks(found['num_blocks'], pooled))}"
    if found.get("relative"):
        text += " " + relative_in_words()
    if found["num_blocks"] < FEW_BLOCKS and found["no_skill"]:
        text += " " + _too_short(pooled)
    if found["trials"] > 1:
        text += " " + ngettext(
            "It is one of {n} run tried on these bars, and the best of several looks better than "
            "it is.",
            "It is one of {n} runs tried on these bars, and the best of several looks better than "
            "it is.",
            found["trials"],
        )
    return text


def _compared(comparison: str, baseline: str) -> str:
    if comparison == "beats":
        return _("The model beats {baseline}", baseline=baseline)
    if comparison == "worse than":
        return _("The model is worse than {baseline}", baseline=baseline)
    return _("The model is no better than {baseline}", baseline=baseline)


def _shown(found: Mapping[str, Any]) -> str:
    """Returns which skill is known not to be chance."""
    where, when = (found[skill]["interval"] for skill in SKILLS)
    if found.get("relative"):
        return _shown_relative(where, when)
    if where[1] < 0:
        return _("It is worse than chance: prices tend to move against the side that it favours.")
    if where[0] > 0 and when[0] > 0:
        return _("It sees when prices move, and where to.")
    if where[0] > 0:
        return _("It sees where prices move.")
    if when[0] > 0:
        return _(
            "It shows no skill in direction: it sees when prices move, not where to, and that is "
            "worth nothing to a trade."
        )
    return _("It shows no skill: neither where prices move nor when is told better than by chance.")


def _shown_relative(where: Sequence[float], when: Sequence[float]) -> str:
    if where[1] < 0:
        return _("It is worse than chance: symbols tend to leave the market on the other side.")
    if where[0] > 0 and when[0] > 0:
        return _("It sees when symbols part from the market, and on which side.")
    if where[0] > 0:
        return _("It sees on which side symbols part from the market.")
    if when[0] > 0:
        return _(
            "It shows no skill in direction: it sees when symbols part from the market, not on "
            "which side, and that is worth nothing to a trade."
        )
    return _(
        "It shows no skill: neither on which side symbols part from the market nor when is told "
        "better than by chance."
    )


def _figures(found: Mapping[str, Any], blocks: str) -> str:
    """Returns direction, its distance to the baseline, and movement, each with its interval."""
    where, when = (found[skill] for skill in SKILLS)
    ranges = {
        f"{end}_{name}": value
        for name, reach in (
            ("own", where["interval"]),
            ("apart", where["difference_interval"]),
            ("when", when["interval"]),
        )
        for end, value in zip(("low", "high"), reach, strict=True)
    }
    return _(
        "Direction: MCC {where:+.3f} ({low_own:+.3f} to {high_own:+.3f}) against {other:+.3f}, "
        "difference {apart:+.3f} ({low_apart:+.3f} to {high_apart:+.3f}). Movement: MCC "
        "{when:+.3f} ({low_when:+.3f} to {high_when:+.3f}). In brackets: 95 % intervals over "
        "{blocks}.",
        where=where["mcc"],
        other=where["baseline"],
        apart=where["difference"],
        when=when["mcc"],
        blocks=blocks,
        **ranges,
    )


def _blocks(num_blocks: int, pooled: bool) -> str:
    if pooled:
        return ngettext("{n} time block of all folds", "{n} time blocks of all folds", num_blocks)
    return ngettext("{n} time block", "{n} time blocks", num_blocks)


def _too_short(pooled: bool) -> str:
    if pooled:
        return _(
            "With fewer than {least} time blocks the test time is too short to tell weak skill "
            "from none, also of all folds together.",
            least=FEW_BLOCKS,
        )
    return _(
        "With fewer than {least} time blocks the test time is too short to tell weak skill from "
        "none; a walk-forward gives more.",
        least=FEW_BLOCKS,
    )
