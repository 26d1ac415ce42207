"""Watching a training: collapse to one class, and losses that are no numbers."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from models.stateful import StatefulCallback, copy_of

LOOK_AT = {
    "no signal": "FUTURE_WINDOW, SEQUENCE_LENGTH, LABEL_METHOD, LR_BASE, WEIGHT_DECAY_L2",
    "prior shift": "AFL_GAMMA, AFL_ALPHA, CLASS_SMOOTHING, CE_WEIGHT_END, TARGET_CLASS_RATIOS",
}


class CollapseAlarm(StatefulCallback):
    """Tells "no signal" from "prior shift" when the predictions run into one class.

    *No signal*: all windows get nearly the same logits and MCC is about 0, so argmax names one
    class throughout for an edge of a few per cent; another loss would only change which class.
    *Prior shift*: the logits tell windows apart, but one class is favoured far beyond its share
    of the batches: loss parameters and quotas are to blame.

    `alarms` has one dictionary for each epoch with an alarm: epoch, kind, favoured (class name),
    rate (its share of predictions), kl (nats, of the predicted rates to the quotas), spread,
    mcc, message.

    Args:
        quotas: class distribution of the training batches, any positive scale.
        validation: the `ValidationMetrics` listed before this callback.
        max_kl: divergence above which one class counts as favoured, in nats.
        min_spread: standard deviation of the logits over the windows (centred over the classes,
            averaged over them) below which they count as equal, in nats.
        max_mcc: |MCC| up to which there is no skill.
        first_epoch: first epoch that is watched; an untrained head is always without signal.
        note: told the message of every alarm.
    """

    part = "alarm"

    def __init__(
        self,
        quotas: Sequence[float],
        validation,
        max_kl: float = 0.25,
        min_spread: float = 0.05,
        max_mcc: float = 0.02,
        first_epoch: int = 0,
        note: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self.quotas = np.asarray(quotas, "float64") / np.sum(quotas)
        self.validation = validation
        self.max_kl, self.min_spread, self.max_mcc = max_kl, min_spread, max_mcc
        self.first_epoch = first_epoch
        self.note = note

    def reset(self):
        """Forgets the alarms."""
        self.alarms: list[dict] = []

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the last validation and records an alarm where there is one."""
        logits = self.validation.logits
        if logits is None or epoch < self.first_epoch or not np.all(np.isfinite(logits)):
            return
        names = self.validation.class_names
        rates = np.array([logs[f"val_rate_{name}"] for name in names])
        spread, kl = logit_spread(logits), kl_divergence(rates, self.quotas)
        kind = self._kind(kl, spread, logs["val_mcc"])
        if kind is None:
            return
        favoured = int(np.argmax(rates / self.quotas))
        alarm = {
            "epoch": int(epoch),
            "kind": kind,
            "favoured": names[favoured].upper(),
            "rate": float(rates[favoured]),
            "kl": float(kl),
            "spread": float(spread),
            "mcc": float(logs["val_mcc"]),
        }
        alarm["message"] = _message(alarm)
        self.alarms.append(alarm)
        if self.note is not None:
            self.note(alarm["message"])

    def _kind(self, kl: float, spread: float, mcc: float) -> str | None:
        if spread < self.min_spread and abs(mcc) <= self.max_mcc:
            return "no signal"
        return "prior shift" if kl > self.max_kl else None

    def get_state(self):
        """Returns the alarms."""
        return {"alarms": [dict(alarm) for alarm in self.alarms]}

    def load(self, state):
        """Takes over the alarms."""
        self.alarms = [dict(alarm) for alarm in state["alarms"]]


def logit_spread(logits: np.ndarray) -> float:
    """Returns how far windows differ in logits (windows, classes): a standard deviation, nats.

    Centred over the classes first, since softmax knows only differences.
    """
    centred = logits - logits.mean(axis=-1, keepdims=True)
    return float(centred.std(axis=0).mean())


