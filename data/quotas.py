"""Divides a batch among classes and lets each class's slots go round its symbols."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from data.errors import InputError
from data.labels import CLASS_NAMES, class_counts


def quotas(ratios: Sequence[float], total: int) -> np.ndarray:
    """Returns whole shares of `total` by largest remainder, int64 (classes,); ties go first.

    Args:
        ratios: not negative, any scale.
        total: what the shares add up to.
    """
    ratios = np.asarray(ratios, np.float64)
    if not (ratios.ndim == 1 and np.all(ratios >= 0) and 0 < ratios.sum() < np.inf):
        raise ValueError(f"ratios must not be negative and not all 0, got {ratios.tolist()}")
    exact = ratios / ratios.sum() * total
    shares = np.floor(exact + 1e-9).astype(np.int64)
    # Rounded, so that equal ratios still have equal remainders after the division.
    order = np.argsort(-np.round(exact - shares, 9), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def class_quotas(ratios: np.ndarray, batch_size: int, labels: np.ndarray) -> np.ndarray:
    """Returns the slots of a batch for each class, int64 (classes,), at least one for each.

    Raises:
        InputError: if a class has no window or would have no slot.
    """
    counts = class_counts(labels, len(ratios))
    names = CLASS_NAMES if len(counts) == len(CLASS_NAMES) else range(len(counts))
    shares = quotas(ratios, batch_size)
    for name, count, share in zip(names, counts, shares, strict=True):
        if not count:
            raise InputError(f"no training window is labelled {name}; its quota cannot be filled")
        if not share:
            raise InputError(
                f"a batch of {batch_size} has no place for class {name} at the ratios "
                f"{ratios.tolist()}; enlarge the batch or the ratio"
            )
    return shares


@dataclass(frozen=True)
class Cell:
    """The windows of one symbol in a group, sorted by class, and how many of each class."""

    symbol: int
    members: np.ndarray
    class_counts: np.ndarray

    @property
    def frequencies(self) -> np.ndarray:
        """The class distribution, float64 (classes,)."""
        return self.class_counts / self.class_counts.sum()

    def draw_class(self, rng: np.random.Generator) -> int:
        """Returns a class drawn by its frequency."""
        ends = np.cumsum(self.class_counts)
        return np.searchsorted(ends, rng.integers(ends[-1]), side="right")

    def of_class(self, label: int) -> np.ndarray:
        """Returns the windows of a class."""
        stop = self.class_counts[: label + 1].sum()
        return self.members[stop - self.class_counts[label] : stop]


class Group:
    """A quota of every batch, and the cells that its slots go round.

    The slots of step t start at cell offset + t * stride and go round all S from there; the offset
    is where the group before stopped, so that the batch as a whole is even too. The stride has no
    factor in common with S, so within S steps every slot visits every cell once.
    """

    def __init__(self, quota: int, offset: int, batch_size: int, cells: list[Cell]):
        self.quota, self.offset, self.cells = quota, offset, cells
        self.stride = next(s for s in itertools.count(batch_size) if gcd(s, len(cells)) == 1)
        self._inverse = pow(self.stride, -1, len(cells))

    def slots(self, step: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cells of the slots low..high-1 of a step, and how many each had before.

        Returns:
            two int64 arrays (slots,).
        """
        size, slots = len(self.cells), np.arange(low, high)
        cells = (slots + (self.offset + step * self.stride) % size) % size
        return cells, self.visits(cells, step, low, high) + (slots - low) // size

    def visits(self, cells: np.ndarray, steps: int, low: int, high: int) -> np.ndarray:
        """Returns how many slots low..high-1 of the first steps some cells had, (cells,)."""
        size = len(self.cells)
        full, rest = divmod(high - low, size)  # slots that go to all cells of a step, and others
        # The steps, within a round of S, in which one of the others comes to the cell.
        turns = (cells[:, None] - self.offset - low - np.arange(rest)) * self._inverse % size
        rounds, late = divmod(steps, size)
        return steps * full + rounds * rest + (turns < late).sum(axis=1)
