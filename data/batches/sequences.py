"""Hands sequences with many labels to Keras: planned and augmented ones, or all in order."""

import copy
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from data.batches.datasets import TrainingBatches, part_of
from data.batches.sequence_plan import SequencePlan


class SequenceBatches(TrainingBatches):
    """Training batches of sequences: segmented by a plan, read from the feature rows, augmented.

    Everything said of `WindowBatches` holds. A time shift reads a sequence up to so many bars
    earlier, so its labels come late, never early. Near the start of a run it is shorter: no row
    is read before the first that a training window shows. A mask may hide the own bar of a label,
    but of none that a sequence ends with.

    The arguments are those of `TrainingBatches`; `plan` is a `SequencePlan`, which has the windows'
    weights, too, and `sequence_length` is that of `window_batches`.
    """

    def in_order(
        self, batch_size: int = 64, numbers: np.ndarray | None = None
    ) -> "SequencesInOrder":
        """Returns the sequences of a fixed segmentation, in order and un-augmented, to be scored.

        Args:
            batch_size: sequences in a batch.
            numbers: of the sequences, rising, (sequences,); None: all.
        """
        return SequencesInOrder(self.features, self.plan, batch_size=batch_size, numbers=numbers)

    def to_score(
        self, limit: int, rng: np.random.Generator
    ) -> tuple["SequencesInOrder", Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
        """Returns sequences for a model to predict, and what its outputs are of.

        One pass over the sequences gives the labels of all their steps. Above the limit (to a
        sequence) as many sequences as it allows are drawn.
        """
        sequences = self.in_order()
        most = -(-limit // self.plan.runs.labels_per_sequence)
        if 0 < most < sequences.num_sequences:
            drawn = rng.choice(sequences.num_sequences, most, replace=False)
            sequences = self.in_order(numbers=np.sort(drawn))
        return sequences, sequences.by_window

    @property
    def labels_per_epoch(self) -> int:
        """How many labels an epoch shows."""
        passes = self.plan.num_batches / self.plan.batches_per_pass
        return round(self.num_windows * passes)

    @property
    def bars_per_epoch(self) -> int:
        """How many bars an epoch reads."""
        return self.plan.num_batches * self.plan.batch_size * self.plan.runs.num_bars

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns x float32 (batch, bars, features), y int32 and weights float32 (batch, K).

        Where a step carries no label, its weight is 0, and y too.
        """
        sequences = self.plan.sequences(self.epoch, index)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        room = np.minimum(sequences.starts - sequences.first_rows, self._max_shift)
        delays = rng.integers(0, room + 1) if self._max_shift else np.zeros_like(room)
        sequences = sequences[self.rows]
        x = self._augmented(sequences.read(self.features, delays[self.rows]), rng)
        y, weights = self.plan.targets(sequences, self.epoch)
        self.ready[index] = time.perf_counter()
        return x, y, weights

    def _signature(self) -> list[tuple[tuple, Any]]:
        bars, labels = self.plan.runs.num_bars, self.plan.runs.labels_per_sequence
        return [
            ((self.plan.batch_size, bars, self.features.shape[1]), np.float32),
            ((self.plan.batch_size, labels), np.int32),
            ((self.plan.batch_size, labels), np.float32),
        ]


class SequencesInOrder(keras.utils.PyDataset):
    """The sequences of a fixed segmentation, un-augmented and without labels, to predict them.

    All batches are full: the last is filled up with sequences that carry no labels.

    Args:
        features: float32 (rows, features), sorted by symbol, then time; may be memory-mapped.
        plan: of the training windows.
        batch_size: sequences in a batch.
        numbers: of the sequences, rising, (sequences,); None: all.
    """

    def __init__(
        self,
        features: np.ndarray,
        plan: SequencePlan,
        *,
        batch_size: int,
        numbers: np.ndarray | None = None,
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.features, self._segmentation = features, plan.in_order()
        self.batch_size = batch_size
        chosen = np.arange(len(self._segmentation)) if numbers is None else numbers
        self._numbers = self._in_batches(chosen)

    @property
    def num_sequences(self) -> int:
        """How many sequences carry labels."""
        return int((self._numbers >= 0).sum())

    @property
    def num_rows(self) -> int:
        """How many sequences there are, with those that fill up."""
        return self._numbers.size

    def part(self, number: int, count: int) -> "SequencesInOrder":
        """Returns the sequences of one of `count` parts, as `WindowSequence.part` does."""
        part = copy.copy(self)
        numbers = self._numbers.ravel()[part_of(self.num_rows, number, count)]
        part._numbers = self._in_batches(numbers)
        return part

    def _in_batches(self, numbers: np.ndarray) -> np.ndarray:
        full = np.full(-(-len(numbers) // self.batch_size) * self.batch_size, -1)
        full[: len(numbers)] = numbers
        return full.reshape(-1, self.batch_size)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        """Returns x float32 (batch, bars, features)."""
        return (self._segmentation.sequences(self._numbers[index]).read(self.features),)

    def by_window(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the windows whose labels are carried, rising, and the outputs at their steps.

        Args:
            outputs: of all sequences, (sequences, K, classes).

        Returns:
            positions int32 (labels,) and outputs (labels, classes).
        """
        positions = self._segmentation.sequences(self._numbers.ravel()).positions
        return positions[positions >= 0], outputs[positions >= 0]
