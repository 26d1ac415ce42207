"""The best answers there are for a made-up market, by the rule that it was made by.

They are those of an observer who sees the bars up to now, knows that rule and the hidden
volatility, but not the drift: its chances follow from the moves so far by Bayes' rule (the forward
filter of a hidden Markov chain). What the drift does until the end of the label is simulated; the
volatility is taken to stay, which by its slow steps changes next to nothing, but for the clock,
which the observer knows. Where symbols move with a market, the observer tells what a symbol does by
itself from what all do.

Probabilities are one thing, calls another: which calls reach the highest MCC is in `best_calls`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from data.bars.synthetic import (
    COMMON_RATIOS,
    DRIFT_STRENGTH,
    MEAN_DURATION,
    hidden_parts,
    hidden_volatility,
    parsed,
    read_synthetic,
)
from data.market.labels import past_scale
from data.market.relative import LEAST_SYMBOLS, MARKET, market_scales

SIGNS = np.array([-1.0, 0.0, 1.0])  # of the drift, equally often
SIMULATED = 4000  # futures of the drift
POINTS = 1201  # of the grid of moves
_EQUAL = 1e-9  # differences of probabilities that are rounding


def best_probabilities(
    text: str,
    *,
    label_method: str,
    threshold: float,
    horizon: int,
    reference: str = "none",
    min_symbols: int = LEAST_SYMBOLS,
) -> dict[str, np.ndarray]:
    """Returns the best P(SELL, HOLD, BUY) at each bar of the market that the text names.

    Args:
        text: such as `synthetic:walk?bars=5000`.
        label_method: "volatility" or "fixed"; the paths of "triple_barrier" are not followed.
        threshold: of the labels, as in `data.market.labels.label_scores`.
        horizon: bars of a label.
        reference: "none", or "market" for labels of moves less the market's, on markets whose
            symbols have something in common.
        min_symbols: without which there is no market.

    Returns:
        (bars, 3) by symbol name; NaN where labels have no market whose past they are in units of.
    """
    name, values = parsed(text)
    if name in COMMON_RATIOS:
        seen = _seen_beside(name, values, horizon, relative=reference == MARKET)
    else:
        seen = _seen_alone(name, values, horizon)
    parts = {str(s): bars for s, bars in read_synthetic(text).groupby("symbol", observed=True)}
    if reference == MARKET:
        scales = market_scales([*parts.values()], horizon, min_symbols)
    else:
        scales = [past_scale(bars["close"].to_numpy(), horizon) for bars in parts.values()]
    best = {}
    for symbol, scale in zip(parts, scales, strict=True):
        outlook = seen(int(symbol.removeprefix("SYN")), parts[symbol])
        if label_method == "fixed":
            low, high = np.log1p(-threshold), np.log1p(threshold)
        else:
            high = threshold * scale
            low = -high
        sell, buy = outlook.below(low), 1 - outlook.below(high)
        best[symbol] = np.column_stack([sell, 1 - sell - buy, buy])
    return best


@dataclass(frozen=True)
class _Outlook:
    """What is known at each bar of the log move over the horizon.

    Attributes:
        chances: of each sign of the drift now, (bars, signs).
        unit: volatility of a bar, (bars,).
        grid: moves in units of it.
        chances_below: P(the move is below a point of the grid | the sign now), (signs, grid).
        shift: what the move is less than that, in units of it, (bars,).
    """

    chances: np.ndarray
    unit: np.ndarray
    grid: np.ndarray
    chances_below: np.ndarray
    shift: np.ndarray | float = 0.0

    def below(self, moves: np.ndarray | float) -> np.ndarray:
        """Returns P(the move is below these), (bars,)."""
        points = moves / self.unit + self.shift
        by_sign = [np.interp(points, self.grid, chances) for chances in self.chances_below]
        return (self.chances * np.column_stack(by_sign)).sum(axis=1)


def _seen_alone(name: str, values: dict, horizon: int) -> Callable[..., _Outlook]:
    """Returns what is known of symbols that have nothing in common."""
    strength = DRIFT_STRENGTH if name == "persistent_drift" else 0.0
    below = _chances_below(strength, horizon, np.sqrt(horizon))

    def seen(number: int, bars: pd.DataFrame) -> _Outlook:
        volatility, coming = hidden_volatility(
            name, number, values["num_bars"], values["seed"], horizon
        )
        moves = np.log(bars["close"].to_numpy() / bars["open"].to_numpy()) / volatility
        return _Outlook(_filtered(moves, strength), coming, *below)

    return seen


def _seen_beside(name: str, values: dict, horizon: int, *, relative: bool):
    """Returns what is known of symbols that move with a market, to who tells the two apart.

    The market's trimmed mean is taken for the mean, of which a symbol is a part itself.
    """
    volatility, common, single = hidden_parts(
        name, values["num_symbols"], values["num_bars"], values["seed"]
    )
    ratio, count = COMMON_RATIOS[name], len(single)
    rest = 1 - 1 / count if relative else 1.0
    noise = np.sqrt(horizon * (rest if relative else 1 + ratio**2))
    if name == "market_drift":
        strength = 0.0 if relative else DRIFT_STRENGTH
        below = _chances_below(strength * ratio, horizon, noise)
        chances = _filtered(common.sum(axis=1) / (ratio * volatility), strength)
        return lambda number, bars: _Outlook(chances, volatility, *below)
    below = _chances_below(DRIFT_STRENGTH * rest, horizon, noise)
    chances = [_filtered(steps.sum(axis=1) / volatility, DRIFT_STRENGTH) for steps in single]
    ahead = np.array([signs @ _expected(DRIFT_STRENGTH, horizon) for signs in chances])

    def seen(number: int, bars: pd.DataFrame) -> _Outlook:
        others = (ahead.sum(axis=0) - ahead[number]) / count
        return _Outlook(chances[number], volatility, *below, others if relative else 0.0)

    return seen


def _expected(strength: float, horizon: int) -> np.ndarray:
    """Returns the drift expected over the horizon in units of a bar's volatility, (signs,)."""
    stays = (1 - 1 / MEAN_DURATION) ** np.arange(1, horizon + 1)
    return SIGNS * strength * stays.sum()


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
    climbed = [_climbed(p, true, called) for called in [*firsts, *starts]]
    return max(climbed, key=lambda calls_and_mcc: calls_and_mcc[1])


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


def _chances_below(strength: float, horizon: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns moves (grid,), and P(the move over the horizon is below | the sign now).

    Args:
        strength: of the drift, in units of a bar's volatility.
        horizon: bars.
        noise: deviation of all else over the horizon, in the same units.

    Returns:
        the grid and (signs, grid).
    """
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, POINTS) * (strength * horizon + 8 * noise)
    sign = np.repeat(SIGNS[:, None], SIMULATED, axis=1)
    drift = np.zeros_like(sign)
    for _ in range(horizon):
        changed = rng.random(sign.shape) < 1 / MEAN_DURATION
        sign = np.where(changed, rng.choice(SIGNS, size=sign.shape), sign)
        drift += strength * sign
    points, counts = zip(*(np.unique(moves, return_counts=True) for moves in drift), strict=True)
    below = [
        count @ ndtr((grid - point[:, None]) / noise) / SIMULATED
        for point, count in zip(points, counts, strict=True)
    ]
    return grid, np.array(below)
