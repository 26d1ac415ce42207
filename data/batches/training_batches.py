"""The training batches of a fold: plan, augmentations, weights."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from data.batches.datasets import WindowBatches
from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.market.labels import average_uniqueness
from data.market.market import Fold, Market
from data.market.windows import first_window_ends

LEAST_BATCHES = 20  # of an epoch, so that schedules, averages and mining find steps to act in
_MOST_HALVINGS = 40  # a label that is older still weighs as much: a class may have old ones alone


Plan = TypeVar("Plan", BatchPlan, SequencePlan)


@dataclass(frozen=True)
class BatchSettings:
    """How training batches are drawn.

    Attributes:
        batch_size: sequences in a batch; windows where `labels_per_sequence` is 1.
        labels_per_sequence: labels of a sequence; 1: windows are drawn.
        steps_per_epoch: batches of an epoch; 0: one pass over the windows, more if it is short.
        class_ratios: of the classes in a batch, any scale; None: equal.
        balance_classes: whether every batch has the quotas of the ratios.
        balance_symbols: whether symbols are spread inside each class.
        hard_share: share of hard windows by epoch; None: no mining.
        weigh_uniqueness: whether windows weigh by the average uniqueness of their labels.
        half_life: bars after which a label weighs half; 0: labels of every age weigh the same.
        augmentations: those of `data.batches.datasets.TrainingBatches`; None: off.
    """

    batch_size: int
    labels_per_sequence: int = 1
    steps_per_epoch: int = 0
    class_ratios: Sequence[float] | None = None
    balance_classes: bool = False
    balance_symbols: bool = False
    hard_share: Callable[[int], float] | None = None
    weigh_uniqueness: bool = False
    half_life: int = 0
    augmentations: Mapping[str, Any] | None = None


def training_batches(
    settings: BatchSettings,
    market: Market,
    fold: Fold,
    seed: int,
    mean: np.ndarray,
    variance: np.ndarray,
) -> WindowBatches | SequenceBatches:
    """Returns the batches of a fold.

    Args:
        settings: how they are drawn.
        market: what the fold is of.
        fold: its training windows are drawn.
        seed: of the fold.
        mean: of every feature over the training rows, (features,).
        variance: likewise.

    Raises:
        InputError: where a class has no window, or no place in a batch.
    """
    ends, length = fold.train, market.sequence_length
    labels, symbols = fold.labels[ends], market.symbols[ends]
    weights = label_weights(
        ends,
        market.timestamps[ends],
        horizon=market.future_window if settings.weigh_uniqueness else 0,
        half_life=settings.half_life,
    )
    shared = {
        "sequence_length": length,
        "augmentations": settings.augmentations,
        "feature_std": np.sqrt(variance),
        "fill": mean,
        "seed": seed,
    }
    if settings.labels_per_sequence > 1:
        make = functools.partial(
            SequencePlan,
            labels,
            symbols,
            ends,
            sequence_length=length,
            labels_per_sequence=settings.labels_per_sequence,
            seed=seed,
            weights=weights,
        )
        return SequenceBatches(market.features, ends, plan=_long_enough(make, settings), **shared)
    return WindowBatches(
        market.features,
        ends,
        plan=_long_enough(functools.partial(BatchPlan, labels, symbols, seed=seed), settings),
        first_ends=first_window_ends(ends, market.bounds, length),
        weights=weights,
        **shared,
    )


def _long_enough(make: Callable[..., Plan], settings: BatchSettings) -> Plan:
    """Returns a plan whose epoch is one pass, or so many that the network can learn in it."""
    make = functools.partial(
        make,
        batch_size=settings.batch_size,
        class_ratios=settings.class_ratios,
        balance_classes=settings.balance_classes,
        balance_symbols=settings.balance_symbols,
        hard_share=settings.hard_share,
    )
    plan = make(steps_per_epoch=settings.steps_per_epoch)
    if settings.steps_per_epoch or plan.num_batches >= LEAST_BATCHES:
        return plan
    passes = -(-LEAST_BATCHES // plan.num_batches)
    return make(steps_per_epoch=passes * plan.num_batches)


def label_weights(
    ends: np.ndarray, times: np.ndarray, *, horizon: int = 0, half_life: int = 0
) -> np.ndarray | None:
    """Returns what the windows weigh, of mean 1, float32 (windows,); None: all the same.

    Args:
        ends: end rows of the windows, (windows,).
        times: of these rows, datetime64 (windows,).
        horizon: bars of a label, to weigh by the average uniqueness; 0: that does not count.
        half_life: bars after which a label weighs half; 0: the age does not count.
    """
    weights = np.ones(len(ends))
    if horizon:
        weights *= average_uniqueness(ends, horizon)
    if half_life:
        weights *= 0.5 ** np.minimum(ages(times) / half_life, _MOST_HALVINGS)
    if not (horizon or half_life):
        return None
    return (weights / weights.mean()).astype(np.float32)


def ages(times: np.ndarray) -> np.ndarray:
    """Returns how many later bars of any symbol there are, int64 (windows,).

    Bars are counted, not hours: a night or a weekend makes a label no older.
    """
    known, places = np.unique(times, return_inverse=True)
    return len(known) - 1 - places
