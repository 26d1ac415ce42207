"""Callbacks of the recipe: what changes with the epoch, validation, and the choice of the epoch.

They must be listed in this order: `EpochTracker`, `NonFiniteLoss`, `EMAWeightsCallback`,
`ValidationMetrics`, `CollapseAlarm`, `BestWeights`, `HardNegativeMining`, and last `Checkpointer`,
which saves what all others know. `models.training.get_training_callbacks` makes such a list. The
averaged weights are in models/ema.py, the guard in models/divergence.py, the alarm in
models/alarms.py, the mining in models/mining.py.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import f1_score, matthews_corrcoef

from models.alarms import CollapseAlarm
from models.divergence import NonFiniteLoss, TrainingDiverged, first_nonfinite_layer
from models.ema import EMAWeightsCallback, validation_weights
from models.mining import HardNegativeMining
from models.stateful import StatefulCallback, copy_of

__all__ = [
    "BestWeights",
    "CollapseAlarm",
    "EMAWeightsCallback",
    "EpochTracker",
    "HardNegativeMining",
    "NonFiniteLoss",
    "StatefulCallback",
    "TrainingDiverged",
    "ValidationMetrics",
    "first_nonfinite_layer",
]


class EpochTracker(StatefulCallback):
    """Tells the parts that change with the epoch which epoch it is, and logs their values.

    Listed first: all others find the epoch's values set. The schedules are pure functions of the
    epoch, so there is nothing to store: a resumed run finds every value again.

    Args:
        batches: object with `set_epoch(epoch)`, such as the training batches.
        loss: a `MixedLoss`, whose `ce_weight` follows `ce_weight_schedule`.
        ce_weight_schedule: weight of cross-entropy for each epoch (from 0).
        logit_cap_layer: layer with a variable `logit_cap`, which follows `logit_cap_schedule`.
        logit_cap_schedule: soft cap of the logits for each epoch; 0 for none.
        hard_share: hard share of the batches for each epoch; logged only.
    """

    part = "epochs"

    def __init__(
        self,
        batches=None,
        loss=None,
        ce_weight_schedule: Callable[[int], float] | None = None,
        logit_cap_layer=None,
        logit_cap_schedule: Callable[[int], float] | None = None,
        hard_share: Callable[[int], float] | None = None,
    ):
        super().__init__()
        self.batches = batches
        self.loss = loss
        self.ce_weight_schedule = ce_weight_schedule
        self.logit_cap_layer = logit_cap_layer
        self.logit_cap_schedule = logit_cap_schedule
        self.hard_share = hard_share

    def on_epoch_begin(self, epoch, logs=None):
        """Sets epoch, weight of cross-entropy and logit cap."""
        if self.batches is not None:
            self.batches.set_epoch(epoch)
        if self.loss is not None and self.ce_weight_schedule is not None:
            self.loss.ce_weight.assign(self.ce_weight_schedule(epoch))
        if self.logit_cap_layer is not None and self.logit_cap_schedule is not None:
            self.logit_cap_layer.logit_cap.assign(self.logit_cap_schedule(epoch))

    def on_epoch_end(self, epoch, logs=None):
        """Adds learning_rate, ce_weight, logit_cap and hard_share to the logs."""
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if hasattr(self.loss, "ce_weight"):
            logs["ce_weight"] = float(self.loss.ce_weight)
        if self.logit_cap_layer is not None:
            logs["logit_cap"] = float(self.logit_cap_layer.logit_cap)
        if self.hard_share is not None:
            logs["hard_share"] = float(self.hard_share(epoch))


class ValidationMetrics(StatefulCallback):
    """Adds fixed figures of the validation windows to the logs, under the validation weights.

    The training loss changes its scale while cross-entropy gives way to the focal loss, so
    nothing may be chosen by it. These figures are of the training logits, before any calibration:
    val_mcc, val_macro_f1, val_nll and, for each class, val_rate_CLASS, its share of the
    predictions. The last logits stay in `logits`, float32 (windows, classes).

    Listed after `EMAWeightsCallback`, and before `CollapseAlarm` and `BestWeights`, which read the
    figures.

    Args:
        sequence: the validation windows in order, a Keras PyDataset.
        labels: class codes of the windows, (windows,).
        ema: callback with the averages; None for raw weights.
        every: epochs between two validations; the last epoch always has one.
        class_names: names for the logs, by class code.
    """

    part = "validation"

    def __init__(
        self,
        sequence: keras.utils.PyDataset,
        labels: np.ndarray,
        ema: EMAWeightsCallback | None = None,
        every: int = 1,
        class_names: Sequence[str] = ("sell", "hold", "buy"),
    ):
        super().__init__()
        self.sequence = sequence
        self.labels = np.asarray(labels)
        self.ema = ema
        self.every = every
        self.class_names = tuple(class_names)

    def reset(self):
        """Forgets the last logits."""
        self.logits = None

    def on_epoch_end(self, epoch, logs=None):
        """Predicts the validation windows and adds their figures to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every and not last:
            self.logits = None
            return
        with validation_weights(self.ema, self.model):
            self.logits = self.model.predict(self.sequence, verbose=0)
        logs.update(validation_figures(self.labels, self.logits, self.class_names))


