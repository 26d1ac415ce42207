"""Outputs of a model for windows in order: the one way of all that validates, scores or answers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from core.threads import side_by_side

AT_ONCE = 256  # windows in a batch: more are no faster on a CPU
Batches = Any  # a Keras dataset, a sequence of batches, or an array of all windows
Predict = Callable[[keras.Model, Batches], np.ndarray]  # as `predict_windows` does


def predict_windows(
    model: keras.Model,
    batches: Batches,
    *,
    by: Predict | None = None,
) -> np.ndarray:
    """Returns what a model says of un-augmented windows or sequences, batch by batch.

    The values are those of Keras's `predict`, whose pipeline takes up to half a second to end
    (TensorFlow 2.21, whatever its length): too long for what is asked after every epoch. A short
    last batch is filled up, so that one shape is traced and compiled. On TensorFlow a thread of
    each core predicts batches once the first is known: one batch keeps one core busy.

    Args:
        model: any; XLA is used where its `jit_compile` says so.
        batches: `batches[index]` is a tuple whose first part is x (batch, ...); the first batch is
            the largest; or an array of all windows. Several devices need `num_rows` and `part`, as
            `data.batches.datasets.WindowSequence` has them.
        by: what predicts the batches in this function's place, on several devices.

    Returns:
        the outputs, (windows, ...).
    """
    if isinstance(batches, np.ndarray):
        batches = _Windows(batches)
    if by is not None:
        return by(model, batches)
    first = np.asarray(model.predict_on_batch(batches[0][0]))

    def outputs(index: int) -> np.ndarray:
        x = batches[index][0]
        filled = np.concatenate([x, np.repeat(x[-1:], len(first) - len(x), axis=0)])
        return np.asarray(model.predict_on_batch(filled))[: len(x)]

    others = range(1, len(batches))
    threaded = keras.backend.backend() == "tensorflow"
    rest = side_by_side(outputs, others) if threaded else map(outputs, others)
    return np.concatenate([first, *rest])


def trace_prediction(model: keras.Model, batches: Batches) -> None:
    """Has TensorFlow trace what `predict_windows` will ask of a model; compiles nothing."""
    model.make_predict_function()
    function: Any = model.predict_function
    function.get_concrete_function([(_first(batches),)])


def compile_prediction(model: keras.Model, batches: Batches) -> None:
    """Has a model compile what `predict_windows` will ask of it, by predicting the first batch."""
    model.predict_on_batch(_first(batches))


def _first(batches) -> np.ndarray:
    return (_Windows(batches) if isinstance(batches, np.ndarray) else batches)[0][0]


class _Windows:
    """An array of windows as batches."""

    batch_size = AT_ONCE

    def __init__(self, x: np.ndarray):
        self._x, self.num_rows = x, len(x)

    def part(self, number: int, count: int) -> "_Windows":
        size = -(-self.num_rows // count)
        return _Windows(self._x[number * size : (number + 1) * size])

    def __len__(self) -> int:
        return -(-self.num_rows // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (self._x[index * self.batch_size : (index + 1) * self.batch_size],)
