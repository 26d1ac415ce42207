"""The choice of the epoch: the last, unless an earlier one was better by more than luck."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from models.training.callbacks.base import StatefulCallback, copy_of
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights

MODES = {"val_nll": "min", "val_mcc": "max", "val_macro_f1": "max"}
_NO_SKILL = {"val_mcc": 0.0}  # what is not above it chooses nothing


def beyond_luck(best: np.ndarray, last: np.ndarray, blocks: np.ndarray) -> bool:
    """Returns whether one epoch's NLL is below another's by more than a standard error.

    The error is a jackknife's of the paired difference, blocks of time left out in turn (Kuensch
    1989); of one block there is none, and the answer is no.

    Args:
        best: NLL of each validation window in the epoch that is to be taken, (windows,).
        last: the same in the other epoch.
        blocks: number of each window's block, 0.. without holes, (windows,).
    """
    differences, counts = np.bincount(blocks, last - best), np.bincount(blocks)
    if len(counts) < 2:
        return False
    without = (differences.sum() - differences) / (counts.sum() - counts)
    error = np.sqrt((len(counts) - 1) * np.var(without))
    return bool(differences.sum() / counts.sum() > error)


class BestWeights(StatefulCallback):
    """Keeps the weights of the best epoch and of the last one, as they were validated.

    A figure of a few thousand windows wanders from epoch to epoch, so the best of ten epochs is
    mostly the luckiest. Where the NLL chooses (`losses` and `blocks` are given), an earlier epoch
    is taken instead of the last only if it is better beyond a standard error over blocks of time.
    An MCC of 0 or less chooses nothing: the last epoch is taken. Where the patience ended the
    training, the best epoch is taken: the last is worse by so many epochs.

    Epochs whose logs lack the metric, or where it is not a number, are no candidates. Listed after
    `ValidationMetrics`, and before `Checkpointer`. After `fit` the model has the weights of the
    last epoch until `restore(model)` is called.

    Args:
        monitor: name of the metric in the logs.
        ema: callback with the averages, the same as that of the validation; None for raw weights.
        patience: validated epochs without a better metric after which training stops; 0: never.
        mode: "max" or "min"; None: the one of the metric.
        losses: returns the NLL of each validation window in the epoch just validated, (windows,).
        blocks: number of the block of time of each of these windows, (windows,).
    """

    def __init__(
        self,
        monitor: str = "val_nll",
        ema: EMAWeightsCallback | None = None,
        patience: int = 0,
        *,
        mode: str | None = None,
        losses: Callable[[], np.ndarray] | None = None,
        blocks: np.ndarray | None = None,
    ):
        mode = mode or MODES.get(monitor)
        if mode not in ("max", "min"):
            raise ValueError(f"mode of {monitor} must be 'max' or 'min', got {mode!r}")
        super().__init__()
        self.monitor, self.mode, self.ema, self.patience = monitor, mode, ema, patience
        self._read_losses, self._blocks = losses, blocks

    def reset(self):
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.wait = 0

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up; a resumed run must not train on then."""
        return 0 < self.patience <= self.wait

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        if np.isfinite(value):
            self.last = self._candidate(epoch, float(value))
        if np.isfinite(value) and self._is_better(value):
            self.best, self.wait = self.last, 0
        else:
            self.wait += 1
        if self.exhausted:
            self.model.stop_training = True

    def _candidate(self, epoch: int, value: float) -> dict[str, Any]:
        with averaged_weights(self.ema, self.model):
            weights = [copy_of(w) for w in self.model.weights]
        losses = None if self._read_losses is None else self._read_losses()
        return {"epoch": epoch, "value": value, "losses": losses, "weights": weights}

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return True
        best = self.best["value"]
        return value > best if self.mode == "max" else value < best

    @property
    def chosen(self) -> dict[str, Any]:
        """The epoch that is taken, its metric and its weights.

        Raises:
            ValueError: where no epoch had the monitored metric.
        """
        best, last = self.best, self.last
        if best is None or last is None:
            raise ValueError(f"there is no best epoch: no epoch logged a finite {self.monitor}")
        if best["epoch"] == last["epoch"]:
            return last
        if self.monitor in _NO_SKILL and best["value"] <= _NO_SKILL[self.monitor]:
            return last
        if self.exhausted or best["losses"] is None or self._blocks is None:
            return best
        return best if beyond_luck(best["losses"], last["losses"], self._blocks) else last

    def restore(self, model: keras.Model, *, last: bool = False) -> int:
        """Puts the weights of the chosen epoch into the model and returns the epoch.

        Args:
            model: that was trained.
            last: whether the last epoch is taken, whatever the metric says.

        Raises:
            ValueError: where no epoch had the monitored metric.
        """
        chosen = self.last if last and self.last is not None else self.chosen
        for variable, value in zip(model.weights, chosen["weights"], strict=True):
            variable.assign(value)
        return chosen["epoch"]

    def get_state(self):
        same = self.best is not None and self.last is self.best
        return {"best": self.best, "last": None if same else self.last, "wait": self.wait}

    def load(self, state):
        self.best, self.wait = state["best"], state["wait"]
        self.last = self.best if state["last"] is None else state["last"]
