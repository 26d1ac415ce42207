"""Plans batches: which training windows each holds, by class, symbol and hardness quotas.

A batch is a pure function of (seed, epoch, index) and of the hard pools that were set. It is made
in O(batch) from index arrays prepared once, so any batch of any epoch can be asked for directly.

How it works: a cell holds the windows of one class and one symbol; the switches merge cells. Each
class has its quota of every batch. Its slots go round the symbols, the first slots are the hard
ones. The slots of a cell walk through one shuffled pass over its windows after the other; how far
they came is counted in closed form, so nothing need be remembered from batch to batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.labels import CLASS_NAMES, class_counts
from data.quotas import Cell, Group, class_quotas, quotas
from data.windows import gather

# Last words of seeds, so that no two uses draw the same numbers.
_WALK, _HARD_WALK, _SHUFFLE = 1, 2, 3


class BatchPlan:
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
        _check(labels, symbols, batch_size, steps_per_epoch)
        self.labels, self.symbols = np.asarray(labels), np.asarray(symbols)
        self.batch_size, self.seed, self.hard_share = int(batch_size), int(seed), hard_share
        found = 1 + int(self.labels.max())
        ratios = np.ones(found) if class_ratios is None else np.asarray(class_ratios)
        if len(ratios) < found:
            raise ValueError(f"every class needs a ratio; {len(ratios)} for {found} classes")
        self.num_classes = len(ratios)
        self.num_batches = int(steps_per_epoch) or -(-len(self.labels) // self.batch_size)
        self._by_class, self._by_symbol = balance_classes, balance_symbols
        if balance_classes:
            self._quotas = class_quotas(ratios, self.batch_size, self.labels)
        else:
            self._quotas = np.array([self.batch_size])
        self._groups = self._make_groups()
        plain = not (balance_classes or balance_symbols or hard_share or steps_per_epoch)
        self._whole_passes = -(-self.num_batches * self.batch_size // len(labels)) if plain else 0
        self._corrections: dict[tuple[int, bool], list[list[np.ndarray]]] = {}
        self._passes: dict[tuple[int, ...], tuple[int, np.ndarray]] = {}  # the latest of each cell
        self._pools: dict[int, dict[int, np.ndarray]] = {}
        self._pool_cells: dict[tuple[int, int, int], np.ndarray] = {}

    @property
    def class_prior(self) -> np.ndarray:
        """The class distribution of the stream of batches, float64 (classes,).

        The quotas where classes are balanced. Else the natural frequencies, those of the mean
        symbol where symbols are balanced.
        """
        if self._by_class:
            return self._quotas / self.batch_size
        return np.mean([cell.frequencies for cell in self._groups[0].cells], axis=0)

    def indices(self, epoch: int, index: int) -> np.ndarray:
        """Returns the windows of a batch: positions 0..n-1, int64 (batch_size,)."""
        if not 0 <= index < self.num_batches:
            raise IndexError(f"an epoch has {self.num_batches} batches; there is none at {index}")
        rng = np.random.default_rng((self.seed, epoch, index, _SHUFFLE))
        drawn: list[int] = []
        for number, num_hard in enumerate(self._num_hard(epoch)):
            if num_hard:
                drawn += self._draw_hard(number, num_hard, epoch, index, rng)
            drawn += self._draw_normal(number, num_hard, epoch, index)
        return rng.permutation(np.array(drawn, np.int64))

    def set_hard_pool(self, pool: Mapping[int, np.ndarray], *, epoch: int) -> None:
        """Sets the hard windows of each class from an epoch on; forgets pools of later epochs.

        Raises:
            ValueError: if a class's pool holds anything but windows of the class.
        """
        checked = {}
        for label, positions in pool.items():
            positions = np.asarray(positions, np.int64)
            inside = (positions >= 0) & (positions < len(self.labels))
            if not inside.all() or (self.labels[positions] != label).any():
                raise ValueError(f"the hard pool of class {label} must hold windows of it alone")
            if len(positions):
                checked[int(label)] = positions
        self._pools = {e: p for e, p in self._pools.items() if e < epoch} | {int(epoch): checked}
        self._pool_cells.clear()
        self._passes = {key: p for key, p in self._passes.items() if key[-1] == _WALK}

    def get_state(self) -> dict[str, Any]:
        """Returns the pools by epoch and class, all that cannot be derived from the arguments."""
        return {
            "pools": {
                str(epoch): {str(label): positions for label, positions in pool.items()}
                for epoch, pool in self._pools.items()
            }
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of `get_state`."""
        self._pools = {}
        self._passes.clear()
        for epoch, pool in sorted(state["pools"].items(), key=lambda item: int(item[0])):
            self.set_hard_pool({int(label): p for label, p in pool.items()}, epoch=int(epoch))

    def effective_repeats(self, epoch: int) -> dict[str, Any]:
        """Returns how often an epoch draws a window, per class and per symbol; JSON values.

        Args:
            epoch: all its batches are planned for this.

        Returns:
            `classes` and `symbols`: by name or code the `windows`, and the mean `repeats` of one;
            `reached`: share of the windows drawn at all; `largest`: draws of the most drawn one.
        """
        draws = np.zeros(len(self.labels), np.int64)
        for index in range(self.num_batches):
            np.add.at(draws, self.indices(epoch, index), 1)
        names = CLASS_NAMES if self.num_classes == len(CLASS_NAMES) else range(self.num_classes)
        return {
            "epoch": int(epoch),
            "batches": self.num_batches,
            "reached": float((draws > 0).mean()),
            "largest": int(draws.max()),
            "classes": _repeats(draws, self.labels, names),
            "symbols": _repeats(draws, self.symbols, range(self.symbols.max() + 1)),
        }

    def _make_groups(self) -> list["Group"]:
        made, offset = [], 0
        for number, quota in enumerate(self._quotas.tolist()):
            if self._by_class:
                members = np.flatnonzero(self.labels == number).astype(np.int32)
            else:
                members = np.arange(len(self.labels), dtype=np.int32)
            symbols, labels = self.symbols[members], self.labels[members]
            if not self._by_symbol:
                symbols = np.zeros_like(symbols)
            members = members[np.lexsort((labels, symbols))]
            codes, counts = np.unique(symbols, return_counts=True)
            cells = [
                Cell(int(code), part, class_counts(self.labels[part], self.num_classes))
                for code, part in zip(codes, np.split(members, np.cumsum(counts)[:-1]), strict=True)
            ]
            made.append(Group(quota, offset, self.batch_size, cells))
            offset += quota
        return made

    def _num_hard(self, epoch: int) -> list[int]:
        """Returns the hard slots of each group in a batch of the epoch."""
        share = self.hard_share(epoch) if self.hard_share is not None else 0.0
        if not 0 <= share <= 1:
            raise ValueError(
                f"the hard share of a batch must lie in 0..1, epoch {epoch} has {share}"
            )
        return quotas(self._quotas, round(share * self.batch_size)).tolist()

    def _draw_normal(self, number: int, num_hard: int, epoch: int, index: int) -> list[int]:
        group = self._groups[number]
        cells, places = group.slots(epoch * self.num_batches + index, num_hard, group.quota)
        places = places + self._before(0, epoch, hard=False)[number][cells]
        return [
            self._walk((number, at, _WALK), group.cells[at].members, place)
            for at, place in zip(cells.tolist(), places.tolist(), strict=True)
        ]

    def _draw_hard(self, number: int, num_hard: int, epoch: int, index: int, rng) -> list[int]:
        group = self._groups[number]
        since = max((e for e in self._pools if e <= epoch), default=0)
        cells, places = group.slots(epoch * self.num_batches + index, 0, num_hard)
        places = places + self._before(since, epoch, hard=True)[number][cells]
        drawn = []
        for at, place in zip(cells.tolist(), places.tolist(), strict=True):
            label = number if self._by_class else int(group.cells[at].draw_class(rng))
            windows, shared = self._hard_windows(since, label, group.cells[at])
            if shared:  # by all cells of the group, which take turns
                at, place = len(group.cells), place * len(group.cells) + at
            drawn.append(self._walk((since, label, at, _HARD_WALK), windows, place))
        return drawn

    def _before(self, since: int, epoch: int, *, hard: bool) -> list[np.ndarray]:
        """Returns, for each cell of each group, what to add to the visits that its group counts.

        A group counts as if all epochs had as many hard slots as this one. The sum rises by one
        with every slot of the cell since an epoch; what it begins with does not matter.
        """
        if self._whole_passes and not hard:
            unused = self._whole_passes * len(self.labels) - self.num_batches * self.batch_size
            return [np.array([epoch * unused])]
        nothing = [np.zeros(len(group.cells), np.int64) for group in self._groups]
        known = self._corrections.setdefault((since, hard), [nothing])
        for e in range(since + len(known), epoch + 1):
            as_before, as_now = self._visits(e, e - 1, hard), self._visits(e, e, hard)
            known.append([a + b - c for a, b, c in zip(known[-1], as_before, as_now, strict=True)])
        return known[epoch - since]

    def _visits(self, epoch: int, settings_of: int, hard: bool) -> list[np.ndarray]:
        """Returns the slots of all cells until an epoch, as if all epochs were like another."""
        return [
            group.visits(
                np.arange(len(group.cells)),
                epoch * self.num_batches,
                *((0, num_hard) if hard else (num_hard, group.quota)),
            )
            for group, num_hard in zip(self._groups, self._num_hard(settings_of), strict=True)
        ]

    def _hard_windows(self, since: int, label: int, cell: "Cell") -> tuple[np.ndarray, bool]:
        """Returns the windows for a hard slot, and whether other cells share them."""
        pool = self._pools.get(since, {}).get(label)
        if pool is None:
            return cell.of_class(label), False
        if not self._by_symbol:
            return pool, False
        key = (since, label, cell.symbol)
        if key not in self._pool_cells:
            self._pool_cells[key] = pool[self.symbols[pool] == cell.symbol]
        own = self._pool_cells[key]
        return (own, False) if len(own) else (pool, True)

    def _walk(self, key: tuple[int, ...], windows: np.ndarray, place: int) -> int:
        """Returns the window at a place of the endless walk over shuffled passes."""
        number, place = divmod(place, len(windows))
        held = self._passes.get(key)
        if held is None or held[0] != number:
            rng = np.random.default_rng((self.seed, *key[:-1], number, key[-1]))
            order = np.arange(len(windows), dtype=np.int32)
            rng.shuffle(order)
            held = self._passes[key] = number, order
        return int(windows[held[1][place]])


