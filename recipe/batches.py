"""From the flags to the training batches of a fold: plan, augmentations, weights."""

from collections.abc import Callable

import numpy as np

from config import Flags
from data.batches import WindowBatches
from data.labels import average_uniqueness
from data.market import Fold, Market
from data.sampling import BatchPlan
from data.windows import first_window_ends
from models.training.callbacks import mining


def training_batches(
    flags: Flags, market: Market, fold: Fold, seed: int, mean: np.ndarray, variance: np.ndarray
) -> WindowBatches:
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
    ends = fold.train
    return WindowBatches(
        market.features,
        ends,
        plan=BatchPlan(fold.labels[ends], market.symbols[ends], seed=seed, **_plan(flags)),
        sequence_length=flags.SEQUENCE_LENGTH,
        first_ends=first_window_ends(ends, market.bounds, flags.SEQUENCE_LENGTH),
        augmentations=_augmentations(flags),
        feature_std=np.sqrt(variance),
        fill=mean,
        weights=_weights(flags, ends),
        seed=seed,
    )


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


def _plan(flags: Flags) -> dict:
    return {
        "batch_size": flags.SUPERVISED_BATCH_SIZE,
        "class_ratios": flags.TARGET_CLASS_RATIOS,
        "balance_classes": flags.CLASS_BALANCED_BATCHING,
        "balance_symbols": flags.SYMBOL_STRATIFIED_BATCHING,
        "hard_share": hard_share(flags),
        "steps_per_epoch": flags.STEPS_PER_EPOCH,
    }


def _augmentations(flags: Flags) -> dict | None:
    if not flags.USE_AUGMENTATIONS:
        return None
    return {
        "noise_std": flags.AUG_NOISE_STD,
        "time_shift": flags.AUG_TIME_SHIFT,
        "mask_prob": flags.AUG_MASK_PROB,
        "mask_max_t": flags.AUG_MASK_MAX_T,
    }


def _weights(flags: Flags, ends: np.ndarray) -> np.ndarray | None:
    if not flags.USE_UNIQUENESS_WEIGHTS:
        return None
    weights = average_uniqueness(ends, flags.FUTURE_WINDOW)
    return (weights / weights.mean()).astype(np.float32)
