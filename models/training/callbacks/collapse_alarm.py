"""Watching a training for its collapse to one class."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.calls import hardly_called
from core.i18n import N_, _
from models.training.callbacks.base import StatefulCallback

LOOK_AT = {
    "no signal": "FUTURE_WINDOW, SEQUENCE_LENGTH, LABEL_METHOD, LR_BASE, WEIGHT_DECAY_L2",
    "prior shift": "AFL_GAMMA, AFL_ALPHA, CLASS_SMOOTHING, CE_WEIGHT_END, TARGET_CLASS_RATIOS",
    "missing class": "LABEL_METHOD, TARGET_CLASS_RATIOS, AFL_ALPHA, RESTORE_TEMPERATURE",
}
# To be filled with an alarm and `look_at`.
MESSAGES = {
    "no signal": N_(
        "epoch {epoch}: no signal: the network tells no windows apart ({favoured} is {rate:.0%} of "
        "the predictions, logit spread {spread:.3f}, MCC {mcc:+.3f}); look at {look_at}"
    ),
    "prior shift": N_(
        "epoch {epoch}: prior shift: the network tells windows apart but favours one class "
        "({favoured} is {rate:.0%} of the predictions, logit spread {spread:.3f}, MCC {mcc:+.3f}); "
        "look at {look_at}"
    ),
    "missing class": N_(
        "epoch {epoch}: missing class: {favoured} is {rate:.2%} of the calls and {share:.0%} of "
        "the validation windows; look at {look_at}"
    ),
}

_FIRST_EPOCH = 1  # an untrained head is always without signal
_MAX_KL = 0.25  # nats; a class counts as favoured above it
_MIN_SPREAD = 0.05  # nats; logits that differ less from window to window count as equal
_MAX_MCC = 0.02  # |MCC| without skill; at least 2 / sqrt(windows), which luck alone gives


class CollapseAlarm(StatefulCallback):
    """Tells "no signal" from "prior shift" when the predictions run into one class.

    Listed after `ValidationMetrics`, whose training logits and MCC it reads.

    *No signal*: all windows get nearly the same logits and MCC is about 0, so argmax names one
    class throughout for an edge of a few per cent; another loss would only change which class.
    *Prior shift*: the logits tell windows apart, but one class is favoured far beyond its share
    of the batches and of the validation labels: loss parameters and quotas are to blame.
    *Missing class*: a class is hardly ever called (see `core.calls.hardly_called`), though the
    logits are neither of these: whoever reads the answers never hears of it.

    `alarms` has one dictionary for each epoch with an alarm: epoch (counted from 0), kind, favoured
    (class name; of a missing class the one that is missing), rate (its share of predictions), share
    (that of the labels), kl (nats, of the predicted rates to the quotas), spread, mcc; `message`
    puts it in words.

    Args:
        quotas: class distribution of the training batches, any positive scale.
        validation: the `ValidationMetrics` listed before this callback.
        note: told the message of an alarm, unless the epoch before had one of the same kind.
    """

    def __init__(
        self,
        quotas: Sequence[float] | np.ndarray,
        validation,
        note: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self.quotas = np.asarray(quotas, "float64") / np.sum(quotas)
        self.validation = validation
        self.note = note

    def reset(self):
        self.alarms: list[dict] = []

    def on_epoch_end(self, epoch, logs=None):
        logits = self.validation.logits
        if logits is None or epoch < _FIRST_EPOCH or not np.all(np.isfinite(logits)):
            return
        names = self.validation.class_names
        rates = np.bincount(logits.argmax(axis=-1), minlength=len(names)) / len(logits)
        spread, kl = logit_spread(logits), kl_divergence(rates, self.quotas)
        labels = self.validation.labels
        shares = np.bincount(labels, minlength=len(names)) / len(labels)
        shifted = min(kl, kl_divergence(rates, shares)) > _MAX_KL
        luck = max(_MAX_MCC, 2 / math.sqrt(len(labels)))
        skilled = abs(logs["val_mcc"]) > luck
        called = [logs[f"val_rate_{name}"] for name in names]
        missing = hardly_called(called, shares.tolist())
        kind = _kind(spread < _MIN_SPREAD, skilled, shifted, bool(missing))
        if kind is None:
            return
        favoured = int(np.argmax(rates / self.quotas))
        if kind == "missing class":
            favoured, rates = missing[0], called
        alarm = {
            "epoch": int(epoch),
            "kind": kind,
            "favoured": names[favoured].upper(),
            "rate": float(rates[favoured]),
            "share": float(shares[favoured]),
            "kl": float(kl),
            "spread": float(spread),
            "mcc": float(logs["val_mcc"]),
        }
        goes_on = any(a["epoch"] == epoch - 1 and a["kind"] == kind for a in self.alarms)
        self.alarms.append(alarm)
        if self.note is not None and not goes_on:
            self.note(message(alarm))

    def get_state(self):
        return {"alarms": [dict(alarm) for alarm in self.alarms]}

    def load(self, state):
        self.alarms = [dict(alarm) for alarm in state["alarms"]]


def message(alarm: Mapping[str, Any]) -> str:
    """Returns an alarm of `CollapseAlarm.alarms` in the language of now; epochs count from 1."""
    values = {**alarm, "epoch": alarm["epoch"] + 1, "look_at": LOOK_AT[alarm["kind"]]}
    return _(MESSAGES[alarm["kind"]], **values)


def _kind(equal_logits: bool, skilled: bool, shifted: bool, missing: bool) -> str | None:
    if equal_logits and not skilled:
        return "no signal"
    if shifted:
        return "prior shift"
    return "missing class" if missing else None


def logit_spread(logits: np.ndarray) -> float:
    """Returns how far windows differ in logits (windows, classes): a standard deviation, nats.

    Centred over the classes first, since softmax knows only differences.
    """
    centred = logits - logits.mean(axis=-1, keepdims=True)
    return float(centred.std(axis=0).mean())


def kl_divergence(rates: np.ndarray, quotas: np.ndarray) -> float:
    """Returns sum of rate log(rate / quota) in nats; a rate of 0 adds nothing.

    A quota of 0 counts as 1e-6, so that the sum stays finite.
    """
    seen = rates > 0
    quotas = np.maximum(quotas[seen], 1e-6)
    return float(np.sum(rates[seen] * np.log(rates[seen] / quotas)))
