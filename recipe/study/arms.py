"""What a study tries: the arms of an ablation, and the range of every flag of a sweep."""

import math
from dataclasses import dataclass, replace
from typing import Any

import config
from core.errors import InputError
from core.i18n import N_, _


@dataclass(frozen=True)
class Improvement:
    """One of the eight, as README.md lists them.

    Args:
        name: in a few words.
        off: the off-value by flag; the name of a flag stands for that flag's value.
    """

    name: str
    off: dict[str, Any]


IMPROVEMENTS = {
    1: Improvement(
        N_("learning rate schedule, clipped gradients"),
        {"LR_MIN": "LR_BASE", "LR_WARMUP_EPOCHS": 0.0, "GRADIENT_CLIP_NORM": 0.0},
    ),
    2: Improvement(N_("bias from the class prior"), {"USE_PRIOR_BIAS": False}),
    3: Improvement(N_("focal loss"), {"CE_WEIGHT_START": 1.0, "CE_WEIGHT_END": 1.0}),
    4: Improvement(N_("EMA weights"), {"USE_EMA_VALIDATION": False, "EMA_DECAY": 0.0}),
    5: Improvement(N_("hard-negative mining"), {"USE_HARD_NEGATIVE_MINING": False}),
    6: Improvement(
        N_("dropout, L2, logit clipping"),
        {
            "DROPOUT_RNN1": 0.0,
            "DROPOUT_RNN2": 0.0,
            "RECURRENT_DROPOUT": 0.0,
            "WEIGHT_DECAY_L2": 0.0,
            "LOGIT_CLIP": 0.0,
        },
    ),
    7: Improvement(
        N_("augmentation"),
        {
            "USE_AUGMENTATIONS": False,
            "AUG_NOISE_STD": 0.0,
            "AUG_TIME_SHIFT": 0,
            "AUG_MASK_PROB": 0.0,
            "AUG_MASK_MAX_T": 0,
        },
    ),
    8: Improvement(
        N_("balanced batches"),
        {"CLASS_BALANCED_BATCHING": False, "SYMBOL_STRATIFIED_BATCHING": False},
    ),
}
ALL_ON, ALL_OFF = "all-on", "all-off"


def without(number: int) -> str:
    """Returns the name of the arm with one improvement off."""
    return f"without-{number}"


def only(number: int) -> str:
    """Returns the name of the arm with one improvement on."""
    return f"only-{number}"


def arms(flags: config.Flags) -> dict[str, config.Flags]:
    """Returns the checked flags of the 18 arms by name.

    Args:
        flags: of the arm with everything on.

    Raises:
        InputError: where an improvement is off in `flags` already, or an arm breaks a rule.
    """
    on = config.as_dict(flags)
    faults = [
        _(
            "improvement {n} ({name}) must be on, the flags have it off",
            n=n,
            name=_(improvement.name),
        )
        for n, improvement in IMPROVEMENTS.items()
        if _off(n, on).items() <= on.items()
    ]
    if faults:
        raise InputError(faults)
    off = {name: value for n in IMPROVEMENTS for name, value in _off(n, on).items()}
    values_of_arms = {ALL_ON: on, ALL_OFF: on | off}
    for number in IMPROVEMENTS:
        off_values = _off(number, on)
        values_of_arms[without(number)] = on | off_values
        values_of_arms[only(number)] = on | off | {name: on[name] for name in off_values}
    return {name: config.load(**values) for name, values in values_of_arms.items()}


def _off(number: int, on: dict[str, Any]) -> dict[str, Any]:
    values = IMPROVEMENTS[number].off
    return {n: on[value] if isinstance(value, str) else value for n, value in values.items()}


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
    space = dict(SPACE)
    limits = {  # a value above is refused by config.RULES
        "LR_WARMUP_EPOCHS": flags.SUPERVISED_EPOCHS / 2,
        "CE_WEIGHT_END": flags.CE_WEIGHT_START,
    }
    floors = {"LR_BASE": flags.LR_MIN, "HNM_HARD_SAMPLE_END": flags.HNM_HARD_SAMPLE_START}
    for name, limit in limits.items():
        space[name] = replace(space[name], high=min(space[name].high, limit))
    for name, floor in floors.items():
        space[name] = replace(space[name], low=max(space[name].low, floor))
    return {name: r for name, r in space.items() if r.low < r.high}


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
