"""Which bars of all symbols are known at a moment, and what they are like together.

A bar is known when it has closed. At a moment a symbol takes part with the last bar that has, as
long as that closed less than one of its own bars ago: where all symbols have bars at the same times
it is the bar of that time, or none where it is missing; bars of other lengths or other clocks are
the last closed ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np

_CELLS = 1 << 20  # moments times symbols looked at at a time
TRIMMED = 0.1  # share of the symbols left out at either end, at least one


class Universe:
    """When the bars of many symbols close.

    Args:
        closes: for each symbol when its bars close, rising, nanoseconds since 1970, (bars,).
        lengths: of a bar of each symbol, nanoseconds.
        members: which of the symbols take part, bool (symbols,); all by default.

    Attributes:
        starts: number of the first bar of each symbol among those of all, then how many there are.
        times: all moments at which a bar closes, rising.
    """

    def __init__(
        self,
        closes: Sequence[np.ndarray],
        lengths: Sequence[int],
        members: np.ndarray | None = None,
    ):
        self.closes, self._lengths = closes, lengths
        self.starts = np.concatenate([[0], np.cumsum([len(own) for own in closes])])
        self._members = np.ones(len(closes), bool) if members is None else members
        self.times = np.unique(np.concatenate([np.zeros(0, np.int64), *closes]))

    def at(self, times: np.ndarray) -> np.ndarray:
        """Returns the number of each symbol's bar at some moments, -1 where it has none.

        Args:
            times: nanoseconds since 1970, (moments,).

        Returns:
            int64 (moments, symbols).
        """
        found = np.full((len(times), len(self.closes)), -1)
        for symbol in np.flatnonzero(self._members):
            own = self.closes[symbol]
            if len(own):
                last = np.searchsorted(own, times, side="right") - 1
                known = (last >= 0) & (times - own[last] < self._lengths[symbol])
                found[known, symbol] = last[known] + self.starts[symbol]
        return found

    def chunks(self, count: int) -> Iterator[slice]:
        """Yields slices of so many moments, of which each is looked at at a time."""
        size = max(_CELLS // max(len(self.closes), 1), 1)
        for start in range(0, count, size):
            yield slice(start, start + size)


def trimmed(values: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the trimmed mean of each moment's values, and their deviation from it.

    Of n symbols the lowest and the highest tenth are left out, and at least one at either end: no
    single symbol can move the mean further than its neighbours are apart (Tukey 1962).

    Args:
        values: (moments, symbols), NaN where a symbol takes no part.
        least: symbols that must, at least 3.

    Returns:
        mean and root mean square deviation of the kept values, float64 (moments,); NaN where too
        few take part. The order of the symbols and absent ones change nothing, not even rounding.
    """
    ranked = np.sort(values, axis=1).astype(np.float64)  # NaN comes last
    count = np.count_nonzero(ranked == ranked, axis=1)
    cut = np.maximum((count * TRIMMED).astype(int), 1)
    place = np.arange(values.shape[1])
    kept = (place >= cut[:, None]) & (place < (count - cut)[:, None])
    enough = count >= least
    number = np.where(enough, count - 2 * cut, 1)
    # Summed from left to right: zeros at the end change no bit.
    mean = np.cumsum(np.where(kept, ranked, 0.0), axis=1)[:, -1] / number
    squares = np.where(kept, ranked - mean[:, None], 0.0) ** 2
    spread = np.sqrt(np.cumsum(squares, axis=1)[:, -1] / number)
    mean[~enough], spread[~enough] = np.nan, np.nan
    return mean, spread
