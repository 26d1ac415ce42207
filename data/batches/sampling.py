"""Plans batches: which training windows each holds, by class, symbol and hardness quotas.

All batches of an epoch are one table, a pure function of (seed, epoch) and of the hard pools that
were set. It is made when a batch of the epoch is first asked for, and kept for that epoch only.

How it works: a cell holds the windows of one class and one symbol; the switches merge cells. Each
class has its quota of every batch, and its slots go through its cells in proportion to their
weights, see `data.batches.quotas`. Every so many of the slots, as the hard share says, is a hard
one: it goes through cells of the pool. The slots of a cell walk through one shuffled pass over its
windows after the other; where an epoch goes on is the number of slots that the cell had before.

Symbols have equal weight, but not inside a class: a symbol without SELL in 9 of 10 windows must
not have as many SELL slots as another, or the network learns class shares that no symbol has, and
no one correction by the prior gives them back. So cell (c, s) weighs P(c | s).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.batches.pools import HardPools, PooledPlan
from data.batches.quotas import (
    Cycle,
    check_ratios,
    check_windows,
    class_quotas,
)

_WALK, _HARD_WALK, _SHUFFLE = 1, 2, 3  # last words of seeds, so that no two draw the same numbers


@dataclass(frozen=True)
class _Group:
    """A quota of every batch, and the cells that its slots go through, all of the same classes."""

    number: int
    quota: int
    members: np.ndarray  # windows of all cells
    cells: list[np.ndarray]  # windows of each
    cycle: Cycle


@dataclass(frozen=True)
class _HardCells:
    """What the hard slots of a group go through."""

    windows: Sequence[np.ndarray]  # of each cell
    labels: np.ndarray  # class of each cell, (cells,)
    of_pool: np.ndarray  # whether it holds windows of a pool, or any of the class, bool (cells,)
    masses: np.ndarray  # (cells,); those of a class's pool, and of its others, sum to its total


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
        balance_symbols: whether all symbols have equal weight, and are spread over every batch.
        hard_share: share of each class's slots that is drawn from its hard pool, for each epoch,
            the rest from all its windows, see `data.batches.pools`; None: no hard windows.
        steps_per_epoch: batches of an epoch; 0: as many as one pass over all windows needs.

    Raises:
        ValueError: if there are no windows, or a quota cannot be filled.

    Examples:
        >>> labels, symbols = np.array([0, 1, 1, 1, 1, 2] * 5), np.arange(30) % 3
        >>> plan = BatchPlan(labels, symbols, batch_size=6, seed=0, balance_classes=True)
        >>> np.bincount(labels[plan.indices(epoch=0, index=0)]).tolist()
        [2, 2, 2]
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
        symbol_sizes = np.bincount(self.symbols)
        self._of_symbol = 1 / np.maximum(symbol_sizes if balance_symbols else 1, 1)
        self._of_symbol = np.broadcast_to(self._of_symbol, symbol_sizes.shape)
        self._totals = np.bincount(self.labels, self._of_symbol[self.symbols], self.num_classes)
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
        return self._quotas / self.batch_size if self._by_class else self.natural_prior

    def indices(self, epoch: int, index: int) -> np.ndarray:
        """Returns the windows of a batch: positions 0..n-1, int32 (batch_size,), not to change."""
        if not 0 <= index < self.num_batches:
            raise IndexError(f"need a batch from 0 to {self.num_batches - 1}, got {index}")
        return self.table(epoch)[index]

    def table(self, epoch: int) -> np.ndarray:
        """Returns the windows of all batches of an epoch, int32 (batches, batch_size)."""
        made = self._made  # read once: Keras may ask from several threads
        if made is None or made[0] != epoch:
            made = self._made = epoch, self._make_table(epoch)
        return made[1]

    def _forget(self) -> None:
        self._made = None

    def _drawn(self, epoch: int) -> np.ndarray:
        return np.bincount(self.table(epoch).ravel(), minlength=len(self.labels))

    def _base(self, windows: np.ndarray) -> np.ndarray:
        return self._of_symbol[self.symbols[windows]]

    def _cells(self, windows: np.ndarray) -> list[np.ndarray]:
        """Returns windows by symbol, or all in one."""
        if not self._by_symbol:
            return [windows]
        return [windows[at] for _, at in _places(self.symbols[windows])]

    def _make_groups(self) -> list[_Group]:
        groups = []
        for number, quota in enumerate(self._quotas.tolist()):
            in_group = self.labels == number if self._by_class else np.ones(len(self.labels), bool)
            members = np.flatnonzero(in_group).astype(np.int32)
            cells = self._cells(members)
            cycle = Cycle(np.array([self._base(cell).sum() for cell in cells]))
            groups.append(_Group(number, quota, members, cells, cycle))
        return groups

    def _make_table(self, epoch: int) -> np.ndarray:
        table = np.concatenate([self._draw(group, epoch) for group in self._groups], axis=1)
        rng = np.random.default_rng((self.seed, epoch, _SHUFFLE))
        rng.permuted(table, axis=1, out=table)
        if self._by_symbol:  # so that batches that follow on each other begin at unrelated symbols
            rng.shuffle(table)
        table.flags.writeable = False
        return table

    def _draw(self, group: _Group, epoch: int) -> np.ndarray:
        """Returns the windows of a group in all batches, int32 (batches, quota)."""
        num_slots = self.num_batches * group.quota
        hard = np.diff(_hard_before(np.arange(num_slots + 1), self._pools.share(epoch))) > 0
        drawn, begin = np.empty(num_slots, np.int32), self._plain_begin(group, epoch)
        cells = group.cycle.cells(begin, int((~hard).sum()))
        before = group.cycle.visits(0, begin)
        drawn[~hard] = self._draw_from(group.cells, cells, before, (group.number, _WALK))
        if hard.any():
            drawn[hard] = self._draw_hard(group, epoch)
        return drawn.reshape(self.num_batches, group.quota)

    def _draw_hard(self, group: _Group, epoch: int) -> np.ndarray:
        """Returns the windows of a group's hard slots, in their order, int32 (slots,).

        Slots are counted since the pools hold, so that those of earlier epochs need not be known.
        """
        since, _ = self._pools.at(epoch)
        cells, before = self._hard_cells(group, epoch), np.zeros(1, np.int64)
        for past in range(since, epoch):
            part = self._begin(group, since, past), self._num_hard(group, past)
            before = before + self._hard_cycle(cells, past).visits(*part)
        begin, count = self._begin(group, since, epoch), self._num_hard(group, epoch)
        drawn = self._hard_cycle(cells, epoch).cells(begin, count)
        before = np.broadcast_to(before, len(cells.windows))
        return self._draw_from(cells.windows, drawn, before, (since, group.number, _HARD_WALK))

    def _draw_from(self, cells, drawn: np.ndarray, before: np.ndarray, key) -> np.ndarray:
        """Returns a window of each drawn cell, int32 (slots,), as its walk goes on."""
        windows = np.empty(len(drawn), np.int32)
        for cell, places in _places(drawn):
            walk = before[cell] + np.arange(len(places))
            windows[places] = self._walk((*key[:-1], cell, key[-1]), cells[cell], walk)
        return windows

    def _num_hard(self, group: _Group, epoch: int) -> int:
        """Returns the hard slots of a group in all batches of an epoch."""
        return int(_hard_before(self.num_batches * group.quota, self._pools.share(epoch)))

    def _begin(self, group: _Group, since: int, epoch: int) -> int:
        """Returns the hard slots of a group in the epochs since..epoch - 1."""
        return sum(self._num_hard(group, past) for past in range(since, epoch))

    def _plain_begin(self, group: _Group, epoch: int) -> int:
        """Returns the other slots of a group in all epochs before."""
        if self._plain:  # every epoch begins a pass
            num_passes = -(-self.num_batches * self.batch_size // len(self.labels))
            return epoch * num_passes * len(self.labels)
        return epoch * self.num_batches * group.quota - self._begin(group, 0, epoch)

    def _hard_cells(self, group: _Group, epoch: int) -> _HardCells:
        """Returns what hard slots of a group go through: its pools, and what no pool may have."""
        pools, cells_of_all = self._pools.at(epoch)[1], []
        for label in np.unique(self.labels[group.members]).tolist():
            members = group.members[self.labels[group.members] == label]
            for windows, of_pool in ((pools.get(label, members[:0]), True), (members, False)):
                if not len(windows):
                    continue
                cells = self._cells(windows)
                masses = np.array([self._base(cell).sum() for cell in cells])
                masses *= self._totals[label] / masses.sum()
                cells_of_all += [
                    (cell, label, of_pool, m) for cell, m in zip(cells, masses, strict=True)
                ]
        windows, labels, of_pool, masses = zip(*cells_of_all, strict=True)
        return _HardCells(windows, np.array(labels), np.array(of_pool), np.array(masses))

    def _hard_cycle(self, cells: _HardCells, epoch: int) -> Cycle:
        """Returns the order of the hard slots of an epoch: of each class as many as its mass."""
        fulfilled = np.zeros(self.num_classes)  # of what was asked for
        for label, mixture in self.mixtures(epoch).items():
            fulfilled[label] = mixture.share / mixture.asked if mixture.asked else 1
        fulfilled = fulfilled[cells.labels]
        return Cycle(cells.masses * np.where(cells.of_pool, fulfilled, 1 - fulfilled))

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


def _hard_before(slots, share: float):
    """Returns how many of the first slots are hard, int64: every so many of them is."""
    return np.floor(np.asarray(slots) * share + 1e-9).astype(np.int64)


def _places(codes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns the codes that occur, rising, each with its places, rising."""
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(codes, kind="stable")
    return list(zip(values.tolist(), np.split(order, np.cumsum(counts)[:-1]), strict=False))
