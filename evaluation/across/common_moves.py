"""How much of the symbols' moves is common to all, and a remark if it is much."""

import numpy as np

from core.i18n import _
from data.market.market import Fold, Market
from data.times.grid import moments_of

LEAST_SYMBOLS = 4
MUCH = 0.3  # of the variance; below it the labels of one symbol say little of another's
LEAST_MOVES = 30  # of a symbol


def common_variance(moves: np.ndarray, times: np.ndarray, symbols: np.ndarray) -> float | None:
    """Returns the share of the variance of moves that is common to all symbols.

    It is the mean correlation of two symbols at the same bar: if each move is the sum of a common
    one and one of its own, that is the common one's share of the variance. Unlike a comparison
    with the mean over symbols, it is 0 for a few symbols that have nothing in common. Each bar is
    weighted by its pairs of symbols.

    Args:
        moves: log returns over the horizon, finite, (windows,).
        times: of their bars, (windows,).
        symbols: codes, (windows,).

    Returns:
        at most 1, or None with fewer than 4 symbols of 30 moves.
    """
    counts = np.bincount(symbols)
    mean = np.bincount(symbols, moves) / np.maximum(counts, 1)
    apart = moves - mean[symbols]
    spread = np.sqrt(np.bincount(symbols, apart**2) / np.maximum(counts, 1))
    able = (counts >= LEAST_MOVES) & (spread > 0)
    if able.sum() < LEAST_SYMBOLS:
        return None
    kept = able[symbols]
    scaled = apart[kept] / spread[symbols[kept]]
    bars = np.unique(moments_of(times, symbols)[kept], return_inverse=True)[1]
    present = np.bincount(bars)
    # The sum over pairs is (sum^2 - sum of squares) / 2, their number n (n - 1) / 2.
    products = np.bincount(bars, scaled) ** 2 - np.bincount(bars, scaled**2)
    pairs = present * (present - 1)
    return float(products.sum() / pairs.sum()) if pairs.any() else None


def by_heart(market: Market) -> str | None:
    """Returns a warning if features beside the market meet absolute labels, else None.

    On 136 hourly pairs (benchmarks/market.md) this combination was the best of all in validation,
    and worse than the constant prior on test windows.
    """
    if market.settings.relative or not market.settings.features.market:
        return None
    return _(
        "with absolute labels, MARKET_FEATURES learnt the common path of the training time by "
        "heart on real bars, and test windows came out worse than the class frequencies; "
        "LABEL_REFERENCE=market did better"
    )


def common_moves(market: Market, fold: Fold) -> str | None:
    """Returns a sentence on how much of the training moves is common; None if it is little.

    Also None for labels relative to the market.

    Args:
        market: of the fold.
        fold: only its training windows are used.
    """
    if market.settings.relative:
        return None
    rows = fold.train[np.isfinite(market.forward_return[fold.train])]
    moves = market.forward_return[rows].astype(np.float64)
    share = common_variance(moves, market.timestamps[rows], market.symbols[rows])
    if share is None or share < MUCH:
        return None
    return _(
        "{share:.0%} of the variance of {horizon}-bar moves is common to all symbols; "
        "LABEL_REFERENCE=market asks instead which symbols do better than the market",
        share=share,
        horizon=market.future_window,
    )
