"""Hands over the bars of many symbols one symbol at a time, and lets go of those already used."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from core.memory import release_memory
from data.bars.peers import learn_peers
from data.market.windows import symbol_bounds


def by_symbol(
    bars: pd.DataFrame | Iterable[pd.DataFrame], passed: Callable[[int], None] | None = None
) -> Iterable[pd.DataFrame]:
    """Returns the bars of one symbol at a time, to go through once; lets go of those already used.

    Args:
        bars: as `data.bars.read.read_bars` returns them; an iterable of frames of one symbol each
            is passed on, and of these each symbol's calendar is learnt from its own bars alone.
        passed: called before each symbol with the number of bars that came before.
    """
    if not isinstance(bars, pd.DataFrame):
        return bars
    return SymbolParts(bars, passed or (lambda num_bars: None))


class SymbolParts:
    """The bars of many symbols, one after the other; see `by_symbol`.

    Attributes:
        peers: when other symbols trade, by symbol: see `data.bars.peers.learn_peers`.
    """

    def __init__(self, bars: pd.DataFrame, passed: Callable[[int], None]):
        self.peers = learn_peers(bars)
        self._bars, self._passed = [bars], passed

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yields the bars of every symbol."""
        parts = _divided(self._bars.pop())
        release_memory()  # the undivided columns, where the caller has let go of them
        num_bars = 0
        while parts:
            self._passed(num_bars)
            num_bars += len(parts[0][1]["timestamp"])
            yield _frame(*parts.pop(0))  # which nothing here holds on to
            release_memory()  # what was made on the way to the symbol's rows


def _divided(bars: pd.DataFrame) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Returns name and columns of every symbol, copied column by column."""
    codes = bars["symbol"].cat.codes.to_numpy()
    names = bars["symbol"].cat.categories
    bounds = symbol_bounds(codes)
    parts: list[tuple[str, dict]] = [(str(names[codes[start]]), {}) for start in bounds[:-1]]
    for name in bars.columns.drop("symbol"):
        values = bars[name].to_numpy("datetime64[ns]" if name == "timestamp" else float)
        for (_name, columns), start, stop in zip(parts, bounds[:-1], bounds[1:], strict=True):
            columns[name] = values[start:stop].copy()
    return parts


def _frame(symbol: str, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    codes = np.zeros(len(columns["timestamp"]), np.int8)
    symbols = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype([symbol]))
    return pd.DataFrame({**columns, "symbol": symbols}, copy=False)
