"""Where the time of a training goes."""

import statistics
import time

import keras

_MEASURED = 10  # steps, the first of which compiles


class StepTimer(keras.callbacks.Callback):
    """Measures the epochs of a `fit`; must be the first in the list of callbacks.

    `epochs` has for each epoch its seconds in all, those of the pass over the batches, and those
    of the pass spent outside the training step: between the steps (that is, in callbacks), and
    waiting for a batch. Batches are made ahead, beside the step; only where a step begins before
    its batch is there does it wait, and Keras lets it wait inside the step's call. The very first
    step is compiled before it asks for its batch: it counts as a step from end to end, and
    `compilation` are the seconds that it took more than the next ones, or than nothing where there
    is no other.

    Args:
        batches: object with `ready`, the `time.perf_counter()` at which each batch of the epoch
            was made, (batches,).
    """

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        self.epochs: list[dict[str, float]] = []
        self._begun: float | None = None
        self._first_steps: list[float] = []

    @property
    def compilation(self) -> float:
        """The seconds that compiling the training step took."""
        if not self._first_steps:
            return 0.0
        first, *others = self._first_steps
        return first - (statistics.median(others) if others else 0.0)

    def on_epoch_begin(self, epoch, logs=None):
        self._end_epoch()
        self._begun, self._in_steps = time.perf_counter(), 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._step_begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        started = self._step_begun
        if self._first_steps:
            started = max(started, float(self.batches.ready[batch]))
        seconds = time.perf_counter() - started
        self._in_steps += seconds
        if len(self._first_steps) < _MEASURED:
            self._first_steps.append(seconds)

    def on_epoch_end(self, epoch, logs=None):
        """Notes the pass; validation and mining are still to come."""
        assert self._begun is not None
        training = time.perf_counter() - self._begun
        self.epochs.append({"training": training, "outside": training - self._in_steps})

    def on_train_end(self, logs=None):
        self._end_epoch()

    def _end_epoch(self) -> None:
        if self._begun is not None and self.epochs:
            self.epochs[-1]["all"] = time.perf_counter() - self._begun
        self._begun = None