def kl_divergence(rates: np.ndarray, quotas: np.ndarray) -> float:
    """Returns sum of rate log(rate / quota) in nats; a rate of 0 adds nothing."""
    seen = rates > 0
    return float(np.sum(rates[seen] * np.log(rates[seen] / quotas[seen])))


def _message(alarm: dict) -> str:
    cause = {
        "no signal": "the network tells no windows apart",
        "prior shift": "the network tells windows apart but favours one class",
    }[alarm["kind"]]
    return (
        f"epoch {alarm['epoch']}: {alarm['kind']}: {cause} ({alarm['favoured']} is "
        f"{alarm['rate']:.0%} of the predictions, logit spread {alarm['spread']:.3f}, MCC "
        f"{alarm['mcc']:+.3f}); look at {LOOK_AT[alarm['kind']]}"
    )


class TrainingDiverged(RuntimeError):
    """A loss or weight became NaN or infinite; has `epoch`, `batch` and `fault`."""

    def __init__(self, epoch: int, batch: int | None, fault: str):
        place = f"epoch {epoch}" + ("" if batch is None else f", batch {batch}")
        super().__init__(f"training diverged in {place}: {fault}")
        self.epoch, self.batch, self.fault = epoch, batch, fault


class NonFiniteLoss(StatefulCallback):
    """Stops the training at once where the loss or a weight is NaN or infinite.

    The weights are looked at after each epoch too, so that a checkpoint never holds broken ones.
    After a loss that is no number the model has the weights of the start of the epoch: one broken
    step breaks all weights, and with them the trace of the layer at fault.

    Args:
        batches: the training batches, to look for the fault in; `batches[index]` gives (x, ...).
        describe: from (epoch, batch) to a text that says which windows the batch held.
        feature_names: of the input, (features,), to name one that is not finite.

    Raises:
        TrainingDiverged: from `fit`, with epoch, batch and the first fault found.
    """

    part = "non_finite"

    def __init__(
        self,
        batches=None,
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
        """Keeps the weights, to find the fault with."""
        self._epoch, self._checked = epoch, -1
        self._start = [copy_of(v) for v in self.model.variables]

    def on_train_batch_end(self, batch, logs=None):
        """Stops at the first loss that is no number."""
        if math.isfinite((logs or {}).get("loss", 0.0)):
            self._checked = batch
            return
        # With several steps per execution the loss is that of the last one.
        suspects = range(self._checked + 1, batch + 1)
        raise TrainingDiverged(self._epoch, *self._find(suspects))

    def on_epoch_end(self, epoch, logs=None):
        """Stops where the last steps broke the weights."""
        broken = _nonfinite_weight(self.model)
        if broken is not None:
            raise TrainingDiverged(epoch, None, f"weight {broken} is not finite")

    def _find(self, suspects) -> tuple[int, str]:
        """Returns the batch at fault and a sentence on what is wrong with it."""
        broken = _nonfinite_weight(self.model)
        batch, fault = suspects[-1], "no layer's output was at fault before the epoch's steps"
        if broken is not None:
            fault += f"; weight {broken} is not finite after them"
        for variable, value in zip(self.model.variables, self._start, strict=True):
            variable.assign(value)
        for index in suspects if self.batches is not None else []:
            found = first_nonfinite_layer(self.model, self.batches[index][0], self.feature_names)
            if found is not None:
                batch, fault = index, found
                break
        if self.describe is not None:
            fault += f" ({self.describe(self._epoch, batch)})"
        return batch, f"the loss is not finite; {fault}"


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
        return f"input feature {features[0]}{name} is not finite"
    outputs = [(layer.name, layer.output) for layer in model.layers]
    values = keras.Model(model.inputs, [output for _, output in outputs])([x], training=False)
    for (name, _), value in zip(outputs, values, strict=True):
        if not np.all(np.isfinite(ops.convert_to_numpy(value))):
            return f"layer {name} is the first whose output is not finite"
    return None


def _nonfinite_weight(model: keras.Model) -> str | None:
    for variable in model.trainable_variables:
        if not np.all(np.isfinite(copy_of(variable))):
            return variable.path
    return None
