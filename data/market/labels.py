"""Labels bars SELL, HOLD or BUY by the bars after them; the class order lives here.

A label at row t describes the bars t+1 .. t+horizon and starts from the close of row t, the last
bar that a window ending at t shows. The last `horizon` rows of a symbol have no label.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.errors import InputError
from data.features.indicators import realised_volatility

CLASS_NAMES = ("SELL", "HOLD", "BUY")
SELL, HOLD, BUY, UNLABELLED = 0, 1, 2, -1
METHODS = ("volatility", "fixed", "triple_barrier")
VOLATILITY_BARS = 96  # bars of the past volatility; below WARM_UP_BARS of the features
_SEARCH_ROWS = 50_000  # rows that the search for a barrier multiple looks at


def forward_return(close: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the log return from the close of row t to that of row t + horizon.

    Returns:
        float64 (bars,); NaN in the last `horizon` rows.
    """
    moves = np.full(len(close), np.nan)
    moves[:-horizon] = np.log(close[horizon:] / close[:-horizon])
    return moves


def trade_return(open_: np.ndarray, close: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the log return that a trade could earn: next bar's open to close of t + horizon.

    Returns:
        float64 (bars,); NaN in the last `horizon` rows.
    """
    moves = np.full(len(close), np.nan)
    count = max(len(close) - horizon, 0)
    moves[:count] = np.log(close[horizon:] / open_[1 : count + 1])
    return moves


def past_scale(close: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the usual size of a log move over the horizon: past volatility x sqrt(horizon).

    Returns:
        float64 (bars,), from the last `VOLATILITY_BARS` one-bar returns up to each row.
    """
    return realised_volatility(close, VOLATILITY_BARS) * np.sqrt(horizon)


def label_moves(bars: pd.DataFrame, method: str, horizon: int) -> np.ndarray:
    """Returns the scores of ONE symbol's bars: BUY above a threshold k, SELL below -k.

    Args:
        bars: `close` is needed, sorted by time.
        method: "fixed": the relative price move close[t + horizon] / close[t] - 1. "volatility"
            and "triple_barrier": the log move in units of `past_scale` (for the barriers it only
            informs; their labels come from `triple_barrier_labels`).
        horizon: bars.

    Returns:
        float32 (bars,); NaN in the last `horizon` rows. A move after a wholly flat past is +-inf.

    Raises:
        InputError: for an unknown method or a horizon below 1.
    """
    check_method(method, horizon)
    close = bars["close"].to_numpy(np.float64)
    moves = forward_return(close, horizon)
    if method == "fixed":
        return np.expm1(moves).astype(np.float32)
    return in_units(moves, past_scale(close, horizon))


def in_units(moves: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns moves in units of a scale, float32; where that is 0 no move is 0, another +-inf."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where((moves == 0) & (scale == 0), 0.0, moves / scale).astype(np.float32)


def label_scores(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns int8 labels (bars,): BUY above the threshold, SELL below minus it, -1 for NaN.

    Examples:
        >>> label_scores(np.array([-1.5, 0.2, 3.0, np.nan]), threshold=1.0).tolist()
        [0, 1, 2, -1]
    """
    labels = np.full(len(scores), HOLD, np.int8)
    labels[scores > threshold] = BUY
    labels[scores < -threshold] = SELL
    labels[np.isnan(scores)] = UNLABELLED
    return labels


def class_counts(labels: np.ndarray, num_classes: int = len(CLASS_NAMES)) -> np.ndarray:
    """Returns how many labels there are of each class, int64 (classes,)."""
    # np.bincount would make a copy of eight times the memory.
    return np.array([np.count_nonzero(labels == code) for code in range(num_classes)])


def choose_multiple(scores: np.ndarray, target_ratios: Sequence[float]) -> float:
    """Returns the threshold that gives HOLD its normalised share of these (training) scores."""
    sizes = scores[~np.isnan(scores)]
    np.abs(sizes, out=sizes)
    if not len(sizes):
        raise InputError("the label threshold needs at least one labelled training row; got none")
    return float(
        np.quantile(sizes, hold_share(target_ratios), method="inverted_cdf", overwrite_input=True)
    )


def hold_share(target_ratios: Sequence[float]) -> float:
    """Returns HOLD's share of the target class ratios (SELL, HOLD, BUY; any scale)."""
    ratios = np.asarray(target_ratios, float)
    if ratios.shape != (3,) or not (ratios > 0).all():
        raise InputError(
            "the target class ratios must be three positive numbers, got {ratios}", ratios=ratios
        )
    return float(ratios[HOLD] / ratios.sum())


def triple_barrier_labels(
    close: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    widths: np.ndarray,
    horizon: int,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Returns which barrier the bars after each row touch first (Lopez de Prado 2018, 3.4).

    The barriers lie at close[t] * exp(+-width[t]); a high or low exactly on one touches it. BUY if
    the upper one is touched in an earlier bar than the lower, SELL the other way round. HOLD if
    neither is touched within the horizon, and, since a bar does not tell which came first, if
    one bar touches both.

    Args:
        close: prices (bars,) of one symbol.
        high: prices (bars,).
        low: prices (bars,).
        widths: log distances (bars,) of the barriers.
        horizon: bars until the vertical barrier.
        rows: positions to label; all by default.

    Returns:
        int8 (rows,); -1 where fewer than `horizon` bars follow.

    Examples:
        >>> close = np.array([100.0, 101, 103, 102, 99, 96])
        >>> widths = np.full(6, 0.025)  # barriers at +-2.5 %
        >>> triple_barrier_labels(close, close, close, widths, horizon=2).tolist()
        [2, 1, 0, 0, -1, -1]
    """
    rows = np.arange(len(close)) if rows is None else rows
    labels = np.full(len(rows), UNLABELLED, np.int8)
    complete = rows < len(close) - horizon
    start = rows[complete]
    upper, lower = close[start] * np.exp(widths[start]), close[start] * np.exp(-widths[start])
    outcomes = np.full(len(start), HOLD, np.int8)
    undecided = np.ones(len(start), bool)
    for ahead in range(1, horizon + 1):
        up, down = high[start + ahead] >= upper, low[start + ahead] <= lower
        outcomes[undecided & up & ~down] = BUY
        outcomes[undecided & down & ~up] = SELL
        undecided &= ~(up | down)
    labels[complete] = outcomes
    return labels


def choose_barrier_multiple(
    close: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    scale: np.ndarray,
    horizon: int,
    rows: np.ndarray,
    target_ratios: Sequence[float],
) -> float:
    """Returns the multiple of `scale` that gives HOLD its share among these (training) rows.

    Looks at 50,000 rows spread evenly over `rows` at most. Every row must have its horizon.
    """
    share = hold_share(target_ratios)
    rows = rows[:: max(1, -(-len(rows) // _SEARCH_ROWS))]
    rows = rows[scale[rows] > 0]
    if not len(rows):
        raise InputError("the barriers need training rows with some past volatility; got none")
    reach = _reach(close, high, low, scale, horizon, rows)
    lowest, best = 0.0, share
    # `reach` alone would leave `share` of the rows untouched; bars that touch both barriers are
    # HOLD as well, so the quantile sought lies somewhat lower. Two passes of a grid find it.
    for _pass in range(2):
        levels = np.linspace(lowest, best, 17)
        multiples = np.quantile(reach, levels)
        gaps = [
            abs(
                (triple_barrier_labels(close, high, low, k * scale, horizon, rows) == HOLD).mean()
                - share
            )
            for k in multiples
        ]
        nearest = int(np.argmin(gaps))
        lowest, best = levels[max(nearest - 1, 0)], levels[min(nearest + 1, 16)]
    return float(multiples[nearest])


def average_uniqueness(ends: np.ndarray, horizon: int) -> np.ndarray:
    """Returns how unique each window's label is: the mean of 1 / (labels alive) over its bars.

    Labels alive at a bar are those of the same symbol and of the given windows that look at it
    (Lopez de Prado 2018, 4.3). Windows that stand alone get 1; stride-1 windows about 1 / horizon.

    Args:
        ends: end rows (windows,) of the windows; none may look beyond its symbol.
        horizon: bars of a label.

    Returns:
        float32 (windows,) in (0, 1].
    """
    if not len(ends):
        return np.zeros(0, np.float32)
    first = int(ends.min())
    changes = np.zeros(int(ends.max()) - first + horizon + 2, np.int64)
    np.add.at(changes, ends - first + 1, 1)
    np.add.at(changes, ends - first + 1 + horizon, -1)
    alive = np.cumsum(changes)
    shares = np.concatenate([[0.0], np.cumsum(1.0 / np.maximum(alive, 1))])
    start = ends - first + 1
    return ((shares[start + horizon] - shares[start]) / horizon).astype(np.float32)


def _reach(close, high, low, scale, horizon, rows) -> np.ndarray:
    """Returns the largest log excursion within the horizon in units of the scale, (rows,)."""
    top, bottom = high[rows + 1], low[rows + 1]
    for ahead in range(2, horizon + 1):
        np.maximum(top, high[rows + ahead], out=top)
        np.minimum(bottom, low[rows + ahead], out=bottom)
    up, down = np.log(top / close[rows]), np.log(close[rows] / bottom)
    return np.maximum(np.maximum(up, down), 0.0) / scale[rows]


def check_method(method: str, horizon: int) -> None:
    """Raises InputError for an unknown label method or a horizon below 1 bar."""
    if method not in METHODS:
        raise InputError(
            "the label method must be one of {methods}, got {method!r}",
            methods=", ".join(METHODS),
            method=method,
        )
    if horizon < 1:
        raise InputError("the label horizon must be at least 1 bar, got {horizon}", horizon=horizon)
