"""From the flags to the training batches of a fold: plan, augmentations, weights."""

import functools
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from config import Flags
from data.batches.datasets import WindowBatches
from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.market.labels import average_uniqueness
from data.market.market import Fold, Market
from data.market.windows import first_window_ends
from models.training.callbacks import mining

LEAST_BATCHES = 20  # of an epoch, so that schedules, averages and mining find steps to act in

Plan = TypeVar("Plan", BatchPlan, SequencePlan)


def training_batches(
    flags: Flags, market: Market, fold: Fold, seed: int, mean: np.ndarray, variance: np.ndarray
) -> WindowBatches | SequenceBatches:
    """Returns the batches of a fold.

    Args:
        flags: checked.
        market: what the fold is of.
        fold: its training windows are drawn.
        seed: of the fold.
        mean: of every feature over the training rows, (features,).
        variance: likewise.

    Raises:
        InputError: where a class has no window, or no place in a batch.
    """
    ends, weights = fold.train, _weights(flags, fold.train)
    labels, symbols = fold.labels[ends], market.symbols[ends]
    shared = {
        "sequence_length": flags.SEQUENCE_LENGTH,
        "augmentations": _augmentations(flags),
        "feature_std": np.sqrt(variance),
        "fill": mean,
        "seed": seed,
    }
    labels_per_sequence = flags.LABELS_PER_SEQUENCE or flags.SEQUENCE_LENGTH
    if labels_per_sequence > 1:
        make = functools.partial(
            SequencePlan,
            labels,
            symbols,
            ends,
            sequence_length=flags.SEQUENCE_LENGTH,
            labels_per_sequence=labels_per_sequence,
            seed=seed,
            weights=weights,
        )
        return SequenceBatches(market.features, ends, plan=_long_enough(make, flags), **shared)
    return WindowBatches(
        market.features,
        ends,
        plan=_long_enough(functools.partial(BatchPlan, labels, symbols, seed=seed), flags),
        first_ends=first_window_ends(ends, market.bounds, flags.SEQUENCE_LENGTH),
        weights=weights,
        **shared,
    )


def _long_enough(make: Callable[..., Plan], flags: Flags) -> Plan:
    """Returns a plan whose epoch is one pass, or so many that the network can learn in it."""
    plan = make(**_plan(flags), steps_per_epoch=flags.STEPS_PER_EPOCH)
    if flags.STEPS_PER_EPOCH or plan.num_batches >= LEAST_BATCHES:
        return plan
    passes = -(-LEAST_BATCHES // plan.num_batches)
    return make(**_plan(flags), steps_per_epoch=passes * plan.num_batches)


def hard_share(flags: Flags) -> Callable[[int], float] | None:
    """Returns the hard share of a batch by epoch; None without hard-negative mining."""
    if not flags.USE_HARD_NEGATIVE_MINING:
        return None
    return lambda epoch: mining.hard_share(
        epoch,
        flags.HNM_START_EPOCH,
        flags.HNM_END_EPOCH,
        flags.HNM_HARD_SAMPLE_START,
        flags.HNM_HARD_SAMPLE_END,
    )


def event_bars(flags: Flags) -> int:
    """Returns within how many bars hard windows of one symbol and class are one event.

    Labels of neighbours share all but one bar of the horizon. But thinned to one in a horizon, a
    band keeps too little of its class for the hard share within the bound on the multiplier.
    """
    return max(flags.FUTURE_WINDOW // 4, 1)


def _plan(flags: Flags) -> dict:
    return {
        "batch_size": flags.SUPERVISED_BATCH_SIZE,
        "class_ratios": flags.TARGET_CLASS_RATIOS,
        "balance_classes": flags.CLASS_BALANCED_BATCHING,
        "balance_symbols": flags.SYMBOL_STRATIFIED_BATCHING,
        "hard_share": hard_share(flags),
    }


def _augmentations(flags: Flags) -> dict | None:
    if not flags.USE_AUGMENTATIONS:
        return None
    return {
        "noise_std": flags.AUG_NOISE_STD,
        # A label that is asked a bar earlier is another one where it looks a few bars ahead.
        "time_shift": min(flags.AUG_TIME_SHIFT, flags.FUTURE_WINDOW // 6),
        "mask_prob": flags.AUG_MASK_PROB,
        "mask_max_t": flags.AUG_MASK_MAX_T,
    }


def _weights(flags: Flags, ends: np.ndarray) -> np.ndarray | None:
    if not flags.USE_UNIQUENESS_WEIGHTS:
        return None
    weights = average_uniqueness(ends, flags.FUTURE_WINDOW)
    return (weights / weights.mean()).astype(np.float32)
