"""Schedules: the learning rate for each step, and linear ramps over epochs."""

import math

import keras
from keras import ops


def linear_ramp(
    epoch: float, start_epoch: float, end_epoch: float, start: float, end: float
) -> float:
    """Returns `start` up to `start_epoch`, `end` from `end_epoch` on, a straight line between.

    A ramp without length (`end_epoch <= start_epoch`) is a jump to `end` at `end_epoch`.
    """
    if epoch >= end_epoch:
        return float(end)
    if epoch <= start_epoch:
        return float(start)
    share = (epoch - start_epoch) / (end_epoch - start_epoch)
    return float(start + share * (end - start))


def logit_cap_release(epoch: float, cap: float, release_epoch: float) -> float:
    """Returns the soft cap of the logits in an epoch: it rises from `cap`, and ends as 0 (none).

    The cap grows as cap / (1 - epoch / release_epoch): half-way it is twice as wide, and just
    before its release it touches nothing, so that the release is no jump.

    Args:
        epoch: counted from 0.
        cap: the cap of epoch 0, in nats; 0 for none.
        release_epoch: the first epoch without a cap.
    """
    if not cap or epoch >= release_epoch:
        return 0.0
    return float(cap / (1 - epoch / release_epoch))


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class WarmUpCosineDecayScheduler(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step: linear from 0 to the peak, then a cosine to the minimum.

    It differs from `keras.optimizers.schedules.CosineDecay` in its arguments alone: there
    `decay_steps` leaves the warm-up out and `alpha` is a share of the peak; here `total_steps` is
    the number of steps of the whole training and `minimum` is a learning rate.

    Args:
        peak: the rate at step `warmup_steps`.
        total_steps: the step at which, and after which, the rate is `minimum`.
        warmup_steps: steps of the linear rise; 0 starts at the peak. Step 0 of a rise has rate 0.
        minimum: the last rate; equal to `peak` for a constant rate after the rise.

    Raises:
        ValueError: unless 0 <= minimum <= peak and 0 <= warmup_steps <= total_steps >= 1.

    Examples:
        >>> rate = WarmUpCosineDecayScheduler(0.001, total_steps=100, warmup_steps=10)
        >>> [round(float(rate(step)), 6) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.0005, 0.001, 0.0005, 0.0]
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, minimum: float = 0.0):
        super().__init__()
        if not 0 <= minimum <= peak:
            raise ValueError(f"need 0 <= minimum <= peak, got {minimum = }, {peak = }")
        if not (0 <= warmup_steps <= total_steps and total_steps >= 1):
            raise ValueError(
                f"need 0 <= warmup_steps <= total_steps >= 1, got {warmup_steps = }, "
                f"{total_steps = }"
            )
        self.peak = float(peak)
        self.total_steps = int(total_steps)
        self.warmup_steps = int(warmup_steps)
        self.minimum = float(minimum)

    def __call__(self, step):
        """Returns the rate of a step, a float32 scalar."""
        step = ops.cast(step, "float32")
        rise = self.peak * step / max(self.warmup_steps, 1)
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        done = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        fall = self.minimum + (self.peak - self.minimum) * 0.5 * (1 + ops.cos(math.pi * done))
        return ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        names = ("peak", "total_steps", "warmup_steps", "minimum")
        return {name: getattr(self, name) for name in names}
