"""Where the time of a training goes."""

import time

import keras


class StepTimer(keras.callbacks.Callback):
    """Measures the epochs of a `fit`; must be the first in the list of callbacks.

    `epochs` has for each epoch its seconds in all, those of the pass over the batches, and those
    of the pass spent outside the training step: between the steps (that is, in callbacks), and
    waiting for a batch. Batches are made ahead, beside the step; only where a step begins before
    its batch is there does it wait, and Keras lets it wait inside the step's call. The very first
    step is compiled before it asks for its batch: it counts as a step from end to end.

    Args:
        batches: object with `ready`, the `time.perf_counter()` at which each batch of the epoch
            was made, (batches,); None: waiting is not looked at.
    """

    def __init__(self, batches=None):
        super().__init__()
        self.batches = batches
        self.epochs: list[dict[str, float]] = []
        self._begun: float | None = None
        self._compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clocks."""
        self._end_epoch()
        self._begun, self._in_steps = time.perf_counter(), 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock of a step."""
        self._step_begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stops the clock of a step, which could not start before its batch was made."""
        started = self._step_begun
        if self.batches is not None and self._compiled:
            started = max(started, float(self.batches.ready[batch]))
        self._in_steps += time.perf_counter() - started
        self._compiled = True

    def on_epoch_end(self, epoch, logs=None):
        """Notes the pass; validation and mining are still to come."""
        training = time.perf_counter() - self._begun
        self.epochs.append({"training": training, "outside": training - self._in_steps})

    def on_train_end(self, logs=None):
        """Notes the last epoch."""
        self._end_epoch()

    def _end_epoch(self) -> None:
        if self._begun is not None and self.epochs:
            self.epochs[-1]["all"] = time.perf_counter() - self._begun
        self._begun = None
