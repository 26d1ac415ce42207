"""The search space of a sweep: the range and the unit of every flag that is tried."""

import math
from dataclasses import dataclass, replace
from typing import Any

import config
from core.i18n import N_


@dataclass(frozen=True)
class Range:
    """The values tried for a flag.

    Args:
        low: the least value.
        high: the largest value.
        unit: of both.
        log: whether to draw on a logarithmic scale.
    """

    low: float
    high: float
    unit: str
    log: bool = False


SPACE = {
    "LR_BASE": Range(1e-4, 5e-3, N_("step of Adam at the peak"), log=True),
    "LR_WARMUP_EPOCHS": Range(0.0, 4.0, N_("epochs")),
    "GRADIENT_CLIP_NORM": Range(0.3, 3.0, N_("global norm"), log=True),
    "DROPOUT_RNN1": Range(0.0, 0.5, N_("share of values")),
    "DROPOUT_RNN2": Range(0.0, 0.5, N_("share of values")),
    "RECURRENT_DROPOUT": Range(0.0, 0.4, N_("share of values")),
    "WEIGHT_DECAY_L2": Range(1e-6, 1e-2, N_("factor of the squared norm"), log=True),
    "CE_WEIGHT_END": Range(0.0, 1.0, N_("share of cross-entropy")),
    "AUG_NOISE_STD": Range(0.0, 0.1, N_("standard deviations of a feature")),
    "EMA_DECAY": Range(0.98, 0.9995, N_("share kept per step")),
    "HNM_HARD_SAMPLE_END": Range(0.1, 0.5, N_("share of a batch")),
}


def space_for(flags: config.Flags) -> dict[str, Range]:
    """Returns the ranges, cut so that no draw breaks a rule of the fixed flags."""
    found = dict(SPACE)
    limits = {  # a value above is refused by config.RULES
        "LR_WARMUP_EPOCHS": flags.SUPERVISED_EPOCHS / 2,
        "CE_WEIGHT_END": flags.CE_WEIGHT_START,
    }
    floors = {"LR_BASE": flags.LR_MIN, "HNM_HARD_SAMPLE_END": flags.HNM_HARD_SAMPLE_START}
    for name, limit in limits.items():
        found[name] = replace(found[name], high=min(found[name].high, limit))
    for name, floor in floors.items():
        found[name] = replace(found[name], low=max(found[name].low, floor))
    return {name: r for name, r in found.items() if r.low < r.high}


def suggest(trial: Any, flags: config.Flags) -> dict[str, float]:
    """Returns the values by flag that an Optuna trial draws, in the order of the space."""
    return {
        name: trial.suggest_float(name, r.low, r.high, log=r.log)
        for name, r in space_for(flags).items()
    }


def first_fair_epoch(flags: config.Flags) -> int:
    """Returns the first epoch, from 0, at which the losses of trials can be compared.

    The longest warm-up of the learning rate that may be drawn and the change of the loss are over
    then, and one more epoch: before that a trial that starts slowly looks worse than it is.
    """
    drawn = space_for(flags).get("LR_WARMUP_EPOCHS")
    warm_up = drawn.high if drawn else flags.LR_WARMUP_EPOCHS
    return math.ceil(max(warm_up, flags.AFL_WARMUP_EPOCHS)) + 1
