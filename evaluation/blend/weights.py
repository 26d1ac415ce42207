"""How much each forecaster counts in a mean of probabilities, by blocks of validation time.

The NLL of the mixture, -log sum_m w_m p_m of the true class, is convex in the weights (Hall and
Mitchell 2007, International Journal of Forecasting 23:1). Its lowest point on few blocks of time is
mostly luck, and equal weights are hard to beat (Stock and Watson 2004, Journal of Forecasting
23:405). So the fitted weights are drawn back to equal ones: what is kept of their distance is the
share of their gain on all blocks that is left on blocks that the weights were not fitted to. Where
nothing is left the weights are equal.

A mean of probabilities and one of their logarithms were as good (validation blocks left out, three
markets: 0.9110 and 0.9109, 1.0941 and 1.0941); the first is what ensembles do.
"""

import numpy as np
from scipy.optimize import minimize

MOST_PARTS = 20  # of the blocks, each left out once
_LEAST = 1e-12  # of a probability


def blend_weights(own: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Returns the weight of each member, all 0 or more with the sum 1, float64 (members,).

    Args:
        own: what each member says of the true class of each window, (windows, members).
        blocks: number of each window's block of time, 0.. without holes, (windows,).
    """
    own = np.maximum(np.asarray(own, np.float64), _LEAST)
    equal = np.full(own.shape[1], 1 / own.shape[1])
    num_blocks = int(blocks.max()) + 1
    parts = blocks * min(num_blocks, MOST_PARTS) // num_blocks
    fitted = _fitted(own)
    of_equal = _losses(own, equal)
    gain = (of_equal - _losses(own, fitted)).mean()
    if num_blocks < 2 or gain <= 0:
        return equal
    without = np.empty(len(own))
    for part in np.unique(parts):
        left = parts == part
        without[left] = _losses(own[left], _fitted(own[~left]))
    kept = np.clip((of_equal - without).mean() / gain, 0, 1)
    return equal + kept * (fitted - equal)


def _losses(own: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return -np.log(own @ weights)


def _fitted(own: np.ndarray) -> np.ndarray:
    """Returns the weights of the lowest NLL."""

    def nll(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(own @ weights, _LEAST)
        return -np.log(mixed).mean(), -(own / mixed[:, None]).mean(axis=0)

    num_members = own.shape[1]
    found = minimize(
        nll,
        np.full(num_members, 1 / num_members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * num_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()
