"""An endless walk over cells of unequal weight, even over every stretch of it."""

import numpy as np

from data.batches.quotas import quotas

_FINENESS = 100  # visits of the lightest cell in a cycle: no share is off by more than 1 %
_LONGEST = 1 << 16  # places of a cycle, unless there are very many cells
_GOLDEN = (5**0.5 - 1) / 2


class Cycle:
    """Visits cells in proportion to their weights, each at times that are evenly spaced.

    The places of a cycle are in a fixed order, so what lies before any place is known in closed
    form. A cell whose weight is above 0 has at least one place.

    Args:
        weights: of the cells, (cells,), not negative, any scale.
    """

    def __init__(self, weights: np.ndarray):
        self._counts = _counts(np.asarray(weights, np.float64))
        # A cell with n places comes up at (i + its offset) / n. Offsets are spread over 0..1, so
        # that cells with equally many places do not come up all at once.
        cells = np.repeat(np.arange(len(self._counts)), self._counts)
        number = np.arange(len(cells)) - np.repeat(
            np.cumsum(self._counts) - self._counts, self._counts
        )
        times = (number + cells * _GOLDEN % 1) / self._counts[cells]
        self._order = cells[np.argsort(times, kind="stable")].astype(np.int32)

    def cells(self, begin: int, count: int) -> np.ndarray:
        """Returns the cells at `count` places of the walk from `begin` on, int32 (count,)."""
        return self._order[(begin + np.arange(count)) % len(self._order)]

    def visits(self, begin: int, count: int) -> np.ndarray:
        """Returns how many of these places each cell has, int64 (cells,)."""
        rounds, rest = divmod(count, len(self._order))
        late = np.bincount(self.cells(begin, rest), minlength=len(self._counts))
        return rounds * self._counts + late


def _counts(weights: np.ndarray) -> np.ndarray:
    """Returns how many places of a cycle each cell has, int64 (cells,)."""
    some = weights > 0
    exact = np.ceil(_FINENESS * weights.sum() / weights[some].min() - 1e-6)
    counts = quotas(weights, int(min(exact, max(_LONGEST, _FINENESS * some.sum()))))
    counts[some] = np.maximum(counts[some], 1)
    return counts // np.gcd.reduce(counts)
