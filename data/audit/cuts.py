"""Where the later bars are taken away, and how: moments to cut at, and bars altered after one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data.bars.formats.faults import NUMBERS, PRICES
from data.features.indicators import WARM_UP_BARS
from data.market.market import Market
from data.times.grid import moments_of

CUT_SHARES = (0.35, 0.55, 0.75, 0.95)  # of all bar times


def moments_of_bars(bars: pd.DataFrame) -> np.ndarray:
    """Returns the moments of bars, see `data.times.grid.moments_of`, (bars,)."""
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    return moments_of(times, pd.factorize(bars["symbol"])[0])


def moments_of_rows(market: Market, bars: pd.DataFrame) -> np.ndarray:
    """Returns the moments of a market's rows among those of the bars it is made of, (rows,)."""
    moments, names = moments_of_bars(bars), bars["symbol"].astype(str).to_numpy()
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    row_moments = np.empty_like(market.timestamps)
    for code, name in enumerate(market.symbol_names):
        positions, rows = np.flatnonzero(names == name), market.symbols == code
        row_moments[rows] = moments[
            positions[np.searchsorted(times[positions], market.timestamps[rows])]
        ]
    return row_moments


def cut_times(bars: pd.DataFrame, shares: Sequence[float] = CUT_SHARES) -> list[np.datetime64]:
    """Returns moments of bars at these shares of all of them."""
    times = np.unique(moments_of_bars(bars))
    return [times[int(share * (len(times) - 1))] for share in shares]


def drawn_cuts(
    bars: pd.DataFrame, num_cuts: int, seed: int = 0, warm_up_bars: int = WARM_UP_BARS
) -> list[np.datetime64]:
    """Returns moments after the warm-up: random ones, and as many in a row from a random one.

    Args:
        bars: of all symbols.
        num_cuts: of either kind; fewer where there are not so many bars.
        seed: of the draw.
        warm_up_bars: before a symbol's first row.
    """
    times = np.unique(moments_of_bars(bars))
    times = times[min(warm_up_bars, len(times) // 2) : -1]  # after the last one nothing comes
    num_cuts, rng = min(num_cuts, len(times)), np.random.default_rng(seed)
    start = rng.integers(len(times) - num_cuts + 1)
    return [*rng.choice(times, num_cuts, replace=False), *times[start : start + num_cuts]]


def alter_bars(bars: pd.DataFrame, later: np.ndarray) -> pd.DataFrame:
    """Returns the bars with every move of the later ones mirrored and resized, and other volumes.

    Each bar's log moves are multiplied by its own factor in -2 .. -1.1, so that neither a mean nor
    an absolute move nor a move relative to volatility stays; times and the order
    low <= open, close <= high do.

    Args:
        bars: sorted by time.
        later: which of them are changed, the last of each symbol, bool (bars,).
    """
    altered = bars.copy()
    rng = np.random.default_rng(0)
    columns = {name: bars[name].to_numpy(float).copy() for name in NUMBERS}
    for rows in bars.groupby("symbol", observed=True, sort=False).indices.values():
        rows = np.asarray(rows)
        rows = rows[later[rows]]
        if len(rows):
            _mirror(columns, rows, rng)
    for name, values in columns.items():
        altered[name] = values
    return altered


def _mirror(columns: dict[str, np.ndarray], rows: np.ndarray, rng: np.random.Generator) -> None:
    """Changes the prices and volumes of one symbol's last rows in place."""
    log = {name: np.log(columns[name][rows]) for name in PRICES}
    before = np.log(columns["close"][rows[0] - 1]) if rows[0] else log["close"][0]
    factor = -rng.uniform(1.1, 2.0, len(rows))
    path = before + np.cumsum(factor * np.diff(log["close"], prepend=before))
    sources = {"open": "open", "high": "low", "low": "high", "close": "close"}
    for name, source in sources.items():
        columns[name][rows] = np.exp(path + factor * (log[source] - log["close"]))
    columns["volume"][rows] *= rng.uniform(1.5, 3.0, len(rows))
