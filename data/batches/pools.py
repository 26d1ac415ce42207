"""Keeps the pools of hard windows: which hold from which epoch on, and the share they get.

The hard share s of a class is a mixture: s of its mass goes to its pool, 1 - s to all its windows.
So below a share of 1 no window is left out, and the mass of a class does not change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.batches.quotas import class_names, mean_draws

# What a hard window may weigh at the most, in its weight without a pool, or a few of them stand for
# the class: the effective sample is at least 0.6 of a class at a share of 0.2, 0.4 at 0.5. Where a
# pool is too small for its share, the share is cut.
MOST_MULTIPLIED = 4
_LEAST = 1e-6  # has a logarithm


@dataclass(frozen=True)
class Mixture:
    """What the pool of a class is given in an epoch.

    Args:
        asked: share of the class's mass that the schedule wants for the pool.
        fraction: share of the class's mass that the pool has by itself.
    """

    asked: float
    fraction: float

    @property
    def share(self) -> float:
        """The share that the pool is given: at most what the bound on the multiplier allows."""
        if self.fraction >= 1:
            return self.asked
        return min(self.asked, (MOST_MULTIPLIED - 1) * self.fraction / (1 - self.fraction))

    @property
    def multiplier(self) -> float:
        """How often a hard window's own weight it has; the others have 1 - share."""
        return 1 - self.share + self.share / self.fraction


class HardPools:
    """The hard windows of each class, by the epoch from which they hold.

    Args:
        labels: class codes of the windows, (windows,).
        share: the hard share for each epoch; None: 0.
    """

    def __init__(self, labels: np.ndarray, share: Callable[[int], float] | None):
        self._labels, self._share = labels, share
        self._pools: dict[int, dict[int, np.ndarray]] = {}
        self._bands: dict[int, np.ndarray] = {}

    def share(self, epoch: int) -> float:
        """Returns the hard share of an epoch.

        Raises:
            ValueError: if it is none.
        """
        share = self._share(epoch) if self._share is not None else 0.0
        if not 0 <= share <= 1:
            raise ValueError(
                f"the hard share of a batch must lie in 0..1, epoch {epoch} has {share}"
            )
        return share

    def at(self, epoch: int) -> tuple[int, dict[int, np.ndarray]]:
        """Returns since when the pools of an epoch hold (0: there are none), and the pools."""
        since = max((e for e in self._pools if e <= epoch), default=0)
        return since, self._pools.get(since, {})

    def bands(self, epoch: int) -> np.ndarray | None:
        """Returns the bands of an epoch, as `set` took them; None where none are known."""
        return self._bands.get(self.at(epoch)[0])

    def set(
        self, pool: Mapping[int, np.ndarray], epoch: int, bands: np.ndarray | None = None
    ) -> None:
        """Sets the hard windows of each class from an epoch on; forgets pools of later epochs.

        Args:
            pool: positions of the hard windows by class code.
            epoch: the first that they are for.
            bands: in which classes' bands each window lies, or would if it were of the class: bit
                k for class k, (windows,); None: not known.

        Raises:
            ValueError: if a class's pool holds anything but windows of the class.
        """
        checked = {}
        for label, positions in pool.items():
            positions = np.asarray(positions, np.int64)
            inside = (positions >= 0) & (positions < len(self._labels))
            if not inside.all() or (self._labels[positions] != label).any():
                raise ValueError(f"the hard pool of class {label} must hold windows of it alone")
            if len(positions):
                checked[int(label)] = np.unique(positions)
        self._pools = {e: p for e, p in self._pools.items() if e < epoch} | {int(epoch): checked}
        self._bands = {e: b for e, b in self._bands.items() if e < epoch}
        if bands is not None:
            self._bands[int(epoch)] = np.asarray(bands, np.uint8)


