"""The baselines of a fold: those without a fit, and learners on its windows' summaries."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from core.i18n import N_
from core.memory import release_memory
from data.market.market import Fold, Market, training_prior
from data.market.windows import gather, subsample
from evaluation.baselines import simple
from evaluation.baselines.fitted import Fitted
from evaluation.baselines.learners import boosted_trees, fitted_anew, logistic_regression
from evaluation.baselines.summaries import SUMMARIES, Windows, window_summary
from evaluation.judge import SPLITS, BySplit, blocks_of

_CHUNK = 4096  # windows gathered at a time
# Windows that a baseline is fitted to and chosen by, evenly spaced where there are more: of a
# million every fourth, which shares all bars but four with the next. Summaries of 250,000 take
# 120 MB, and twice that in float64.
_MOST = {"train": 250_000, "validation": 125_000}
_AT_ONCE = 1 << 15  # windows answered at a time; their summaries take 16 MB
FITTED = {
    N_("logistic regression"): logistic_regression,
    N_("boosted trees"): boosted_trees,
}
# Of training windows: scikit-learn's trees would hold a copy in float64 beside them.
_DTYPES = {"logistic regression": np.float32, "boosted trees": np.float64}


class Learner(NamedTuple):
    """A baseline that was fitted to a fold.

    Attributes:
        fitted: to its training windows.
        probabilities: (windows, 3) by split.
    """

    fitted: Fitted
    probabilities: BySplit


def fit_learners(
    market: Market,
    fold: Fold,
    *,
    seed: int,
    names: Collection[str] = tuple(FITTED),
    sums: type[np.floating] | None = None,
    chosen: Mapping[str, Fitted] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Learner]:
    """Returns the baselines that take seconds to fit, in the order of `FITTED`.

    Args:
        market: that the fold is of.
        fold: whose training windows they know.
        seed: of the fits.
        names: of those that are wanted.
        sums: as `evaluation.baselines.summaries.window_summary` takes it.
        chosen: of each what validation chose in a fit before, which holds for this one; None:
            the fold's validation windows choose.
        progress: called with the share that is done.
    """
    wanted, fits = [name for name in FITTED if name in names], {}
    if not wanted:
        return {}
    splits, prior = SPLITS[:2] if chosen is None else SPLITS[:1], training_prior(fold)
    for place, baseline in enumerate(wanted):
        progress(place / len(wanted))
        windows = {}  # made anew, for both types of number at once would take 0.4 GB
        release_memory()  # arrays of other sizes would not fill the gaps
        windows = fitting_windows(market, fold, sums, splits, _DTYPES[baseline])
        if chosen is None:
            fits[baseline] = FITTED[baseline](
                windows["train"],
                windows["validation"],
                prior=prior,
                seed=seed,
                progress=lambda share, place=place: progress((place + share) / len(wanted)),
            )
        else:
            before = chosen[baseline]
            fits[baseline] = fitted_anew(before, windows["train"], prior=prior, seed=seed)
    del windows
    answered = {
        split: _answers(market, getattr(fold, split), fits, sums, lambda: progress(1.0))
        for split in SPLITS[1:]
    }
    release_memory()
    return {
        name: Learner(fitted, {split: answers[name] for split, answers in answered.items()})
        for name, fitted in fits.items()
    }


def _answers(
    market: Market,
    ends: np.ndarray,
    fits: Mapping[str, Fitted],
    sums: type[np.floating] | None,
    go_on: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Returns the probabilities (windows, 3) of each fit, with the summaries of a part at a time.

    Before each part it calls `go_on`, which raises where nobody waits any more.
    """
    parts = {name: [] for name in fits}
    for start in range(0, len(ends), _AT_ONCE):
        go_on()
        summaries = _summaries(market, ends[start : start + _AT_ONCE], sums)
        for name, fitted in fits.items():
            parts[name].append(fitted.predict_proba(summaries))
    return {name: np.concatenate(own) for name, own in parts.items()}


def baseline_probabilities(
    market: Market, fold: Fold, learners: Mapping[str, Learner] = MappingProxyType({})
) -> dict[str, dict[str, Any]]:
    """Returns for each baseline the probabilities (windows, 3) of validation and test windows.

    Args:
        market: that the fold is of.
        fold: whose training windows they know.
        learners: those that take seconds to fit, as `fit_learners` returns them.
    """
    train_labels = fold.labels[fold.train]
    by_name: dict[str, dict[str, Any]] = {N_("constant prior"): {}, N_("persistence"): {}}
    for name in SPLITS[1:]:
        ends = getattr(fold, name)
        by_name["constant prior"][name] = simple.constant_prior(train_labels, len(ends))
        by_name["persistence"][name] = simple.persistence(
            fold.persistence[ends], fold.persistence[fold.train], train_labels
        )
    return by_name | {name: learner.probabilities for name, learner in learners.items()}


def fitting_windows(
    market: Market,
    fold: Fold,
    sums: type[np.floating] | None = None,
    splits: Collection[str] = SPLITS,
    dtype: type[np.floating] = np.float32,
) -> dict[str, Windows]:
    """Returns the windows of splits as the fitted baselines see them.

    Of training and validation windows no more than `_MOST`, evenly spaced; of the test windows all.
    Summaries of training windows are of `dtype`, which changes no number.
    """
    windows = {}
    for name in splits:
        ends = getattr(fold, name)
        ends = ends[subsample(len(ends), _MOST.get(name, 0))]
        summaries = _summaries(market, ends, sums, dtype if name == "train" else np.float32)
        windows[name] = Windows(summaries, fold.labels[ends], blocks_of(market, ends))
    return windows


def _summaries(
    market: Market,
    ends: np.ndarray,
    sums: type[np.floating] | None,
    dtype: type[np.floating] = np.float32,
) -> np.ndarray:
    num_columns = SUMMARIES * market.features.shape[1]
    summaries = np.empty((len(ends), num_columns), dtype)
    for start in range(0, len(ends), _CHUNK):
        windows = gather(market.features, ends[start : start + _CHUNK], market.sequence_length)
        summaries[start : start + _CHUNK] = window_summary(windows, sums)
    return summaries
