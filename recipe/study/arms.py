"""The arms of an ablation: which flags are off without each of the eight improvements."""

from dataclasses import dataclass
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
    found = {ALL_ON: on, ALL_OFF: on | off}
    for number in IMPROVEMENTS:
        own = _off(number, on)
        found[without(number)] = on | own
        found[only(number)] = on | off | {name: on[name] for name in own}
    return {name: config.load(**values) for name, values in found.items()}


def _off(number: int, on: dict[str, Any]) -> dict[str, Any]:
    values = IMPROVEMENTS[number].off
    return {n: on[value] if isinstance(value, str) else value for n, value in values.items()}
