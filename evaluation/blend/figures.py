"""What each member of a blend says alone, and what is gained by them together."""

from typing import Any

import numpy as np

from data.market.market import Market
from evaluation.importance import mean_interval
from evaluation.judge import Judged, blocks_of, pooled
from evaluation.metrics import losses


def blend_figures(market: Market, folds: list[Judged], split: str) -> dict[str, dict[str, Any]]:
    """Returns the NLL of the blend and of each member on the windows of a split of all folds.

    Args:
        market: that the folds are of.
        folds: each with the probabilities of the blend, and as baselines those of its members.
        split: "validation" or "test".

    Returns:
        by name, "blend" first: nll and interval, and of the members difference (the blend's NLL
        less theirs) and difference_interval; intervals are of 95 % over blocks of time, None
        where there is one block.
    """
    pool = pooled(folds, split)
    blocks = blocks_of(market, pool.ends)
    own = losses(pool.labels, np.asarray(pool.model, np.float64))
    found = {"blend": _mean("nll", "interval", own, blocks)}
    for name, said in pool.baselines.items():
        theirs = losses(pool.labels, np.asarray(said, np.float64))
        found[name] = _mean("nll", "interval", theirs, blocks)
        found[name] |= _mean("difference", "difference_interval", own - theirs, blocks)
    return found


def _mean(
    name: str, name_of_interval: str, values: np.ndarray, blocks: np.ndarray
) -> dict[str, Any]:
    mean, interval = mean_interval(values, blocks)
    return {name: mean, name_of_interval: interval}