def validation_figures(
    labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]
) -> dict[str, float]:
    """Returns val_mcc, val_macro_f1, val_nll and val_rate_CLASS of logits (windows, classes).

    Raises:
        ValueError: where labels and logits are not of the same windows.
    """
    if logits.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"validation logits must have shape ({len(labels)}, {len(class_names)}), one row per "
            f"label, got {logits.shape}"
        )
    predicted = logits.argmax(axis=-1)
    codes = np.arange(len(class_names))
    log_p = log_softmax(logits.astype("float64"), axis=-1)
    figures = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(
            labels, predicted, labels=codes, average="macro", zero_division=0.0
        ),
        "val_nll": -log_p[np.arange(len(labels)), labels].mean(),
    }
    for code, name in enumerate(class_names):
        figures[f"val_rate_{name}"] = np.mean(predicted == code)
    return {name: float(value) for name, value in figures.items()}


class BestWeights(StatefulCallback):
    """Keeps the weights of the best epoch, those that the monitored figure was measured with.

    Epochs whose logs lack the figure, or where it is not a number, are no candidates. Listed after
    `ValidationMetrics`, and before `Checkpointer`. After `fit` the model has the weights of the
    last epoch until `restore(model)` is called.

    Args:
        monitor: name of the figure in the logs.
        mode: "max" or "min".
        ema: callback with the averages, the same as that of the validation; None for raw weights.
        patience: validated epochs without a better figure after which training stops; 0: never.
    """

    part = "best"

    def __init__(
        self,
        monitor: str = "val_mcc",
        mode: str = "max",
        ema: EMAWeightsCallback | None = None,
        patience: int = 0,
    ):
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")
        super().__init__()
        self.monitor, self.mode, self.ema, self.patience = monitor, mode, ema, patience

    def reset(self):
        """Forgets the best epoch."""
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.wait = 0
        self._weights: list[np.ndarray] = []

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up; a resumed run must not train on then."""
        return 0 < self.patience <= self.wait

    def on_epoch_end(self, epoch, logs=None):
        """Compares the figure with the best, and copies the weights where it is better."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        if self._is_better(value):
            self.best, self.best_epoch, self.wait = float(value), epoch, 0
            with validation_weights(self.ema, self.model):
                self._weights = [copy_of(w) for w in self.model.weights]
        else:
            self.wait += 1
        if self.exhausted:
            self.model.stop_training = True

    def _is_better(self, value: float) -> bool:
        if not np.isfinite(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self.mode == "max" else value < self.best

    def restore(self, model: keras.Model) -> None:
        """Puts the weights of the best epoch into the model.

        Raises:
            ValueError: where no epoch had the monitored figure.
        """
        if self.best is None:
            raise ValueError(f"there is no best epoch: no epoch logged a finite {self.monitor}")
        for variable, value in zip(model.weights, self._weights, strict=True):
            variable.assign(value)

    def get_state(self):
        """Returns the best figure, its epoch, its weights, and the epochs waited since."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "wait": self.wait,
            "weights": list(self._weights),
        }

    def load(self, state):
        """Takes over the state of `get_state`."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.wait, self._weights = state["wait"], list(state["weights"])
