"""The choice of the epoch: the weights with the best validation metric are kept."""

import keras
import numpy as np

from models.training.callbacks.base import StatefulCallback, copy_of
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights


class BestWeights(StatefulCallback):
    """Keeps the weights of the best epoch, those that the monitored metric was measured with.

    Epochs whose logs lack the metric, or where it is not a number, are no candidates. Listed after
    `ValidationMetrics`, and before `Checkpointer`. After `fit` the model has the weights of the
    last epoch until `restore(model)` is called.

    Args:
        monitor: name of the metric in the logs.
        mode: "max" or "min".
        ema: callback with the averages, the same as that of the validation; None for raw weights.
        patience: validated epochs without a better metric after which training stops; 0: never.
    """

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
        """Compares the metric with the best, and copies the weights where it is better."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        if self._is_better(value):
            self.best, self.best_epoch, self.wait = float(value), epoch, 0
            with averaged_weights(self.ema, self.model):
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

    def restore(self, model: keras.Model) -> int:
        """Puts the weights of the best epoch into the model and returns the epoch.

        Raises:
            ValueError: where no epoch had the monitored metric.
        """
        if self.best_epoch is None:
            raise ValueError(f"there is no best epoch: no epoch logged a finite {self.monitor}")
        for variable, value in zip(model.weights, self._weights, strict=True):
            variable.assign(value)
        return self.best_epoch

    def get_state(self):
        """Returns the best metric, its epoch, its weights, and the epochs waited since."""
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
