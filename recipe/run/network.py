"""From the flags to the compiled classifier: network, optimizer, loss."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from config import Flags
from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.market.market import Market
from models.training.losses import CrossEntropyWeight, MixedLoss
from models.training.optimizers import AveragedAdam
from models.training.schedules import WarmUpCosineDecayScheduler, linear_ramp
from models.xlstm_rl_model import build_xlstm_classifier


def make_classifiers(
    flags: Flags,
    market: Market,
    *,
    plan: BatchPlan | SequencePlan,
    feature_mean: np.ndarray,
    feature_variance: np.ndarray,
) -> tuple[keras.Model, keras.Model]:
    """Returns the classifier ready to be trained, and the form of it that answers for windows.

    The two are one model unless sequences with many labels are trained.

    Args:
        flags: checked.
        market: whose windows it will see.
        plan: of the training batches: their number, and the class prior that they show.
        feature_mean: over the training rows, (features,).
        feature_variance: likewise.
    """
    length = flags.SEQUENCE_LENGTH
    build = functools.partial(
        build_xlstm_classifier,
        num_features=len(market.feature_names),
        class_prior=plan.class_prior if flags.USE_PRIOR_BIAS else None,
        feature_mean=feature_mean,
        feature_variance=feature_variance,
        **_network(flags),
    )
    if isinstance(plan, SequencePlan):
        num_labels = plan.cuts.labels_per_sequence
        classifier = build(plan.cuts.num_bars, labels_per_sequence=num_labels)
        window_form = build(length)
        window_form.jit_compile = flags.JIT_COMPILE
    else:
        classifier = window_form = build(length)
    loss = MixedLoss(ce_weight=flags.CE_WEIGHT_START, **focal_settings(flags))
    classifier.compile(
        optimizer=_optimizer(flags, plan.num_batches),
        loss=loss,
        metrics=[CrossEntropyWeight(loss)],
        jit_compile=flags.JIT_COMPILE,  # pyright: ignore[reportArgumentType]  # Keras says str
    )
    # TensorFlow traces a step twice that makes variables when it is first called.
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier, window_form


def ce_weight(flags: Flags) -> Callable[[int], float]:
    """Returns the weight of cross-entropy by epoch."""
    return lambda epoch: linear_ramp(
        epoch, 0, flags.AFL_WARMUP_EPOCHS, flags.CE_WEIGHT_START, flags.CE_WEIGHT_END
    )


def focal_settings(flags: Flags) -> dict[str, Any]:
    """Returns what training and the restoration of its probabilities must agree on."""
    return {
        "alpha": flags.AFL_ALPHA,
        "gamma": flags.AFL_GAMMA,
        "smoothing": flags.CLASS_SMOOTHING,
    }


def _network(flags: Flags) -> dict[str, Any]:
    return {
        "units": flags.XLSTM_UNITS,
        "blocks": flags.XLSTM_BLOCKS,
        "num_heads": flags.XLSTM_HEADS,
        "dropout_rnn1": flags.DROPOUT_RNN1,
        "dropout_rnn2": flags.DROPOUT_RNN2,
        "recurrent_dropout": flags.RECURRENT_DROPOUT,
        "weight_decay_l2": flags.WEIGHT_DECAY_L2,
        "gate_soft_cap": flags.GATE_SOFT_CAP,
        "logit_clip": flags.LOGIT_CLIP,
    }


def _optimizer(flags: Flags, steps_per_epoch: int) -> AveragedAdam:
    schedule = WarmUpCosineDecayScheduler(
        flags.LR_BASE,
        total_steps=flags.SUPERVISED_EPOCHS * steps_per_epoch,
        warmup_steps=round(flags.LR_WARMUP_EPOCHS * steps_per_epoch),
        minimum=flags.LR_MIN,
    )
    return AveragedAdam(
        schedule,  # pyright: ignore[reportArgumentType]  # Keras says float
        average_decay=flags.EMA_DECAY if flags.USE_EMA_VALIDATION else 0.0,
        global_clipnorm=flags.GRADIENT_CLIP_NORM or None,
    )
