"""Hands windows to Keras: planned and augmented batches to train on, ordered ones to predict."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from data.batches.augment import augment_sequences_batched, shift_ends
from data.market.windows import gather, subsample_by_class

_MADE_AHEAD = 4  # batches


def part_of(total: int, number: int, count: int) -> slice:
    """Returns one of `count` equal parts of so many rows; the last may be short or empty."""
    size = -(-total // count)
    return slice(number * size, (number + 1) * size)


class TrainingBatches(keras.utils.PyDataset):
    """What batches of windows and of sequences share.

    A subclass makes batch `index` in `__getitem__` and tells its shapes in `_signature`. A batch is
    a pure function of (seed, epoch, index) and the plan. `set_epoch` must be called at the begin
    of an epoch by a callback: Keras's own `on_epoch_begin` comes too late where batches are made
    ahead. `ready` has the `time.perf_counter()` at which each batch was last made, (batches,).

    Args:
        features: float32 (rows, features), sorted by symbol, then time; may be memory-mapped.
        ends: rows of the windows' last bars, (windows,).
        plan: `BatchPlan` or `SequencePlan` of the same windows; it has their labels and symbols.
        sequence_length: bars of a window.
        augmentations: any of `noise_std`, `time_shift` (bars), `mask_prob`, `mask_max_t`; None:
            off.
        feature_std: standard deviation of each feature on training rows, (features,).
        fill: what masked bars show, (features,).
        seed: of the augmentation.

    Raises:
        ValueError: if the arrays do not fit together or an augmentation is unknown.
    """

    def __init__(
        self,
        features: np.ndarray,
        ends: np.ndarray,
        *,
        plan: Any,
        sequence_length: int,
        augmentations: Mapping[str, Any] | None = None,
        feature_std: np.ndarray | None = None,
        fill: np.ndarray | None = None,
        seed: int = 0,
    ):
        # Making a batch costs less than handing it from one thread to another.
        super().__init__(workers=1, use_multiprocessing=False)
        self.features, self.plan, self.seed = features, plan, int(seed)
        self.window_rows = np.asarray(ends)
        self.window_labels, self.window_symbols = plan.labels, plan.symbols
        self.sequence_length = sequence_length
        settings = dict(augmentations or {})
        self._max_shift = settings.pop("time_shift", 0)
        self._augmentation: dict[str, Any] = settings | {"feature_std": feature_std, "fill": fill}
        self.epoch, self.ready = 0, np.zeros(plan.num_batches)
        self.rows = slice(
            None
        )  # of each batch that are made here; on several devices the others are made elsewhere
        self._check(settings)

    @property
    def num_windows(self) -> int:
        """How many windows the batches are drawn from."""
        return len(self.window_rows)

    @property
    def labels_per_epoch(self) -> int:
        """How many labels an epoch shows."""
        return self.plan.num_batches * self.plan.batch_size

    @property
    def bars_per_epoch(self) -> int:
        """How many bars an epoch reads."""
        return self.plan.num_batches * self.plan.batch_size * self.sequence_length

    def set_epoch(self, epoch: int) -> None:
        """Makes the batches from now on those of an epoch."""
        self.epoch = int(epoch)

    def set_hard_pool(
        self, pool: Mapping[int, np.ndarray], *, epoch: int, bands: np.ndarray | None = None
    ) -> None:
        """Sets the hard windows of each class, positions by class code, from an epoch on."""
        self.plan.set_hard_pool(pool, epoch=epoch, bands=bands)

    def hard_offsets(self, epoch: int) -> np.ndarray:
        """Returns what a loss adds to the logits for hard windows, see `data.batches.pools`."""
        return self.plan.hard_offsets(epoch)

    def pool_figures(self, epoch: int) -> dict[int, dict[str, float]]:
        """Returns by class code what the hard pools do in an epoch, see `data.batches.pools`."""
        return self.plan.pool_figures(epoch)

    def window_batches(self, positions: np.ndarray, batch_size: int = 256) -> "WindowSequence":
        """Returns some of the windows in order and un-augmented, to predict them."""
        return WindowSequence(
            self.features,
            self.window_rows[positions],
            sequence_length=self.sequence_length,
            batch_size=batch_size,
        )

    def to_score(
        self, limit: int, rng: np.random.Generator
    ) -> tuple[keras.utils.PyDataset, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
        """Returns windows for a model to predict, un-augmented, and what its outputs are of.

        Args:
            limit: windows at the most, which classes share evenly; 0: all.
            rng: to choose them, where there are more.

        Returns:
            a Keras dataset, and a function from the model's outputs for it to the positions of the
            windows, rising (windows,), and the output of each (windows, classes).
        """
        positions = subsample_by_class(self.window_labels, limit or self.num_windows, rng)
        return self.window_batches(positions), lambda outputs: (positions, outputs)

    def stream(self):
        """Returns what `fit` should be given: these batches, made ahead beside the steps.

        On TensorFlow a tf.data pipeline of fixed depth. Keras would make one that tunes itself,
        and TensorFlow 2.21 deletes the iterators of such a pipeline late: training stood still
        for up to as long as the epoch before had lasted. On other backends these batches as they
        are.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        return (
            tf.data.Dataset.from_generator(
                lambda: (self[index] for index in range(len(self))),
                output_signature=tuple(tf.TensorSpec(*part) for part in self._signature()),
            )
            .apply(tf.data.experimental.assert_cardinality(len(self)))
            .prefetch(_MADE_AHEAD)
            .with_options(options)
        )

    def describe(self, epoch: int, index: int) -> list[int]:
        """Returns the rows of the last bars of a batch's windows, for messages."""
        return self.window_rows[self.plan.indices(epoch, index)].tolist()

    def __len__(self) -> int:
        return self.plan.num_batches

    def _augmented(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the rows that are made here, augmented as in the whole batch."""
        return augment_sequences_batched(
            x, rng, out=x, rows=self.rows, batch_size=self.plan.batch_size, **self._augmentation
        )

    def _signature(self) -> list[tuple[tuple, Any]]:
        """Returns the shape and the kind of each part of a batch."""
        raise NotImplementedError

    def _check(self, settings: Mapping[str, Any]) -> None:
        if len(self.window_rows) != len(self.plan.labels):
            raise ValueError(
                f"ends must be those of the plan's {len(self.plan.labels)} windows, got "
                f"{len(self.window_rows)}"
            )
        unknown = set(settings) - {"noise_std", "mask_prob", "mask_max_t"}
        if unknown:
            raise ValueError(f"there is no augmentation {sorted(unknown)[0]!r}")


class WindowBatches(TrainingBatches):
    """Training batches: drawn by a plan, gathered from the feature rows, augmented.

    Args:
        *args: those of `TrainingBatches`.
        first_ends: first end row to which each window may be shifted, (windows,), see
            `data.market.windows.first_window_ends`; needed for a time shift alone.
        weights: of the windows, (windows,); of each class they are scaled so that the mean over its
            draws of an epoch is 1: weights never change the class shares. None: batches have none.
        **kwargs: those of `TrainingBatches`; `plan` is a `BatchPlan`.

    Raises:
        ValueError: see there; or if a time shift has no `first_ends`.

    Examples:
        >>> from data.batches.sampling import BatchPlan
        >>> features = np.zeros((100, 5), "float32")  # of one symbol
        >>> ends = np.arange(19, 100)  # of windows of 20 bars
        >>> plan = BatchPlan(ends % 3, np.zeros(81, int), batch_size=8, seed=0)
        >>> x, y = WindowBatches(features, ends, plan=plan, sequence_length=20)[0]
        >>> x.shape, y.shape
        ((8, 20, 5), (8,))
    """

    def __init__(
        self,
        *args: Any,
        first_ends: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self._weights = weights
        self._scaled: tuple[int, np.ndarray] | None = None  # the epoch, and its weights
        if self._max_shift:
            if first_ends is None:
                raise ValueError("a time shift needs first_ends, how far back each window may go")
            room = self.window_rows - first_ends
            np.minimum(room, self._max_shift, out=room)
            self._room = room.astype(np.int16)  # half the memory of the rows

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Returns x float32 (batch, time, features), y int32 (batch,) and weights, if any."""
        drawn = self.plan.indices(self.epoch, index)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        x = self._windows(drawn, rng)
        drawn = drawn[self.rows]
        batch = (x, self.plan.coded(drawn, self.epoch))
        if self._weights is not None:
            batch += (self._weights_in(self.epoch)[drawn],)
        self.ready[index] = time.perf_counter()
        return batch

    def set_hard_pool(self, *args: Any, **kwargs: Any) -> None:
        """Sets the hard windows as `TrainingBatches` does: what is drawn then changes."""
        super().set_hard_pool(*args, **kwargs)
        self._scaled = None

    def _weights_in(self, epoch: int) -> np.ndarray:
        """Returns the weights of all windows as they are in an epoch, float32 (windows,)."""
        made = self._scaled  # read once: Keras may ask from several threads
        if made is None or made[0] != epoch:
            drawn, weights = self.plan.table(epoch).ravel(), np.asarray(self._weights, np.float64)
            codes, totals = self.window_labels, np.ones((2, len(self.plan.class_prior)))
            for row, values in enumerate([None, weights[drawn]]):
                totals[row] = np.bincount(codes[drawn], values, totals.shape[1])
            scale = totals[0] / np.where(totals[1] > 0, totals[1], 1.0)
            made = self._scaled = epoch, (weights * scale[codes]).astype(np.float32)
        return made[1]

    def _windows(self, drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ends = self.window_rows[drawn]
        if self._max_shift:
            first_rows = ends - self._room[drawn] - self.sequence_length + 1
            ends = shift_ends(ends, first_rows, rng, self._max_shift, self.sequence_length)
        return self._augmented(gather(self.features, ends[self.rows], self.sequence_length), rng)

    def _signature(self) -> list[tuple[tuple, Any]]:
        shape = (self.plan.batch_size, self.sequence_length, self.features.shape[1])
        weights = [((self.plan.batch_size,), np.float32)] if self._weights is not None else []
        return [(shape, np.float32), ((self.plan.batch_size,), np.int32), *weights]


class WindowSequence(keras.utils.PyDataset):
    """Windows in order and un-augmented, to predict; the last batch may be short.

    Args:
        features: float32 (rows, features), sorted by symbol, then time; may be memory-mapped.
        ends: rows of the windows' last bars, (windows,).
        sequence_length: bars of a window.
        batch_size: windows in every batch but the last.
    """

    def __init__(
        self,
        features: np.ndarray,
        ends: np.ndarray,
        *,
        sequence_length: int,
        batch_size: int,
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        if batch_size < 1:
            raise ValueError(f"a batch must have at least 1 window, got {batch_size}")
        self.features, self.window_rows = features, np.asarray(ends)
        self.sequence_length, self.batch_size = sequence_length, batch_size

    @property
    def num_rows(self) -> int:
        """How many windows there are."""
        return len(self.window_rows)

    def part(self, number: int, count: int) -> "WindowSequence":
        """Returns the windows of one of `count` equal parts in order; the last are short."""
        return WindowSequence(
            self.features,
            self.window_rows[part_of(self.num_rows, number, count)],
            sequence_length=self.sequence_length,
            batch_size=self.batch_size,
        )

    def __len__(self) -> int:
        return -(-len(self.window_rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Returns x float32 (batch, time, features), alone in a tuple."""
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return (gather(self.features, self.window_rows[part], self.sequence_length),)