def balanced_batch_generator(
    features: np.ndarray,
    ends: np.ndarray,
    labels: np.ndarray,
    symbols: np.ndarray,
    *,
    sequence_length: int,
    batch_size: int,
    seed: int,
    class_ratios: Sequence[float] | None = None,
    balance_symbols: bool = True,
    steps_per_epoch: int = 0,
    num_epochs: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields class-balanced batches of windows without Keras, un-augmented.

    Args:
        features: float32 (rows, features), sorted by symbol, then time.
        ends: rows of the windows' last bars, (windows,).
        labels: class codes of the windows, (windows,).
        symbols: symbol codes of the windows, (windows,).
        sequence_length: bars of a window.
        batch_size: windows in every batch.
        seed: at least 0.
        class_ratios: of the classes in a batch, any scale; None: equal.
        balance_symbols: whether each class's windows come from all symbols alike.
        steps_per_epoch: batches of an epoch; 0: as many as one pass over all windows needs.
        num_epochs: None: endless.

    Yields:
        x float32 (batch, time, features) and y int32 (batch,).
    """
    labels = np.asarray(labels, np.int32)
    plan = BatchPlan(
        labels,
        symbols,
        batch_size=batch_size,
        seed=seed,
        class_ratios=class_ratios,
        balance_classes=True,
        balance_symbols=balance_symbols,
        steps_per_epoch=steps_per_epoch,
    )
    epoch = 0
    while num_epochs is None or epoch < num_epochs:
        for index in range(plan.num_batches):
            drawn = plan.indices(epoch, index)
            yield gather(features, ends[drawn], sequence_length), labels[drawn]
        epoch += 1


def _check(labels, symbols, batch_size: int, steps_per_epoch: int) -> None:
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


def _repeats(draws: np.ndarray, codes: np.ndarray, names) -> dict[str, dict[str, float]]:
    windows = np.bincount(codes, minlength=len(names))
    drawn = np.bincount(codes, draws, minlength=len(names))
    return {
        str(name): {"windows": int(windows[i]), "repeats": float(drawn[i] / max(windows[i], 1))}
        for i, name in enumerate(names)
    }
