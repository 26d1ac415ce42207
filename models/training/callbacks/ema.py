"""Validation and prediction under the averaged weights, with swaps that are exact."""

import contextlib
import functools
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

    Listed before all callbacks that validate, choose or mine; they are given this one.

    Args:
        use_for_validation: whether the validation inside `fit`, and `for_validation`, use the
            averages. `swapped` always does.
    """

    part = "ema"

    def __init__(self, use_for_validation: bool = True):
        super().__init__()
        self.use_for_validation = use_for_validation
        self._raw: list[np.ndarray] | None = None  # while the averages are in the model

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
                self._swap_out(model)

    @contextlib.contextmanager
    def for_validation(self, model: keras.Model) -> Iterator[keras.Model]:
        """Has the weights in the model that validation is to use: averaged or raw."""
        with self.swapped(model) if self.use_for_validation else contextlib.nullcontext():
            yield model

    def on_train_begin(self, logs=None):
        """Checks the optimizer, and guards the validation inside `fit`."""
        super().on_train_begin(logs)
        _averaged_optimizer(self.model)
        self._guard_evaluate()

    def on_test_begin(self, logs=None):
        """Puts the averages into the model."""
        if self.use_for_validation:
            self._swap_in(self.model)

    def on_test_end(self, logs=None):
        """Puts the raw weights back."""
        self._swap_out(self.model)

    def on_train_end(self, logs=None):
        """Removes the guard."""
        self.model.__dict__.pop("evaluate", None)

    def _guard_evaluate(self) -> None:
        """Wraps `model.evaluate` until `fit` ends: Keras calls no hook where validation raises."""
        model = self.model
        model.__dict__.pop("evaluate", None)
        evaluate = model.evaluate

        @functools.wraps(evaluate)
        def guarded(*args, **kwargs):
            try:
                return evaluate(*args, **kwargs)
            finally:
                self._swap_out(model)

        model.__dict__["evaluate"] = guarded

    def _swap_in(self, model: keras.Model) -> bool:
        """Returns whether the averages were put into the model by this call."""
        optimizer = _averaged_optimizer(model)
        if self._raw is not None:
            return False
        self._raw = [copy_of(variable) for variable in model.trainable_variables]
        if int(optimizer.iterations) > 0:  # before the first step the weights are their average
            for variable, average in zip(
                model.trainable_variables, optimizer.averages, strict=True
            ):
                variable.assign(copy_of(average))
        return True

    def _swap_out(self, model: keras.Model) -> None:
        if self._raw is not None:
            for variable, value in zip(model.trainable_variables, self._raw, strict=True):
                variable.assign(value)
            self._raw = None


def validation_weights(ema: EMAWeightsCallback | None, model: keras.Model):
    """Returns the context in which the model has the weights that validation is to use."""
    return ema.for_validation(model) if ema is not None else contextlib.nullcontext()


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
