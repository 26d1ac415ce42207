"""The NLL of a blend and of each member alone, and what is gained by them together."""

import numpy as np

from data.market.market import Market
from evaluation.figures.run import BlendNLL, BlendNLLs, MemberNLL
from evaluation.importance import mean_interval
from evaluation.judge import Judged, blocks_of, pooled
from evaluation.metrics import losses


def blend_figures(market: Market, folds: list[Judged], split: str) -> BlendNLLs:
    """Returns the NLL of the blend and of each member on the windows of a split of all folds.

    Args:
        market: that the folds are of.
        folds: each with the probabilities of the blend, and as baselines those of its members.
        split: "validation" or "test".

    Returns:
        by name, "blend" first; of the members also the blend's NLL less theirs. Intervals are of
        95 % over blocks of time, None where there is one block.
    """
    pool = pooled(folds, split)
    blocks = blocks_of(market, pool.ends)
    of_blend = losses(pool.labels, np.asarray(pool.model, np.float64))
    nlls: BlendNLLs = {"blend": BlendNLL(*mean_interval(of_blend, blocks))}
    for name, probabilities in pool.baselines.items():
        of_member = losses(pool.labels, np.asarray(probabilities, np.float64))
        difference = mean_interval(of_blend - of_member, blocks)
        nlls[name] = MemberNLL(*mean_interval(of_member, blocks), *difference)
    return nlls
