"""Plans batches: which training windows each holds, by class, symbol and hardness quotas.

All batches of an epoch are one table, a pure function of (seed, epoch) and of the hard pools that
were set. It is made when a batch of the epoch is first asked for, and kept for that epoch only.

How it works: a cell holds the windows of one class and one symbol; the switches merge cells. Each
class has its quota of every batch. Its slots go round the symbols, the first slots are the hard
ones. The slots of a cell walk through one shuffled pass over its windows after the other; where an
epoch goes on is the number of slots that the cell had in all epochs before.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.pools import HardPools, PooledPlan
from data.quotas import (
    Group,
    check_ratios,
    check_windows,
    class_names,
    class_quotas,
    mean_draws,
    quotas,
)

# Last words of seeds, so that no two uses draw the same numbers.
_WALK, _HARD_WALK, _SHUFFLE, _HARD_CLASS, _FIRST_CELLS = 1, 2, 3, 4, 5


class BatchPlan(PooledPlan):
    """Plans the batches of all epochs over n training windows.

    Passes over a cell go on from epoch to epoch: every window is reached, and none is drawn again
    (except as a hard one) before all others of its cell were drawn. With everything off an epoch
    is a plain shuffle, a new pass over all windows; its last batch is filled up from a second.

    Args:
        labels: class codes of the windows, (n,).
        symbols: symbol codes of the windows, (n,).
        batch_size: windows in every batch.
        seed: at least 0.
        class_ratios: of the classes in a batch, any scale; None: equal.
        balance_classes: whether every batch has exactly the quotas of the ratios.
        balance_symbols: whether the slots of a class go round the symbols that have it.
        hard_share: share of a batch drawn from the hard pool, for each epoch; None: no hard
            windows. While a class has no pool, its hard slots walk over all its windows.
        steps_per_epoch: batches of an epoch; 0: as many as one pass over all windows needs.

    Raises:
        ValueError: if there are no windows, or a quota cannot be filled.
    """

    def __init__(
        self,
        labels: np.ndarray,
        symbols: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        class_ratios: Sequence[float] | None = None,
        balance_classes: bool = False,
        balance_symbols: bool = False,
        hard_share: Callable[[int], float] | None = None,
        steps_per_epoch: int = 0,
    ):
        check_windows(labels, symbols, batch_size, steps_per_epoch)
        self.labels, self.symbols = np.asarray(labels), np.asarray(symbols)
        self.batch_size, self.seed, self.hard_share = int(batch_size), int(seed), hard_share
        ratios = check_ratios(class_ratios, self.labels)
        self.num_classes = len(ratios)
        self.num_batches = int(steps_per_epoch) or -(-len(self.labels) // self.batch_size)
        self._by_class, self._by_symbol = balance_classes, balance_symbols
        if balance_classes:
            self._quotas = class_quotas(ratios, self.batch_size, self.labels)
        else:
            self._quotas = np.array([self.batch_size])
        self._groups = self._make_groups()
        self._plain = not (balance_classes or balance_symbols or hard_share or steps_per_epoch)
        self._pools = HardPools(self.labels, hard_share)
        self._made: tuple[int, np.ndarray] | None = None  # the epoch and its table

    @property
    def class_prior(self) -> np.ndarray:
        """The class distribution of the stream of batches, float64 (classes,).

        The quotas where classes are balanced. Else the natural frequencies, those of the mean
        symbol where symbols are balanced.
        """
        if self._by_class:
            return self._quotas / self.batch_size
        counts = [
            np.bincount(self.labels[cell], minlength=self.num_classes) / len(cell)
            for cell in self._groups[0].cells
        ]
        return np.mean(counts, axis=0)

    def indices(self, epoch: int, index: int) -> np.ndarray:
        """Returns the windows of a batch: positions 0..n-1, int32 (batch_size,), not to change."""
        if not 0 <= index < self.num_batches:
            raise IndexError(f"an epoch has {self.num_batches} batches; there is none at {index}")
        return self.table(epoch)[index]

    def table(self, epoch: int) -> np.ndarray:
        """Returns the windows of all batches of an epoch, int32 (batches, batch_size)."""
        made = self._made  # read once: Keras may ask from several threads
        if made is None or made[0] != epoch:
            made = self._made = epoch, self._make_table(epoch)
        return made[1]

    def _forget(self) -> None:
        self._made = None

    def effective_repeats(self, epoch: int) -> dict[str, Any]:
        """Returns how often an epoch draws a window, per class and per symbol; JSON values.

        Args:
            epoch: all its batches are planned for this.

        Returns:
            `classes` and `symbols`: by name or code the `windows`, and the mean `repeats` of one;
            `reached`: share of the windows drawn at all; `largest`: draws of the most drawn one.
        """
        draws = np.bincount(self.table(epoch).ravel(), minlength=len(self.labels))
        return {
            "epoch": int(epoch),
            "batches": self.num_batches,
            "reached": float((draws > 0).mean()),
            "largest": int(draws.max()),
            "classes": mean_draws(draws, self.labels, class_names(self.num_classes)),
            "symbols": mean_draws(draws, self.symbols, range(self.symbols.max() + 1)),
        }

    def _make_groups(self) -> list[Group]:
        groups, offset = [], 0
        for number, quota in enumerate(self._quotas.tolist()):
            in_group = self.labels == number if self._by_class else np.ones(len(self.labels), bool)
            members = np.flatnonzero(in_group).astype(np.int32)
            codes, cells = [0], [members]
            if self._by_symbol:
                found = _places(self.symbols[members])
                codes, cells = [code for code, _ in found], [members[at] for _, at in found]
            rng = np.random.default_rng((self.seed, len(cells), _FIRST_CELLS))
            first_cells = rng.permutation(len(cells))
            groups.append(Group(quota, offset, codes, cells, first_cells))
            offset += quota
        return groups

    def _make_table(self, epoch: int) -> np.ndarray:
        num_hard, parts = self._num_hard(epoch), []
        for number, group in enumerate(self._groups):
            if num_hard[number]:
                parts.append(self._draw_hard(number, num_hard[number], epoch))
            slots = self._slots(group, epoch, num_hard[number], group.quota)
            before = self._before(number, 0, epoch, hard=False)
            drawn = np.empty(slots.size, np.int32)
            for cell, places in _places(slots.ravel()):
                walk = before[cell] + np.arange(len(places))
                drawn[places] = self._walk((number, cell, _WALK), group.cells[cell], walk)
            parts.append(drawn.reshape(slots.shape))
        table = np.concatenate(parts, axis=1)
        rng = np.random.default_rng((self.seed, epoch, _SHUFFLE))
        rng.permuted(table, axis=1, out=table)
        table.flags.writeable = False
        return table

    def _draw_hard(self, number: int, num_hard: int, epoch: int) -> np.ndarray:
        """Returns the hard windows of a group in all batches, int32 (batches, num_hard)."""
        group = self._groups[number]
        since, _ = self._pools.at(epoch)
        slots = self._slots(group, epoch, 0, num_hard)
        before = self._before(number, since, epoch, hard=True)
        drawn = np.empty(slots.size, np.int32)
        for cell, places in _places(slots.ravel()):
            walk = before[cell] + np.arange(len(places))
            labels = np.full(len(places), number)
            if not self._by_class:  # as the windows of the cell would have it
                key = (since, cell, _HARD_CLASS)
                labels = self.labels[self._walk(key, group.cells[cell], walk)]
            for label in np.unique(labels).tolist():
                of_class = labels == label
                windows, shared = self._hard_windows(epoch, label, group, cell)
                at, turns = cell, walk[of_class]
                if shared:  # by all cells of the group, which take turns
                    at, turns = len(group.cells), turns * len(group.cells) + cell
                key = (since, label, at, _HARD_WALK)
                drawn[places[of_class]] = self._walk(key, windows, turns)
        return drawn.reshape(slots.shape)

    def _slots(self, group: Group, epoch: int, low: int, high: int) -> np.ndarray:
        steps = range(epoch * self.num_batches, (epoch + 1) * self.num_batches)
        return group.slots(steps, low, high)

    def _num_hard(self, epoch: int) -> list[int]:
        """Returns the hard slots of each group in a batch of the epoch."""
        return quotas(self._quotas, round(self._pools.share(epoch) * self.batch_size)).tolist()

    def _before(self, number: int, since: int, epoch: int, *, hard: bool) -> np.ndarray:
        """Returns the slots that each cell of a group had in the epochs before, (cells,)."""
        group = self._groups[number]
        if self._plain:  # every epoch begins a pass
            num_passes = -(-self.num_batches * self.batch_size // len(self.labels))
            return np.array([epoch * num_passes * len(self.labels)])
        total = np.zeros(len(group.cells), np.int64)
        for e in range(since, epoch):
            num_hard = self._num_hard(e)[number]
            slots = (0, num_hard) if hard else (num_hard, group.quota)
            begin, end = (group.visits(n * self.num_batches, *slots) for n in (e, e + 1))
            total += end - begin
        return total

    def _hard_windows(self, epoch: int, label: int, group: Group, cell: int):
        """Returns the windows for a hard slot, and whether other cells share them."""
        pool = self._pools.at(epoch)[1].get(label)
        if pool is None:
            windows = group.cells[cell]
            return windows[self.labels[windows] == label], False
        if not self._by_symbol:
            return pool, False
        own = pool[self.symbols[pool] == group.symbols[cell]]
        return (own, False) if len(own) else (pool, True)

    def _walk(self, key: tuple[int, ...], windows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Returns the windows at rising places of the endless walk over shuffled passes."""
        numbers, places = np.divmod(places, len(windows))
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        drawn = []
        for number, part in zip(numbers[np.r_[0, cuts]], np.split(places, cuts), strict=True):
            rng = np.random.default_rng((self.seed, *key[:-1], int(number), key[-1]))
            order = np.arange(len(windows), dtype=np.int32)
            rng.shuffle(order)
            drawn.append(windows[order[part]])
        return np.concatenate(drawn)


def _places(codes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns the codes that occur, rising, each with its places, rising."""
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(codes, kind="stable")
    return list(zip(found.tolist(), np.split(order, np.cumsum(counts)[:-1]), strict=False))
