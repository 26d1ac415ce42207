"""How a classifier is trained: what is minimised, by which steps, and which epoch is kept."""

from dataclasses import dataclass
from typing import Any

from models.probabilities import PerClass
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam
from models.training.schedules import (
    WarmUpCosineDecayScheduler,
    linear_ramp,
    logit_cap_release,
)


@dataclass(frozen=True)
class LossSettings:
    """The change from cross-entropy to the asymmetric focal loss, see `models.training.losses`.

    Attributes:
        alpha: weight of each class in the focal part; one number counts for all, here and below.
        gamma: focusing exponent of each class.
        smoothing: label smoothing of each class.
        ce_start: weight of cross-entropy in the first epoch; start and end of 1: it alone.
        ce_end: weight from the end of the warm-up on.
        warmup_epochs: epochs over which the weight falls.
    """

    alpha: PerClass = 1.0
    gamma: PerClass = 0.0
    smoothing: PerClass = 0.0
    ce_start: float = 1.0
    ce_end: float = 1.0
    warmup_epochs: int = 0

    @property
    def focal(self) -> dict[str, Any]:
        """What training and the restoration of its probabilities must agree on."""
        return {"alpha": self.alpha, "gamma": self.gamma, "smoothing": self.smoothing}

    def ce_weight(self, epoch: int) -> float:
        """Returns the weight of cross-entropy in an epoch."""
        return linear_ramp(epoch, 0, self.warmup_epochs, self.ce_start, self.ce_end)

    def build(self, hard_classes: int = 0) -> MixedLoss:
        """Returns the loss as it is in the first epoch.

        Args:
            hard_classes: number of classes, where hard windows are mined; 0: they are not.
        """
        return MixedLoss(ce_weight=self.ce_start, hard_classes=hard_classes, **self.focal)


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam with a warm-up, a cosine, clipped gradients and averaged weights.

    Attributes:
        peak: learning rate at the end of the warm-up.
        minimum: learning rate of the last step.
        warmup_epochs: epochs of linear rise from 0; 0: none.
        clip_norm: bound on the global norm of the gradient; 0: none.
        average_decay: of the averaged weights, per step; 0: no averages.
    """

    peak: float
    minimum: float
    warmup_epochs: float = 0.0
    clip_norm: float = 0.0
    average_decay: float = 0.0

    def build(self, epochs: int, steps_per_epoch: int) -> AveragedAdam:
        """Returns the optimizer of a training of so many steps."""
        schedule = WarmUpCosineDecayScheduler(
            self.peak,
            total_steps=epochs * steps_per_epoch,
            warmup_steps=round(self.warmup_epochs * steps_per_epoch),
            minimum=self.minimum,
        )
        return AveragedAdam(
            schedule,  # pyright: ignore[reportArgumentType]  # Keras says float
            average_decay=self.average_decay,
            global_clipnorm=self.clip_norm or None,
        )


@dataclass(frozen=True)
class TrainingSettings:
    """A training from the first epoch to the choice of one.

    Attributes:
        epochs: passes over the training batches.
        loss: what is minimised.
        optimizer: by which steps.
        logit_cap: soft cap of the logits in epoch 0; 0: none.
        cap_release_epoch: first epoch without a cap.
        monitor: the metric that chooses the epoch: val_nll, val_mcc or val_macro_f1.
        patience: epochs without a better value before training stops; 0: never.
        jit_compile: whether XLA compiles training and prediction.
    """

    epochs: int
    loss: LossSettings
    optimizer: OptimizerSettings
    logit_cap: float = 0.0
    cap_release_epoch: int = 0
    monitor: str = "val_nll"
    patience: int = 0
    jit_compile: bool = True

    def cap(self, epoch: int) -> float:
        """Returns the soft cap of the logits in an epoch; 0: none."""
        return logit_cap_release(epoch, self.logit_cap, self.cap_release_epoch)
