"""The best answers there are for a made-up market, by the rule that it was made by.

They are those of an observer who sees the bars up to now, knows that rule and the hidden
volatility, but not the drift: its chances follow from the moves so far by Bayes' rule (the forward
filter of a hidden Markov chain). What the drift does until the end of the label is simulated; the
volatility is taken to stay, which by its slow steps changes next to nothing, but for the clock,
which the observer knows.

Probabilities are one thing, calls another: which calls reach the highest MCC is in `best_calls`.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from data.bars.synthetic import (
    DRIFT_STRENGTH,
    MEAN_DURATION,
    hidden_volatility,
    parsed,
    read_synthetic,
)
from data.market.labels import past_scale

SIGNS = np.array([-1.0, 0.0, 1.0])  # of the drift, equally often
SIMULATED = 4000  # futures of the drift
GRID = np.linspace(-30, 30, 1201)  # moves in units of a bar's volatility
_EQUAL = 1e-9  # differences of probabilities that are rounding


def best_probabilities(text: str, *, label_method: str, threshold: float, horizon: int):
    """Returns the best P(SELL, HOLD, BUY) at each bar of the market that the text names.

    Args:
        text: such as `synthetic:walk?bars=5000`.
        label_method: "volatility" or "fixed"; the paths of "triple_barrier" are not followed.
        threshold: of the labels, as in `data.market.labels.label_scores`.
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
        volatility, coming = hidden_volatility(
            name, number, values["num_bars"], values["seed"], horizon
        )
        moves = np.log(close / bars["open"].to_numpy()) / volatility
        chances = _filtered(moves, strength)
        if label_method == "fixed":
            low, high = np.log1p(-threshold), np.log1p(threshold)
        else:
            high = threshold * past_scale(close, horizon)
            low = -high
        sell = _mixed(chances, below, low / coming)
        buy = 1 - _mixed(chances, below, high / coming)
        found[str(symbol)] = np.column_stack([sell, 1 - sell - buy, buy])
    return found


def best_calls(
    probabilities: np.ndarray, starts: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, float]:
    """Returns the calls of the highest MCC that is expected by the probabilities themselves.

    With shares of the windows t (true) and P (called), and c of hits, Gorodkin's MCC (2004) is
    (c - P t) / sqrt((1 - P P) (1 - t t)), t being fixed. A window's part in it grows by
    p_j - t_j + P_j (c - P t) / (1 - P P) where it is called j. Calling the largest of these again
    and again climbs, since the MCC is quasi-convex in the table of true and called; it ends in few
    steps at calls that no small change betters.

    Args:
        probabilities: (windows, classes).
        starts: calls to climb from, (windows,) each, beside the most probable classes, and those
            with the largest p / t and p - t.

    Returns:
        the calls, int64 (windows,), and the MCC expected of them. Of equal classes it is the first.
    """
    p = np.asarray(probabilities, np.float64)
    true = p.mean(axis=0)
    firsts = [_first_largest(grounds) for grounds in (p, p / true, p - true)]
    found = [_climbed(p, true, called) for called in [*firsts, *starts]]
    return max(found, key=lambda calls_and_mcc: calls_and_mcc[1])


def _climbed(p: np.ndarray, true: np.ndarray, called: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the calls where climbing from some ends, and the MCC expected of them."""
    best = called, -np.inf
    while True:
        hits = p[np.arange(len(p)), called].mean()
        shares = np.bincount(called, minlength=len(true)) / len(p)
        gain, spread = hits - shares @ true, 1 - shares @ shares
        mcc = float(gain / np.sqrt(spread * (1 - true @ true))) if spread else 0.0
        if mcc <= best[1] + _EQUAL:
            return best
        best = called, mcc
        if spread:
            called = _first_largest(p - true + shares * gain / spread)


def _first_largest(values: np.ndarray) -> np.ndarray:
    """Returns the first class whose value is the largest but for rounding, int64 (windows,)."""
    return (values >= values.max(axis=1, keepdims=True) - _EQUAL).argmax(axis=1)


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
