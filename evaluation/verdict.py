"""Whether the model beats the best baseline: a paired block bootstrap over calendar time.

Neighbouring windows share bars and label bars, and all symbols move together, so the windows are
no independent draws. What is resampled are blocks of calendar time with all symbols in them
(Kuensch 1989; the blocks do not overlap here), the same ones for the model and the baselines. With
few blocks percentile intervals are too narrow; they are expanded as Hesterberg (2015, The American
Statistician 69:371) gives it, to the width of a t interval.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from data.labels import CLASS_NAMES
from evaluation.metrics import checked, mcc

LEVEL = 0.95
_AT_ONCE = 2_000_000  # drawn counts held in memory at a time


def verdict(
    timestamps: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    block_seconds: float,
    num_resamples: int = 2000,
    seed: int = 0,
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
        num_resamples: draws.
        seed: of the draws.
        trials: how many runs were compared before this one was looked at.
        num_folds: walk-forward folds that the windows come from.

    Returns:
        verdict ("beats", "no better than" or "worse than"), no_skill (the interval of MCC covers
        0), sentence, mcc, mcc_interval, baseline, baseline_mcc, difference,
        difference_interval, num_blocks, block_seconds, num_resamples, trials,
        num_folds.

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
    own, other = block_bootstrap(
        np.stack([tables[""], tables[best]]), num_resamples=num_resamples, seed=seed
    )
    num_blocks = len(tables[""])
    found: dict[str, Any] = {
        "mcc": scores[""],
        "mcc_interval": interval(own, num_blocks, widest=1.0),
        "baseline": best,
        "baseline_mcc": scores[best],
        "difference": scores[""] - scores[best],
        "difference_interval": interval(own - other, num_blocks, widest=2.0),
        "num_blocks": num_blocks,
        "block_seconds": float(block_seconds),
        "num_resamples": num_resamples,
        "trials": trials,
        "num_folds": num_folds,
    }
    found["no_skill"] = found["mcc_interval"][0] <= 0 <= found["mcc_interval"][1]
    found["verdict"] = _comparison(found)
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


def block_bootstrap(tables: np.ndarray, *, num_resamples: int, seed: int) -> np.ndarray:
    """Returns the MCC of each resample of the blocks, (models, resamples).

    Args:
        tables: confusion matrices of each model in each block, (models, blocks, 3, 3); all
            models are resampled alike.
        num_resamples: draws.
        seed: of the draws.
    """
    num_models, num_blocks = tables.shape[:2]
    flat = tables.reshape(num_models, num_blocks, -1).astype(np.float64)
    parts = [counts @ flat for counts in _draws(num_blocks, num_resamples, seed)]
    drawn = np.concatenate(parts, axis=1)  # (models, resamples, 9)
    return mcc(drawn.reshape(num_models, num_resamples, *tables.shape[2:]))


def _draws(num_blocks: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each block is drawn, (resamples, blocks), in parts that fit in memory."""
    rng = np.random.default_rng(seed)
    size = max(1, _AT_ONCE // num_blocks)
    for start in range(0, num_resamples, size):
        count = min(size, num_resamples - start)
        yield rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), count) * 1.0


def interval(values: np.ndarray, num_blocks: int, widest: float) -> list[float]:
    """Returns the expanded percentile interval of resampled values at the 95 % level.

    Args:
        values: one for each resample.
        num_blocks: that were resampled; with a single one the interval is all that is possible.
        widest: the largest value possible; its negative is the lowest.
    """
    if num_blocks < 2:
        return [-widest, widest]
    width = np.sqrt(num_blocks / (num_blocks - 1)) * student.ppf((1 - LEVEL) / 2, num_blocks - 1)
    tail = float(norm.cdf(width))
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def _comparison(found: dict[str, Any]) -> str:
    low, high = found["difference_interval"]
    if high < 0:
        return "worse than"
    return "beats" if low > 0 and not found["no_skill"] else "no better than"


def sentence(found: Mapping[str, Any]) -> str:
    """Returns in words what `verdict` found; `trials` may have been set later."""
    low, high = found["difference_interval"]
    over = f" over {found['num_folds']} walk-forward folds" if found["num_folds"] > 1 else ""
    text = (
        f"The model {_verb(found['verdict'])} {found['baseline']}{over}: MCC {found['mcc']:+.3f} "
        f"against {found['baseline_mcc']:+.3f}, difference {found['difference']:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f}, {found['num_blocks']} time blocks)."
    )
    low, high = found["mcc_interval"]
    if found["no_skill"]:
        text += f" It shows no skill: the interval of its MCC, {low:+.3f} to {high:+.3f}, covers 0."
    elif high < 0:
        text += f" It is worse than chance: the interval of its MCC is {low:+.3f} to {high:+.3f}."
    if found["trials"] > 1:
        text += (
            f" It is one of {found['trials']} runs tried on these bars, and the best of several "
            f"looks better than it is."
        )
    return text


def _verb(comparison: str) -> str:
    return comparison if comparison == "beats" else f"is {comparison}"
