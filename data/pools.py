"""Keeps the pools of hard windows: which hold from which epoch on, and the share they get."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class HardPools:
    """The hard windows of each class, by the epoch from which they hold.

    Args:
        labels: class codes of the windows, (windows,).
        share: the hard share for each epoch; None: 0.
    """

    def __init__(self, labels: np.ndarray, share: Callable[[int], float] | None):
        self._labels, self._share = labels, share
        self._pools: dict[int, dict[int, np.ndarray]] = {}

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

    def set(self, pool: Mapping[int, np.ndarray], epoch: int) -> None:
        """Sets the hard windows of each class from an epoch on; forgets pools of later epochs.

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
                checked[int(label)] = positions
        self._pools = {e: p for e, p in self._pools.items() if e < epoch} | {int(epoch): checked}

    def get_state(self) -> dict[str, Any]:
        """Returns the pools by epoch and class."""
        return {
            "pools": {
                str(epoch): {str(label): positions for label, positions in pool.items()}
                for epoch, pool in self._pools.items()
            }
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of `get_state`."""
        self._pools = {}
        for epoch, pool in sorted(state["pools"].items(), key=lambda item: int(item[0])):
            self.set({int(label): p for label, p in pool.items()}, int(epoch))


class PooledPlan:
    """What the plans share: what they draw depends on the pools, and is made anew after them.

    A subclass has its pools in `_pools` and forgets in `_forget` what it made from others.
    """

    _pools: HardPools

    def _forget(self) -> None:
        raise NotImplementedError

    def set_hard_pool(self, pool: Mapping[int, np.ndarray], *, epoch: int) -> None:
        """Sets the hard windows of each class from an epoch on; forgets pools of later epochs.

        Raises:
            ValueError: if a class's pool holds anything but windows of the class.
        """
        self._pools.set(pool, epoch)
        self._forget()

    def get_state(self) -> dict[str, Any]:
        """Returns the pools by epoch and class, all that cannot be derived from the arguments."""
        return self._pools.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of `get_state`."""
        self._pools.set_state(state)
        self._forget()
