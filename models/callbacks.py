"""Callbacks of the recipe: what changes with the epoch, and the choice of the epoch.

All callbacks must be listed in this order: `EpochTracker`, `NonFiniteLoss` (models/divergence.py),
`EMAWeightsCallback` (models/ema.py), `ValidationMetrics` (models/validation.py), `CollapseAlarm`
(models/alarms.py), `BestWeights`, `HardNegativeMining` (models/mining.py), and last `Checkpointer`
(models/checkpoint.py), which saves what all others know. `get_training_callbacks` in
models/training.py makes such a list.
"""

from collections.abc import Callable

import keras
import numpy as np

from models.ema import EMAWeightsCallback, validation_weights
from models.stateful import StatefulCallback, copy_of


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
