"""A book that is long in the most favoured fifth of the symbols and short in the least favoured.

At a bar's close the symbols are ranked by the answers. One unit of capital goes long in the best
fifth and one unit short in the worst, at equal weights, from the next bar's open to the horizon's
close. The book is rebalanced every horizon. The bar it starts on would be a matter of luck, so one
book starts on each bar, and they share the capital (Jegadeesh and Titman 1993, The Journal of
Finance 48:65). Costs are paid on what changes at a rebalance. Weights do not drift in between,
gains are not reinvested, each is booked on the bar of its rebalance, and what a symbol that stays
in the book does between the horizon's close and the next open is left out.
"""

import numpy as np
from scipy.stats import rankdata

from data.market.windows import subsample
from evaluation.across.panel import LEAST_SYMBOLS, mean_over_bars
from evaluation.figures.scores import Book, Estimate

FIFTHS = 5
MOST_POINTS = 200  # of a curve
_FEWEST_STEPS = 5  # for a Sharpe ratio
_YEAR = np.timedelta64(31_557_600, "s")
_BASIS_POINTS = 1e4


def fifths(favour: np.ndarray, traded: np.ndarray) -> np.ndarray:
    """Returns the fifth of each symbol at each bar, int8 (bars, symbols), 0 the worst; -1: none.

    Symbols that are equally favoured are in one fifth, that of their mean rank: where all are, the
    fifths at the ends are empty.

    Args:
        favour: the larger, the better, (bars, symbols), NaN where unknown.
        traded: log returns, (bars, symbols), NaN where nothing can be traded.
    """
    both = np.isfinite(favour) & np.isfinite(traded)
    count = both.sum(axis=1, keepdims=True)
    ranks = rankdata(np.where(both, favour, np.nan), axis=1, nan_policy="omit")
    places = np.floor((ranks - 0.5) * FIFTHS / np.maximum(count, 1))
    return np.where(both & (count >= LEAST_SYMBOLS), places, -1).astype(np.int8)


def returns_of_fifths(
    members: np.ndarray, traded: np.ndarray, blocks: np.ndarray
) -> list[Estimate]:
    """Returns the return of each fifth above the mean of all symbols, the worst fifth first.

    Args:
        members: from `fifths`.
        traded: log returns, (bars, symbols).
        blocks: of each bar, (bars,).

    Returns:
        for each fifth its mean in basis points; see `mean_over_bars`.
    """
    gains = np.where(members >= 0, np.expm1(traded), 0.0)
    of_all = _mean(gains, members >= 0)
    excess = [_mean(gains, members == fifth) - of_all for fifth in range(FIFTHS)]
    return [mean_over_bars(_BASIS_POINTS * values, blocks) for values in excess]


def book_weights(members: np.ndarray) -> np.ndarray:
    """Returns the share of the capital in each symbol, negative where short, (bars, symbols).

    Nothing is held where one of the fifths at the ends is empty.
    """
    best, worst = members == FIFTHS - 1, members == 0
    num_best, num_worst = (side.sum(axis=1, keepdims=True) for side in (best, worst))
    held = best / np.maximum(num_best, 1) - worst / np.maximum(num_worst, 1)
    return np.where((num_best > 0) & (num_worst > 0), held, 0.0)


def traded_value(weights: np.ndarray, holding_bars: int) -> np.ndarray:
    """Returns the value bought and sold at each rebalance, in units of the capital, (bars,).

    The books of all starts are opened in the first `holding_bars` bars and closed after the last.
    """
    held = np.zeros_like(weights)
    held[holding_bars:] = weights[:-holding_bars]
    traded = np.abs(weights - held).sum(axis=1)
    last = slice(max(len(weights) - holding_bars, 0), None)
    traded[last] += np.abs(weights[last]).sum(axis=1)
    return traded


def best_against_worst(
    times: np.ndarray,
    members: np.ndarray,
    traded: np.ndarray,
    blocks: np.ndarray,
    *,
    holding_bars: int,
    cost_bps: float,
) -> Book:
    """Returns the results of the book.

    Args:
        times: of the bars, datetime64 (bars,).
        members: from `fifths`, (bars, symbols).
        traded: log return from the next bar's open to the close `holding_bars` later, (bars,
            symbols).
        blocks: of each bar, (bars,).
        holding_bars: bars from one rebalance to the next.
        cost_bps: cost of each side in basis points of the traded value.

    Returns:
        gross and net (basis points of the capital per rebalance), turnover (value traded at a
        rebalance, in units of the capital; the two sides hold 2), gross_return and net_return
        (shares of the capital over the whole time), sharpe (net, a year, of a single book; None
        where there is too little), drawdown (of the net curve, share of the capital), and the
        curves at `curve_rows`.
    """
    weights = book_weights(members)
    gross = (weights * np.where(members >= 0, np.expm1(traded), 0.0)).sum(axis=1)
    value = traded_value(weights, holding_bars)
    net = gross - value * cost_bps / _BASIS_POINTS
    gross_curve, net_curve = (
        np.concatenate([[0.0], np.cumsum(gains)]) / holding_bars for gains in (gross, net)
    )
    shown = curve_rows(len(times)) + 1
    return Book(
        gross=mean_over_bars(_BASIS_POINTS * gross, blocks),
        net=mean_over_bars(_BASIS_POINTS * net, blocks),
        turnover=float(value.mean()),
        gross_return=float(gross_curve[-1]),
        net_return=float(net_curve[-1]),
        sharpe=_sharpe(net, times, holding_bars),
        drawdown=float((np.maximum.accumulate(net_curve) - net_curve).max()),
        gross_curve=gross_curve[shown].round(6).tolist(),
        net_curve=net_curve[shown].round(6).tolist(),
    )


def curve_rows(num_bars: int) -> np.ndarray:
    """Returns the bars at which the curves are written, at most `MOST_POINTS`."""
    return subsample(num_bars, MOST_POINTS)


def _sharpe(net: np.ndarray, times: np.ndarray, holding_bars: int) -> float | None:
    """Returns mean over spread of a step, times the root of the steps in a year.

    All starts are taken together for both, as one book has them: the mean of several books moves
    less, but only because neighbouring steps overlap.
    """
    steps = len(net) / holding_bars
    if steps < _FEWEST_STEPS or not net.std(ddof=1) > 0:
        return None
    years = (times[-1] - times[0]) / _YEAR * len(times) / (len(times) - 1)
    return float(net.mean() / net.std(ddof=1) * np.sqrt(steps / years))


def _mean(gains: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns the mean of the symbols that count at each bar, NaN without any, (bars,)."""
    count = counted.sum(axis=1)
    sums = np.where(counted, gains, 0.0).sum(axis=1)
    return np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)
