"""The list of callbacks of a training, complete and in the right order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.training.callbacks.base import StatefulCallback
from models.training.callbacks.best_weights import BestWeights
from models.training.callbacks.checkpoint import Checkpointer
from models.training.callbacks.collapse_alarm import CollapseAlarm
from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.epoch_tracker import EpochTracker
from models.training.callbacks.mining import HardNegativeMining
from models.training.callbacks.nan_guard import NonFiniteLoss
from models.training.callbacks.validation import ValidationMetrics

_SMALLER_IS_BETTER = ("val_nll", "val_loss", "loss")


def get_training_callbacks(
    model: keras.Model,
    batches: keras.utils.PyDataset | None = None,
    *,
    ce_weight: Callable[[int], float] | None = None,
    logit_cap: Callable[[int], float] | None = None,
    hard_share: Callable[[int], float] | None = None,
    use_ema_for_validation: bool = True,
    validation: keras.utils.PyDataset | None = None,
    validation_labels: np.ndarray | None = None,
    validation_every: int = 1,
    alarm_quotas: Sequence[float] | None = None,
    alarm_first_epoch: int = 1,
    monitor: str = "val_mcc",
    patience: int = 0,
    mining: Mapping[str, Any] | None = None,
    stop_where_not_finite: bool = True,
    feature_names: Sequence[str] | None = None,
    describe_batch: Callable[[int, int], str] | None = None,
    checkpoint_folder: str | Path | None = None,
    checkpoint_details: Mapping[str, Any] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a training in the order they must be listed in.

    Every default leaves its part out, except the tracking of the epoch and the guard against a
    loss that is no number. `callbacks_by_name` finds the parts again.

    Args:
        model: compiled. Averaged weights are used where its optimizer keeps them (an
            `AveragedAdam` with a decay above 0).
        batches: the training batches; those of `data.batches` have all that the parts need.
        ce_weight: weight of cross-entropy for each epoch, for a model with a `MixedLoss`.
        logit_cap: soft cap of the logits for each epoch, for a model with a capped head.
        hard_share: hard share of the batches for each epoch; logged only, the batches have it.
        use_ema_for_validation: whether validation and the choice of the epoch see the averages.
        validation: windows to validate after the epochs, in order; None: no validation, no
            alarm, and no choice of the epoch.
        validation_labels: class codes of these windows, (windows,).
        validation_every: epochs between two validations.
        alarm_quotas: class distribution of the batches, (classes,), for the collapse alarm.
        alarm_first_epoch: first epoch that the alarm watches, counted from 0.
        monitor: the figure that chooses the epoch: val_mcc, val_macro_f1 or val_nll.
        patience: validated epochs without a better figure before training stops; 0: never.
        mining: arguments of `HardNegativeMining` but for `batches` and `ema`.
        stop_where_not_finite: whether a NaN or infinite loss stops the training.
        feature_names: of the input, (features,), to name one that is not finite.
        describe_batch: from (epoch, batch) to a text that says which windows the batch held.
        checkpoint_folder: where one checkpoint for each epoch goes.
        checkpoint_details: what the run depends on, kept in each checkpoint.
        note: told about alarms.

    Raises:
        ValueError: where a part lacks what it works on.
    """
    _check(model, batches, ce_weight, logit_cap, validation, validation_labels, mining)
    ema = EMAWeightsCallback(use_ema_for_validation) if _average_decay(model) else None
    callbacks: list[keras.callbacks.Callback] = [
        EpochTracker(
            batches=batches,
            loss=model.loss if hasattr(model.loss, "ce_weight") else None,
            ce_weight_schedule=ce_weight,
            logit_cap_layer=_capped_layer(model),
            logit_cap_schedule=logit_cap,
            hard_share=hard_share,
        )
    ]
    if stop_where_not_finite:
        callbacks.append(NonFiniteLoss(batches, describe_batch, feature_names))
    if ema is not None:
        callbacks.append(ema)
    if validation is not None:
        metrics = ValidationMetrics(validation, validation_labels, ema, validation_every)
        callbacks.append(metrics)
        if alarm_quotas is not None:
            alarm = CollapseAlarm(alarm_quotas, metrics, first_epoch=alarm_first_epoch, note=note)
            callbacks.append(alarm)
        mode = "min" if monitor in _SMALLER_IS_BETTER else "max"
        callbacks.append(BestWeights(monitor, mode, ema, patience))
    if mining is not None:
        callbacks.append(HardNegativeMining(batches, ema, **mining))
    if checkpoint_folder is not None:
        stateful = callbacks_by_name(callbacks)
        callbacks.append(Checkpointer(checkpoint_folder, stateful, checkpoint_details))
    return callbacks


def callbacks_by_name(
    callbacks: Iterable[keras.callbacks.Callback],
) -> dict[str, StatefulCallback]:
    """Returns those of the callbacks that have a state, by the name of their part.

    The names are epochs, non_finite, ema, validation, alarm, best and mining, as far as the
    parts are there: what a `Checkpointer` of one's own is to be given.
    """
    return {each.part: each for each in callbacks if isinstance(each, StatefulCallback)}


def _check(model, batches, ce_weight, logit_cap, validation, validation_labels, mining) -> None:
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model must be compiled before its callbacks are made")
    if ce_weight is not None and not hasattr(model.loss, "ce_weight"):
        raise ValueError(
            f"ce_weight needs a model compiled with a MixedLoss, got {type(model.loss).__name__}"
        )
    if logit_cap is not None and _capped_layer(model) is None:
        raise ValueError("logit_cap needs a model with a layer that has a logit_cap, got none")
    if validation is not None and validation_labels is None:
        raise ValueError("validation needs validation_labels, the class codes of its windows")
    if mining is not None and batches is None:
        raise ValueError("mining needs the training batches")


def _average_decay(model: keras.Model) -> float:
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(optimizer, "average_decay", 0.0)


def _capped_layer(model: keras.Model):
    return next((layer for layer in model.layers if hasattr(layer, "logit_cap")), None)
