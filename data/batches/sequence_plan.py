"""Plans batches of sequences: every label once a pass, class shares and hard windows as weights.

A pass segments the training bars anew and goes through all sequences; it is a pure function of
(seed, pass). What a label weighs is one of the epoch and of the hard pools that were set.
"""

from collections.abc import Callable, Sequence

import numpy as np

from data.batches.pools import HardPools, PooledPlan
from data.batches.quotas import check_classes, check_ratios, check_windows
from data.batches.runs import Runs, Segmentation, Sequences

_SEGMENT = 6  # last word of seeds, see `data.batches.sampling`


class SequencePlan(PooledPlan):
    """Plans the batches of all epochs over the labels of n training windows.

    Where a pass has fewer sequences than its batches have places, the places left over are spread
    over the pass and have no labels.

    Args:
        labels: class codes of the windows, (n,).
        symbols: symbol codes of the windows, (n,).
        ends: rows of the windows' last bars, (n,), rising.
        sequence_length: bars of a window, the middle of the contexts, see `data.batches.runs`.
        labels_per_sequence: at the most.
        batch_size: sequences in every batch.
        seed: at least 0.
        class_ratios: of the classes' weights, any scale; None: equal.
        balance_classes: whether the classes' weights have the ratios; their mean weight stays.
        balance_symbols: whether sequences go round the symbols: each batch has of every symbol
            its share of the sequences. Else they are shuffled.
        hard_share: share of each class's weight that goes to its hard pool, for each epoch, the
            rest to all its labels, see `data.batches.pools`; None: no hard windows.
        steps_per_epoch: batches of an epoch, which passes then cross; 0: one pass.
        weights: of the windows, (n,), which multiply the others; None: 1.

    Raises:
        ValueError: if there are no windows, or a class has none.
    """

    def __init__(
        self,
        labels: np.ndarray,
        symbols: np.ndarray,
        ends: np.ndarray,
        *,
        sequence_length: int,
        labels_per_sequence: int,
        batch_size: int,
        seed: int,
        class_ratios: Sequence[float] | None = None,
        balance_classes: bool = False,
        balance_symbols: bool = False,
        hard_share: Callable[[int], float] | None = None,
        steps_per_epoch: int = 0,
        weights: np.ndarray | None = None,
    ):
        check_windows(labels, symbols, batch_size, steps_per_epoch)
        if len(ends) != len(labels) or (np.diff(ends) <= 0).any():
            raise ValueError(
                f"ends must be those of the {len(labels)} windows, rising; got {len(ends)}"
            )
        self.labels, self.symbols = np.asarray(labels), np.asarray(symbols)
        self.batch_size, self.seed, self.hard_share = int(batch_size), int(seed), hard_share
        self.runs = Runs(np.asarray(ends), sequence_length, labels_per_sequence)
        self.batches_per_pass = -(-self.runs.max_sequences // self.batch_size)
        self.num_batches = int(steps_per_epoch) or self.batches_per_pass
        ratios = check_ratios(class_ratios, self.labels)
        self.num_classes, self._by_symbol = len(ratios), balance_symbols
        self._weights, self._class_factors = weights, np.ones(self.num_classes)
        self._totals = np.bincount(self.labels, weights, self.num_classes).astype(np.float64)
        if balance_classes:
            check_classes(self.labels, self.num_classes)
            self._class_factors = ratios / ratios.sum() * self._totals.sum() / self._totals
        self._pools = HardPools(self.labels, hard_share)
        self._pass: tuple[int, Segmentation, np.ndarray] | None = None  # number, ..., table
        self._epoch: tuple[int, np.ndarray] | None = None  # number, label weights

    @property
    def class_prior(self) -> np.ndarray:
        """The class distribution of the weighted labels, float64 (classes,)."""
        totals = self._totals * self._class_factors
        return totals / totals.sum()

    @property
    def natural_prior(self) -> np.ndarray:
        """The class frequencies of all labels, whatever these weigh, float64 (classes,).

        Calls are measured against these, and what knows nothing must favour no class. Shares
        change from spell to spell, and those of late are no better a guess: a logistic regression
        with labels weighed by age, restored to these, had the lower NLL in five of nine test times
        of three markets, by 0.0024 nats in the mean of all.
        """
        counts = np.bincount(self.labels, minlength=self.num_classes)
        return counts / counts.sum()

    def sequences(self, epoch: int, index: int) -> Sequences:
        """Returns the sequences of a batch."""
        if not 0 <= index < self.num_batches:
            raise IndexError(f"need a batch from 0 to {self.num_batches - 1}, got {index}")
        number, index = divmod(epoch * self.num_batches + index, self.batches_per_pass)
        made = self._pass  # read once: Keras may ask from several threads
        if made is None or made[0] != number:
            made = self._pass = number, *self._make_pass(number)
        _, segmentation, table = made
        return segmentation.sequences(table[index])

    def indices(self, epoch: int, index: int) -> np.ndarray:
        """Returns the windows whose labels a batch carries, int32 (labels,)."""
        positions = self.sequences(epoch, index).positions
        return positions[positions >= 0]

    def label_weights(self, epoch: int) -> np.ndarray:
        """Returns what the label of each window weighs in an epoch, float32 (n,)."""
        made = self._epoch
        if made is None or made[0] != epoch:
            made = self._epoch = epoch, self._make_weights(epoch)
        return made[1]

    def targets(self, sequences: Sequences, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns y int32 and weights float32 (sequences, K); both 0 where there is no label.

        y are class codes, `coded` where hard windows are known with their bands.
        """
        at, labelled = sequences.positions, sequences.positions >= 0
        weights = np.where(labelled, self.label_weights(epoch)[at], np.float32(0))
        return np.where(labelled, self.coded(at, epoch), 0).astype(np.int32), weights

    def in_order(self) -> Segmentation:
        """Returns a segmentation that is the same for every epoch, to score all labels."""
        return self.runs.segment(np.full(len(self.runs.lengths), self.runs.labels_per_sequence))

    def _forget(self) -> None:
        self._epoch = None

    def _drawn(self, epoch: int) -> np.ndarray:
        return self.label_weights(epoch).astype(np.float64)

    def _base(self, windows: np.ndarray) -> np.ndarray:
        if self._weights is None:
            return np.ones(len(windows))
        return self._weights[windows].astype(np.float64)

    def _make_pass(self, number: int) -> tuple[Segmentation, np.ndarray]:
        """Returns the segmentation of a pass and its sequences by batch, (batches, batch_size)."""
        rng = np.random.default_rng((self.seed, number, _SEGMENT))
        most = self.runs.labels_per_sequence
        segmentation = self.runs.segment(rng.integers(1, most + 1, len(self.runs.lengths)))
        order = rng.permutation(len(segmentation))
        if self._by_symbol:
            symbols = self.symbols[segmentation.begins[order]]
            order = order[np.argsort(_turns(symbols, rng))]
        table = np.full(self.batches_per_pass * self.batch_size, -1, np.int32)
        table[np.arange(len(order)) * len(table) // len(order)] = order
        return segmentation, table.reshape(-1, self.batch_size)

    def _make_weights(self, epoch: int) -> np.ndarray:
        weights = self._class_factors[self.labels]
        if self._weights is not None:
            weights *= self._weights
        pools = self._pools.at(epoch)[1]
        for label, mixture in self.mixtures(epoch).items():
            hard_weights = weights[pools[label]] * mixture.multiplier
            weights[self.labels == label] *= 1 - mixture.share
            weights[pools[label]] = hard_weights
        return weights.astype(np.float32)


def _turns(symbols: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns when each sequence's turn comes, 0..1, so that every symbol's are spread evenly."""
    counts = np.bincount(symbols)
    order = np.argsort(symbols, kind="stable")
    ranks = np.empty(len(symbols), np.int64)
    ranks[order] = np.arange(len(symbols)) - (np.cumsum(counts) - counts)[symbols[order]]
    return (ranks + rng.random(len(counts))[symbols]) / counts[symbols]
