"""The weight of each forecaster in a mean of probabilities, by blocks of validation time.

The NLL of the mixture, -log sum_m w_m p_m of the true class, is convex in the weights (Hall and
Mitchell 2007, International Journal of Forecasting 23:1). Its lowest point on few blocks of time is
mostly luck, and equal weights are hard to beat (Stock and Watson 2004, Journal of Forecasting
23:405). So the fitted weights are shrunk towards equal ones: the share of their distance that is
kept is the share of their gain that remains on blocks that the weights were not fitted to. Where
nothing remains, the weights are equal.

A mean of probabilities and one of their logarithms were as good (validation blocks left out, three
markets: 0.9110 and 0.9109, 1.0941 and 1.0941); the first is what ensembles do.
"""

import numpy as np
from scipy.optimize import minimize

MOST_PARTS = 20  # of the blocks, each left out once
_LEAST = 1e-12  # of a probability


def blend_weights(of_true: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Returns the weight of each member, all 0 or more with the sum 1, float64 (members,).

    Args:
        of_true: each member's probability of the true class of each window, (windows, members).
        blocks: number of each window's block of time, 0.. without holes, (windows,).
    """
    of_true = np.maximum(np.asarray(of_true, np.float64), _LEAST)
    equal = np.full(of_true.shape[1], 1 / of_true.shape[1])
    num_blocks = int(blocks.max()) + 1
    parts = blocks * min(num_blocks, MOST_PARTS) // num_blocks
    fitted = _fitted(of_true)
    of_equal = _losses(of_true, equal)
    gain = (of_equal - _losses(of_true, fitted)).mean()
    if num_blocks < 2 or gain <= 0:
        return equal
    without = np.empty(len(of_true))
    for part in np.unique(parts):
        left = parts == part
        without[left] = _losses(of_true[left], _fitted(of_true[~left]))
    kept = np.clip((of_equal - without).mean() / gain, 0, 1)
    return equal + kept * (fitted - equal)


def _losses(of_true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return -np.log(of_true @ weights)


def _fitted(of_true: np.ndarray) -> np.ndarray:
    """Returns the weights of the lowest NLL."""

    def nll(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(of_true @ weights, _LEAST)
        return -np.log(mixed).mean(), -(of_true / mixed[:, None]).mean(axis=0)

    num_members = of_true.shape[1]
    lowest = minimize(
        nll,
        np.full(num_members, 1 / num_members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * num_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    weights = np.clip(lowest.x, 0, None)
    return weights / weights.sum()
