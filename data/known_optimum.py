"""The best answers there are for a made-up market, by the rule that it was made by.

They are those of an observer who sees the bars up to now, knows that rule and the hidden
volatility, but not the drift: its chances follow from the moves so far by Bayes' rule (the forward
filter of a hidden Markov chain). What the drift does until the end of the label is simulated; the
volatility is taken to stay, which by its slow steps changes next to nothing.
"""

import numpy as np
from scipy.special import ndtr

from data.labels import past_scale
from data.synthetic import (
    DRIFT_STRENGTH,
    MEAN_DURATION,
    hidden_volatility,
    parsed,
    read_synthetic,
)

SIGNS = np.array([-1.0, 0.0, 1.0])  # of the drift, equally often
SIMULATED = 4000  # futures of the drift
GRID = np.linspace(-30, 30, 1201)  # moves in units of a bar's volatility


def best_probabilities(text: str, *, label_method: str, threshold: float, horizon: int):
    """Returns the best P(SELL, HOLD, BUY) at each bar of the market that the text names.

    Args:
        text: such as `synthetic:walk?bars=5000`.
        label_method: "volatility" or "fixed"; the paths of "triple_barrier" are not followed.
        threshold: of the labels, as in `data.labels.label_scores`.
        horizon: bars of a label.

    Returns:
        (bars, 3) by symbol name.
    """
    name, values = parsed(text)
    strength = DRIFT_STRENGTH if name == "persistent_drift" else 0.0
    below = _chances_below(strength, horizon)
    found = {}
    for symbol, bars in read_synthetic(text).groupby("symbol", observed=True):
        close = bars["close"].to_numpy()
        number = int(str(symbol).removeprefix("SYN"))
        volatility = hidden_volatility(number, values["num_bars"], values["seed"])
        moves = np.log(close / bars["open"].to_numpy()) / volatility
        chances = _filtered(moves, strength)
        if label_method == "fixed":
            low, high = np.log1p(-threshold), np.log1p(threshold)
        else:
            high = threshold * past_scale(close, horizon)
            low = -high
        sell = _mixed(chances, below, low / volatility)
        buy = 1 - _mixed(chances, below, high / volatility)
        found[str(symbol)] = np.column_stack([sell, 1 - sell - buy, buy])
    return found


def _filtered(moves: np.ndarray, strength: float) -> np.ndarray:
    """Returns the chances of each sign of the drift after each bar, (bars, signs)."""
    likely = np.exp(-0.5 * (moves[:, None] - strength * SIGNS) ** 2)
    chances, now = np.empty_like(likely), np.full(len(SIGNS), 1 / len(SIGNS))
    for row, seen in enumerate(likely):
        now = ((1 - 1 / MEAN_DURATION) * now + 1 / MEAN_DURATION / len(SIGNS)) * seen
        now /= now.sum()
        chances[row] = now
    return chances


def _chances_below(strength: float, horizon: int) -> np.ndarray:
    """Returns P(the move over the horizon < a point of the grid | the sign now), (signs, grid)."""
    rng = np.random.default_rng(0)
    sign = np.repeat(SIGNS[:, None], SIMULATED, axis=1)
    drift = np.zeros_like(sign)
    for _ in range(horizon):
        changed = rng.random(sign.shape) < 1 / MEAN_DURATION
        sign = np.where(changed, rng.choice(SIGNS, size=sign.shape), sign)
        drift += strength * sign
    points, counts = zip(*(np.unique(own, return_counts=True) for own in drift), strict=True)
    return np.array(
        [
            count @ ndtr((GRID - point[:, None]) / np.sqrt(horizon)) / SIMULATED
            for point, count in zip(points, counts, strict=True)
        ]
    )


def _mixed(chances: np.ndarray, below: np.ndarray, moves: np.ndarray | float) -> np.ndarray:
    by_sign = np.column_stack([np.interp(moves, GRID, own) for own in below])
    return (chances * by_sign).sum(axis=1)
