"""Small markets and the plans of their batches."""

import numpy as np
from hypothesis import strategies as st

from data.batches.sampling import BatchPlan

PRIORS = (0.33, 0.40, 0.33)


def market(num_windows=600, num_symbols=4, seed=0, shares=(0.2, 0.6, 0.2)):
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(shares), num_windows, p=shares).astype("int32")
    return labels, np.sort(rng.integers(num_symbols, size=num_windows)).astype("int16")


def make_plan(labels, symbols, *, batch_size=16, seed=0, **options):
    return BatchPlan(labels, symbols, batch_size=batch_size, seed=seed, **options)


def epoch_of(plan, epoch):
    return np.array([plan.indices(epoch, index) for index in range(plan.num_batches)])


def balanced(labels, symbols, **options):
    options = {"balance_classes": True, "balance_symbols": True} | options
    return make_plan(labels, symbols, **options)


def hardest(labels, share=0.2):
    """A pool: the first windows of each class."""
    found = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}
    return {int(c): w[: max(1, int(share * len(w)))] for c, w in found.items()}


plans = st.fixed_dictionaries(
    {
        "num_windows": st.integers(40, 200),
        "num_symbols": st.integers(1, 5),
        "batch_size": st.integers(5, 30),
        "seed": st.integers(0, 10_000),
        "balance_classes": st.booleans(),
        "balance_symbols": st.booleans(),
        "steps_per_epoch": st.sampled_from([0, 7]),
    }
)


def plan_of(drawn, **options):
    drawn = dict(drawn)
    labels, symbols = market(
        drawn.pop("num_windows"), drawn.pop("num_symbols"), drawn["seed"], (0.35, 0.3, 0.35)
    )
    return make_plan(labels, symbols, class_ratios=PRIORS, **(drawn | options))
