"""A small market of several runs and the sequences of its training windows."""

import numpy as np
from hypothesis import strategies as st

from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.market.windows import ends_within

LENGTH = 8


ALL = {"noise_std": 0.1, "time_shift": 2, "mask_prob": 0.5, "mask_max_t": 3}


def market(seed=0, segments=(40, 25, 60, 9, 33), holes=6):
    """Returns ends of training windows with holes, bounds, labels and symbols of the windows.

    The first two segments are of symbol 0, the next of 1, the others of 2.
    """
    rng = np.random.default_rng(seed)
    bounds = np.r_[0, np.cumsum(segments)]
    ends = ends_within(bounds, LENGTH, 2)
    if holes:  # purged windows
        ends = np.delete(ends, rng.choice(len(ends), min(holes, len(ends) - 4), replace=False))
    symbol_of_segment = np.array([0, 0, 1] + [2] * len(segments))
    symbols = symbol_of_segment[np.searchsorted(bounds, ends, side="right") - 1]
    labels = np.r_[0, 1, 2, rng.integers(3, size=len(ends) - 3)]
    return ends, bounds, labels, symbols


def make_plan(data=None, *, labels_per_sequence=6, batch_size=4, seed=0, **options):
    ends, _, labels, symbols = market() if data is None else data
    return SequencePlan(
        labels,
        symbols,
        ends,
        sequence_length=LENGTH,
        labels_per_sequence=labels_per_sequence,
        batch_size=batch_size,
        seed=seed,
        **options,
    )


def make_batches(data=None, *, augmentations=None, features=None, num_features=2, **options):
    data = market() if data is None else data
    plan = make_plan(data, **options)
    if features is None:  # every feature is the row's number
        features = np.tile(np.arange(data[1][-1], dtype="float32")[:, None], num_features)
    return SequenceBatches(
        features,
        data[0],
        plan=plan,
        sequence_length=LENGTH,
        augmentations=augmentations,
        feature_std=np.ones(num_features, "float32"),
        fill=np.full(num_features, -1, "float32"),
        seed=plan.seed,
    )


def batches_of(batches, epoch):
    batches.set_epoch(epoch)
    return [batches[index] for index in range(len(batches))]


drawn_plans = st.fixed_dictionaries(
    {
        "segments": st.lists(st.integers(LENGTH + 6, 60), min_size=1, max_size=6),
        "holes": st.integers(0, 12),
        "labels_per_sequence": st.integers(1, 2 * LENGTH - 1),
        "batch_size": st.integers(1, 9),
        "seed": st.integers(0, 9999),
        "balance_symbols": st.booleans(),
    }
)


def drawn_data(drawn):
    options = dict(drawn)
    data = market(options["seed"], options.pop("segments"), options.pop("holes"))
    return data, options
