"""Where the time of a training goes."""

import time

import keras


class StepTimer(keras.callbacks.Callback):
    """Measures the epochs of a `fit`; must be the first in the list of callbacks.

    `epochs` has for each epoch its seconds in all, those of the pass over the batches, and those
    of the pass spent outside the training step: between the steps, and making batches. Keras
    asks for a batch inside the step's call, so making it counts as time outside, although a part
    of it may run beside the step of the batch before. The figure is thus an upper bound.

    Args:
        batches: object with `seconds`, the time spent making batches so far.
    """

    def __init__(self, batches=None):
        super().__init__()
        self.batches = batches
        self.epochs: list[dict[str, float]] = []
        self._begun: float | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clocks."""
        self._end_epoch()
        self._begun = time.perf_counter()
        self._making, self._in_steps = self._seconds(), 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock of a step."""
        self._step_begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stops the clock of a step."""
        self._in_steps += time.perf_counter() - self._step_begun

    def on_epoch_end(self, epoch, logs=None):
        """Notes the pass; validation and mining are still to come."""
        training = time.perf_counter() - self._begun
        outside = training - self._in_steps + self._seconds() - self._making
        self.epochs.append({"training": training, "outside": min(outside, training)})

    def on_train_end(self, logs=None):
        """Notes the last epoch."""
        self._end_epoch()

    def _end_epoch(self) -> None:
        if self._begun is not None and self.epochs:
            self.epochs[-1]["all"] = time.perf_counter() - self._begun
        self._begun = None

    def _seconds(self) -> float:
        return getattr(self.batches, "seconds", 0.0)
