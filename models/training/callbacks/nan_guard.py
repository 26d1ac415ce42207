"""Stopping a training whose loss is no number, with the first thing at fault named."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from core.i18n import _
from models.training.callbacks.base import StatefulCallback, copy_of


class TrainingDiverged(RuntimeError):
    """A loss or weight became NaN or infinite.

    Attributes:
        epoch: counted from 0; the message counts epochs and batches from 1.
        batch: counted from 0; None where no batch is at fault.
        fault: what was found, in words.
    """

    def __init__(self, epoch: int, batch: int | None, fault: str):
        place = {"epoch": epoch + 1, "fault": fault}
        if batch is None:
            super().__init__(_("training diverged in epoch {epoch}: {fault}", **place))
        else:
            message = _(
                "training diverged in epoch {epoch}, batch {batch}: {fault}",
                **place,
                batch=batch + 1,
            )
            super().__init__(message)
        self.epoch, self.batch, self.fault = epoch, batch, fault


class NonFiniteLoss(StatefulCallback):
    """Stops the training at once where the loss or a weight is NaN or infinite.

    Listed after `EpochTracker`, which sets the epoch of the batches, and before all that would
    act on broken weights: nothing is validated, mined with, chosen or saved after a fault, so the
    last checkpoint stays the last good one.

    After each step the loss is looked at and the last weight, which a gradient that is not finite
    reaches first; after each epoch all weights are. On JAX, where a step's weights are in no
    variable before the epoch ends, the loss of the next step tells of them. The model then has
    the weights of the start of the epoch: one broken step breaks all weights, and with them the
    trace of the layer at fault.

    Args:
        batches: the training batches, to look for the fault in; `batches[index]` gives (x, ...).
            None: `fit` is given arrays, of which a batch is not known.
        describe: from (epoch, batch) to a text that says which windows the batch held.
        feature_names: of the input, (features,), to name one that is not finite.

    Raises:
        TrainingDiverged: from `fit`, with epoch, batch and the first fault found.
    """

    def __init__(
        self,
        batches,
        describe: Callable[[int, int], str] | None = None,
        feature_names: Sequence[str] | None = None,
    ):
        super().__init__()
        self.batches = batches
        self.describe = describe
        self.feature_names = feature_names
        self._epoch = 0
        self._start: list[np.ndarray] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._checked = epoch, -1
        self._start = [copy_of(v) for v in self.model.variables]

    def on_train_batch_end(self, batch, logs=None):
        finite = math.isfinite((logs or {}).get("loss", 0.0))
        on_jax = keras.backend.backend() == "jax"
        last = [] if on_jax else self.model.trainable_variables[-1:]
        if finite and all(np.all(np.isfinite(copy_of(v))) for v in last):
            self._checked = batch
            return
        # With several steps per execution the loss is that of the last one.
        suspects = range(self._checked + 1, batch + 1)
        if finite:
            what = _("the weights are not finite after its step")
        else:
            what = _("the loss is not finite")
        index, fault = self._find(suspects)
        if self.describe is not None:
            held = self.describe(self._epoch, index)
            fault = f"{fault} ({held})"
        raise TrainingDiverged(self._epoch, index, f"{what}; {fault}")

    def on_epoch_end(self, epoch, logs=None):
        """Stops where a weight is broken that no loss has shown yet."""
        for variable in self.model.trainable_variables:
            if not np.all(np.isfinite(copy_of(variable))):
                fault = _("weight {path} is not finite", path=variable.path)
                raise TrainingDiverged(epoch, None, fault)

    def _find(self, suspects: Sequence[int]) -> tuple[int, str]:
        """Returns the batch at fault and what is wrong with it."""
        for variable, value in zip(self.model.variables, self._start, strict=True):
            variable.assign(value)
        if self.batches is None:
            return suspects[0], _("which layer is at fault is not known: fit was given arrays")
        for index in suspects:
            fault = first_nonfinite_layer(self.model, self.batches[index][0], self.feature_names)
            if fault is not None:
                return index, fault
        return suspects[-1], _(
            "with the weights from the start of the epoch all layers have finite outputs, so the "
            "steps since then are at fault; check LR_BASE and GRADIENT_CLIP_NORM",
        )


def first_nonfinite_layer(
    model: keras.Model, x: np.ndarray, feature_names: Sequence[str] | None = None
) -> str | None:
    """Returns where the first NaN or infinity arises, or None if there is none.

    Args:
        model: a functional model; its layers are tried in order, without dropout.
        x: windows, (batch, time, features).
        feature_names: of the input, (features,); None: features have numbers alone.
    """
    x = np.asarray(x)
    if not np.all(np.isfinite(x)):
        features = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(x.ndim - 1))))
        name = f" ({feature_names[features[0]]})" if feature_names is not None else ""
        return _("input feature {number}{name} is not finite", number=int(features[0]), name=name)
    outputs = [(layer.name, layer.output) for layer in model.layers]
    values = keras.Model(model.inputs, [output for _name, output in outputs])([x], training=False)
    for (name, _output), value in zip(outputs, values, strict=True):
        if not np.all(np.isfinite(ops.convert_to_numpy(value))):
            return _("layer {name} is the first whose output is not finite", name=name)
    return None
