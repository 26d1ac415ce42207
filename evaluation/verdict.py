"""Whether the model beats the best baseline: a paired jackknife over blocks of calendar time.

Neighbouring windows share bars and label bars, and all symbols move together, so the windows are
no independent draws. Blocks of calendar time with all symbols in them are left out in turn, the
same ones for the model and the baselines, and how far the MCC moves gives its standard error
(Kuensch 1989, The Annals of Statistics 17:1217; the blocks do not overlap here). The interval is
Student's t with a degree of freedom less than there are blocks, as for the means of a few large
groups (Ibragimov and Mueller 2010, Journal of Business & Economic Statistics 28:453).
benchmarks/intervals.md shows how often it misses the truth, and what skill it finds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import t as student

from data.i18n import LANGUAGES, N_, _, ngettext, speaking
from data.labels import CLASS_NAMES
from evaluation.metrics import checked, mcc

LEVEL = 0.95
FEW_BLOCKS = 20  # at 10 a third of the models with an MCC of 0.058 were missed


def verdict(
    timestamps: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    block_seconds: float,
    trials: int = 1,
    num_folds: int = 1,
) -> dict[str, Any]:
    """Returns MCC, its distance to the best baseline, their intervals, and one sentence.

    Args:
        timestamps: of the windows' last bars, datetime64 (samples,), in any order.
        labels: class codes, (samples,).
        probabilities: of the model, (samples, 3).
        baselines: probabilities (samples, 3) of each baseline; the best is the one with the
            highest MCC on these windows.
        block_seconds: length of a block; at least the span of a window and its label.
        trials: how many runs were compared before this one was looked at.
        num_folds: walk-forward folds that the windows come from.

    Returns:
        verdict ("beats", "no better than" or "worse than"), no_skill (the interval of MCC covers
        0), sentence, mcc, mcc_interval, baseline, baseline_mcc, difference,
        difference_interval, num_blocks, block_seconds, trials, num_folds.

    Raises:
        ValueError: if there is no baseline, or arrays do not fit together.
    """
    if not baselines:
        raise ValueError("a verdict needs at least one baseline")
    blocks = time_blocks(timestamps, block_seconds)
    tables = {"": confusions(blocks, *checked(labels, probabilities))}
    tables |= {n: confusions(blocks, *checked(labels, p)) for n, p in baselines.items()}
    scores = {name: float(mcc(table.sum(axis=0))) for name, table in tables.items()}
    best = max(baselines, key=lambda name: scores[name])
    own, other = left_out(np.stack([tables[""], tables[best]]))
    difference = scores[""] - scores[best]
    found: dict[str, Any] = {
        "mcc": scores[""],
        "mcc_interval": interval(scores[""], own, widest=1.0),
        "baseline": best,
        "baseline_mcc": scores[best],
        "difference": difference,
        "difference_interval": interval(difference, own - other, widest=2.0),
        "num_blocks": len(tables[""]),
        "block_seconds": float(block_seconds),
        "trials": trials,
        "num_folds": num_folds,
    }
    found["no_skill"] = found["mcc_interval"][0] <= 0 <= found["mcc_interval"][1]
    found["verdict"] = _comparison(found)
    with speaking(LANGUAGES[0]):  # what is written is the same everywhere
        return {"verdict": found["verdict"], "sentence": sentence(found), **found}


def time_blocks(timestamps: np.ndarray, block_seconds: float) -> np.ndarray:
    """Returns for each window the number of its block, 0.. without holes, (samples,)."""
    if not block_seconds > 0:
        raise ValueError(f"block_seconds must be above 0, got {block_seconds}")
    timestamps = np.asarray(timestamps, "datetime64[ns]")
    nanoseconds = (timestamps - timestamps.min()).astype(np.int64)
    blocks = nanoseconds // round(block_seconds * 1e9)
    return np.unique(blocks, return_inverse=True)[1]


def confusions(blocks: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns a confusion matrix for each block, (blocks, 3, 3), rows true."""
    if len(blocks) != len(labels):
        raise ValueError(f"need a timestamp for each window, got {len(blocks)} for {len(labels)}")
    cells = (blocks * len(CLASS_NAMES) + labels) * len(CLASS_NAMES) + probabilities.argmax(axis=1)
    shape = (int(blocks.max()) + 1, len(CLASS_NAMES), len(CLASS_NAMES))
    return np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def left_out(tables: np.ndarray) -> np.ndarray:
    """Returns the MCC without each of the blocks, (models, blocks).

    Args:
        tables: confusion matrices of each model in each block, (models, blocks, 3, 3).
    """
    return mcc(tables.sum(axis=1, keepdims=True) - tables)


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


def _comparison(found: dict[str, Any]) -> str:
    low, high = found["difference_interval"]
    if high < 0:
        return N_("worse than")
    return N_("beats") if low > 0 and not found["no_skill"] else N_("no better than")


def sentence(found: Mapping[str, Any]) -> str:
    """Returns in words of the language of now what `verdict` found; `trials` may be set later."""
    low, high = found["difference_interval"]
    pooled = found["num_folds"] > 1
    best = found["baseline"]
    text = _compared(found["verdict"], baseline=_(best))
    if pooled:
        folds = found["num_folds"]
        text += ngettext(" over {n} walk-forward fold", " over {n} walk-forward folds", folds)
    text += _(
        ": MCC {mcc:+.3f} against {other:+.3f}, difference {difference:+.3f} "
        "(95 % interval {low:+.3f} to {high:+.3f}, {blocks}).",
        mcc=found["mcc"],
        other=found["baseline_mcc"],
        difference=found["difference"],
        low=low,
        high=high,
        blocks=_blocks(found["num_blocks"], pooled),
    )
    low, high = found["mcc_interval"]
    if found["no_skill"]:
        text += " " + _(
            "It shows no skill: the interval of its MCC, {low:+.3f} to {high:+.3f}, covers 0.",
            low=low,
            high=high,
        )
    elif high < 0:
        text += " " + _(
            "It is worse than chance: the interval of its MCC is {low:+.3f} to {high:+.3f}.",
            low=low,
            high=high,
        )
    if found["num_blocks"] < FEW_BLOCKS:
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


def _blocks(num_blocks: int, pooled: bool) -> str:
    # English says "1 time blocks", too: metrics.json keeps its words.
    if pooled:
        return ngettext("{n} time blocks of all folds", "{n} time blocks of all folds", num_blocks)
    return ngettext("{n} time blocks", "{n} time blocks", num_blocks)


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