class PooledPlan:
    """What the plans share: what they draw depends on the pools, and is made anew after them.

    A subclass has the codes of its windows in `labels` and `symbols`, its pools in `_pools`, and in
    `_totals` the mass of each class, (classes,): the sums of `_base`. It forgets in `_forget` what
    it made from other pools.
    """

    labels: np.ndarray
    symbols: np.ndarray
    num_classes: int
    num_batches: int
    _pools: HardPools
    _totals: np.ndarray

    def _base(self, windows: np.ndarray) -> np.ndarray:
        """Returns what windows weigh without quotas of classes and without pools, (windows,)."""
        raise NotImplementedError

    def _drawn(self, epoch: int) -> np.ndarray:
        """Returns how often an epoch draws each window, or what its label weighs, (windows,)."""
        raise NotImplementedError

    def _forget(self) -> None:
        raise NotImplementedError

    @property
    def natural_prior(self) -> np.ndarray:
        """The class distribution that the stream would have without quotas, float64 (classes,)."""
        return self._totals / self._totals.sum()

    def mixtures(self, epoch: int) -> dict[int, Mixture]:
        """Returns what the pool of each class that has one is given in an epoch."""
        wanted = self._pools.share(epoch)
        return {
            label: Mixture(wanted, float(self._base(pool).sum() / self._totals[label]))
            for label, pool in self._pools.at(epoch)[1].items()
        }

    def effective_repeats(self, epoch: int) -> dict[str, Any]:
        """Returns how often an epoch draws a window, per class and per symbol; JSON values.

        Args:
            epoch: all its batches are planned for this.

        Returns:
            `classes` and `symbols`: by name or code the `windows`, and the mean `repeats` of one;
            `reached`: share of the windows drawn at all; `largest`: draws of the most drawn one.
            Of sequences it is weights instead of draws.
        """
        drawn = self._drawn(epoch)
        return {
            "epoch": int(epoch),
            "batches": self.num_batches,
            "reached": float((drawn > 0).mean()),
            "largest": drawn.max().item(),
            "classes": mean_draws(drawn, self.labels, class_names(self.num_classes)),
            "symbols": mean_draws(drawn, self.symbols, range(self.symbols.max() + 1)),
        }

    def pool_figures(self, epoch: int) -> dict[int, dict[str, float]]:
        """Returns of each class that has a pool what the pool does in an epoch; JSON values.

        Returns:
            by class code: `pool` (windows), `share_asked`, `share_given`, `multiplier`, and
            `effective_size`: (sum of w)^2 / sum of w^2 over the windows of the class, as a share
            of their number. Where windows are drawn, w is the expected draws.
        """
        figures, pools = {}, self._pools.at(epoch)[1]
        for label, mixture in self.mixtures(epoch).items():
            members = np.flatnonzero(self.labels == label)
            weights = self._base(members) * (1 - mixture.share)
            hard = np.isin(members, pools[label], assume_unique=True)
            weights[hard] = self._base(members[hard]) * mixture.multiplier
            figures[label] = {
                "pool": len(pools[label]),
                "share_asked": float(mixture.asked),
                "share_given": float(mixture.share),
                "multiplier": float(mixture.multiplier),
                "effective_size": float(weights.sum() ** 2 / (weights**2).sum() / len(members)),
            }
        return figures

    def set_hard_pool(
        self, pool: Mapping[int, np.ndarray], *, epoch: int, bands: np.ndarray | None = None
    ) -> None:
        """Sets the hard windows of each class from an epoch on, as `HardPools.set` does.

        With `bands` the targets of these epochs are coded, see `coded`.

        Raises:
            ValueError: if a class's pool holds anything but windows of the class.
        """
        self._pools.set(pool, epoch, bands)
        self._forget()

    def coded(self, windows: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the class codes of windows, int32, plus the number of classes times their bands.

        A loss with `hard_offsets` takes both apart, see `models.training.losses.MixedLoss`.
        """
        labels, bands = self.labels[windows].astype(np.int32), self._pools.bands(epoch)
        if bands is None:
            return labels
        return labels + len(self._totals) * bands[windows].astype(np.int32)

    def hard_offsets(self, epoch: int) -> np.ndarray:
        """Returns the logarithm of what a window weighs, if of a class, for being hard or not.

        Returns:
            float32 (2, classes): outside and inside of the class's band, where the thinned pool
            counts by its share of the band; 0 where there is no pool or no band is known.
        """
        offsets, bands = np.zeros((2, len(self._totals)), np.float32), self._pools.bands(epoch)
        if bands is None:
            return offsets
        pools = self._pools.at(epoch)[1]
        for label, mixture in self.mixtures(epoch).items():
            inside = np.flatnonzero((self.labels == label) & (bands >> label & 1 == 1))
            kept = min(self._base(pools[label]).sum() / self._base(inside).sum(), 1.0)
            others = max(1 - mixture.share, _LEAST)
            mean = kept * mixture.multiplier + (1 - kept) * others
            offsets[:, label] = np.log([others, mean])
        return offsets
