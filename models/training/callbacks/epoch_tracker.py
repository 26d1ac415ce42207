"""Tells the parts that change with the epoch which epoch it is, and logs their values."""

from collections.abc import Callable

from models.training.callbacks.base import StatefulCallback


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
