"""Divides a batch among classes, and an endless walk among cells, by whole shares."""

from collections.abc import Sequence

import numpy as np

from core.errors import InputError
from data.market.labels import CLASS_NAMES, class_counts

_FINENESS = 100  # visits of the lightest cell in a cycle: no share is off by more than 1 %
_LONGEST = 1 << 16  # places of a cycle, unless there are very many cells
_GOLDEN = (5**0.5 - 1) / 2


def quotas(ratios: Sequence[float] | np.ndarray, total: int) -> np.ndarray:
    """Returns whole shares of `total` by largest remainder, int64 (classes,); ties go first.

    Args:
        ratios: not negative, any scale.
        total: what the shares add up to.

    Examples:
        >>> quotas([1, 2, 1], 10).tolist()
        [3, 5, 2]
    """
    parts = np.asarray(ratios, np.float64)
    if not (parts.ndim == 1 and np.all(parts >= 0) and 0 < parts.sum() < np.inf):
        raise ValueError(f"ratios must not be negative and not all 0, got {parts.tolist()}")
    exact = parts / parts.sum() * total
    shares = np.floor(exact + 1e-9).astype(np.int64)
    # Rounded, so that equal ratios still have equal remainders after the division.
    order = np.argsort(-np.round(exact - shares, 9), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def check_windows(labels, symbols, batch_size: int, steps_per_epoch: int) -> None:
    """Raises ValueError where the arguments of a plan make none."""
    if not len(labels) or len(labels) != len(symbols):
        raise ValueError(
            "a plan needs at least one window, and a label and a symbol for each; "
            f"got {len(labels)} labels and {len(symbols)} symbols"
        )
    if np.min(labels) < 0:
        raise ValueError("every training window must have a label; some have -1, which means none")
    if batch_size < 1 or steps_per_epoch < 0:
        raise ValueError(
            "a batch must have at least 1 window and an epoch at least 0 batches (0: one pass), "
            f"got {batch_size} and {steps_per_epoch}"
        )


def check_ratios(ratios: Sequence[float] | np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """Returns the ratios of all classes, equal ones for None.

    Raises:
        ValueError: if a class of the labels has none.
    """
    num_classes = 1 + int(np.max(labels))
    checked = np.ones(num_classes) if ratios is None else np.asarray(ratios, np.float64)
    if len(checked) < num_classes:
        raise ValueError(f"every class needs a ratio; {len(checked)} for {num_classes} classes")
    return checked


def class_names(num_classes: int) -> Sequence:
    """Returns what to call the classes: their names, or their codes where there are others."""
    return CLASS_NAMES if num_classes == len(CLASS_NAMES) else range(num_classes)


def check_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the windows of each class, int64 (classes,), at least one.

    Raises:
        ValueError: if a class has none.
    """
    counts = class_counts(labels, num_classes)
    for name, count in zip(class_names(num_classes), counts, strict=True):
        if not count:
            raise InputError(
                "no training window is labelled {name}; its quota cannot be filled", name=name
            )
    return counts


def class_quotas(ratios: np.ndarray, batch_size: int, labels: np.ndarray) -> np.ndarray:
    """Returns the slots of a batch for each class, int64 (classes,), at least one for each.

    Raises:
        InputError: if a class has no window or would have no slot.
    """
    check_classes(labels, len(ratios))
    shares = quotas(ratios, batch_size)
    for name, share in zip(class_names(len(ratios)), shares, strict=True):
        if not share:
            raise InputError(
                "batch size {batch_size} is too small to hold class {name} at the ratios "
                "{ratios}; enlarge the batch or the ratio",
                batch_size=batch_size,
                name=name,
                ratios=ratios.tolist(),
            )
    return shares


def mean_draws(draws: np.ndarray, codes: np.ndarray, names) -> dict[str, dict[str, float]]:
    """Returns by name the windows and the mean draws of one, from those of each window."""
    windows = np.bincount(codes, minlength=len(names))
    drawn = np.bincount(codes, draws, minlength=len(names))
    return {
        str(name): {"windows": int(windows[i]), "repeats": float(drawn[i] / max(windows[i], 1))}
        for i, name in enumerate(names)
    }


class Cycle:
    """An endless walk over cells in proportion to their weights, even over every stretch of it.

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
