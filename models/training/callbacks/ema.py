"""Validation and prediction under the averaged weights, with swaps that are exact."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from models.training.callbacks.base import StatefulCallback, copy_of


class EMAWeightsCallback(StatefulCallback):
    """Lets validation, prediction and the choice of the epoch use the averaged weights.

    The averages are those of an `AveragedAdam`. Weights are swapped by copying values, so the raw
    weights come back bit for bit and validation cannot change the training; Keras's
    `SwapEMAWeights` swaps by adding and subtracting, which is off by rounding errors.

        with ema.swapped(model):
            logits = model.predict(windows)

    `validation_data` of `fit` are evaluated under the averages too. Keras calls no hook where that
    evaluation raises: the averages then stay in the model until `on_test_end()` is called or the
    next `fit` begins.

    Listed before all callbacks that validate, choose or mine; they are given this one.
    """

    def __init__(self):
        super().__init__()
        # The weights and their raw values, while the averages are in the model.
        self._raw: list[tuple[keras.Variable, np.ndarray]] | None = None

    @contextlib.contextmanager
    def swapped(self, model: keras.Model) -> Iterator[keras.Model]:
        """Has the averages in the model, and the raw weights back at the end, come what may.

        Raises:
            ValueError: where the model's optimizer keeps no averages.
        """
        outermost = self._swap_in(model)
        try:
            yield model
        finally:
            if outermost:
                self._swap_out()

    def on_train_begin(self, logs=None):
        """Checks the optimizer, and ends a validation that an earlier `fit` died in."""
        super().on_train_begin(logs)
        _averaged_optimizer(self.model)
        self._swap_out()

    def load(self, state):
        """Lets go of raw weights: the model has been given others."""
        self._raw = None

    def on_test_begin(self, logs=None):
        self._swap_in(self.model)

    def on_test_end(self, logs=None):
        self._swap_out()

    def _swap_in(self, model: keras.Model) -> bool:
        """Returns whether the averages were put into the model by this call."""
        optimizer = _averaged_optimizer(model)
        if self._raw is not None:
            return False
        self._raw = [(variable, copy_of(variable)) for variable in model.trainable_variables]
        if int(optimizer.iterations) > 0:  # before the first step the weights are their average
            averages = optimizer.averages()
            for variable, average in zip(model.trainable_variables, averages, strict=True):
                variable.assign(average)
        return True

    def _swap_out(self) -> None:
        for variable, value in self._raw or []:
            variable.assign(value)
        self._raw = None


def averaged_weights(ema: EMAWeightsCallback | None, model: keras.Model):
    """Returns the context in which the model has its averaged weights, if it keeps any."""
    return ema.swapped(model) if ema is not None else contextlib.nullcontext()


def _averaged_optimizer(model: keras.Model):
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # behind loss scaling
    if not getattr(optimizer, "average_decay", 0):
        raise ValueError(
            "averaged weights need a model compiled with AveragedAdam(average_decay > 0), got "
            f"{type(optimizer).__name__}(average_decay={getattr(optimizer, 'average_decay', 0)})"
        )
    return optimizer
