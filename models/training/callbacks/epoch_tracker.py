"""Tells the parts that change with the epoch which epoch it is, and logs their values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from models.training.callbacks.base import StatefulCallback


@dataclass(frozen=True)
class EpochSchedules:
    """What changes with the epoch: functions of the epoch, counted from 0; None: stays as it is.

    Attributes:
        ce_weight: weight of cross-entropy, for a model with a `MixedLoss`.
        logit_cap: soft cap of the logits, 0 for none, for a model with a capped head.
        hard_share: hard share of the batches; logged only, the batches have it.

    Examples:
        >>> schedules = EpochSchedules(ce_weight=lambda epoch: max(0.0, 1 - epoch / 5))
        >>> [round(schedules.ce_weight(epoch), 1) for epoch in (0, 2, 9)]
        [1.0, 0.6, 0.0]
    """

    ce_weight: Callable[[int], float] | None = None
    logit_cap: Callable[[int], float] | None = None
    hard_share: Callable[[int], float] | None = None


class EpochTracker(StatefulCallback):
    """Tells the parts that change with the epoch which epoch it is, and logs their values.

    Listed first: all others find the epoch's values set. The schedules are pure functions of the
    epoch, so there is nothing to store: a resumed run finds every value again.

    Args:
        batches: the training batches, told the epoch by `set_epoch(epoch)`; None, or what has no
            such method, as arrays: nothing is told.
        schedules: what loss and head of the model follow.
    """

    def __init__(self, batches=None, schedules: EpochSchedules | None = None):
        super().__init__()
        self.batches, self.schedules = batches, schedules or EpochSchedules()

    def on_train_begin(self, logs=None):
        """Raises ValueError where the training step would not see the weight of cross-entropy."""
        super().on_train_begin(logs)
        if self.schedules.ce_weight is None or keras.backend.backend() != "jax":
            return
        if not any(v is self.model.loss.ce_weight for v in self.model.metrics_variables):
            raise ValueError(
                "on JAX ce_weight needs a model compiled with metrics=[CrossEntropyWeight(loss)]"
            )

    def on_epoch_begin(self, epoch, logs=None):
        set_epoch = getattr(self.batches, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
        if self.schedules.ce_weight is not None:
            self.model.loss.ce_weight.assign(self.schedules.ce_weight(epoch))
        if self.schedules.logit_cap is not None:
            self._capped_layer().logit_cap.assign(self.schedules.logit_cap(epoch))

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if hasattr(self.model.loss, "ce_weight"):
            logs["ce_weight"] = float(self.model.loss.ce_weight)
        if self._capped_layer() is not None:
            logs["logit_cap"] = float(self._capped_layer().logit_cap)
        if self.schedules.hard_share is not None:
            logs["hard_share"] = float(self.schedules.hard_share(epoch))

    def _capped_layer(self) -> Any:
        return next((layer for layer in self.model.layers if hasattr(layer, "logit_cap")), None)
