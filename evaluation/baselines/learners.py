"""Two learners on window summaries: a logistic regression, and boosted trees.

They may look at the validation windows for what the network chooses there too: how strong
to be, how long to train, and the temperature about the prior.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from data.market.windows import subsample
from evaluation.baselines.fitted import CLIP, LEAST, Fitted, fit, losses_of
from evaluation.baselines.summaries import Windows

PENALTIES = (0.3, 0.1, 0.01, 0.001)  # of the regression, the strongest first: times |w|^2 / 2
ROUNDS = range(10, 201, 10)  # of boosting; one is chosen
PARTS = 4  # of the training time, each left out once
_MOST_JUDGED = 33_000  # training windows by which the rounds are chosen, evenly spaced
_PATIENCE = 10  # rounds without a lower NLL after which a part has seen enough
_EQUAL = 1e-5  # nats; where all are cooled down to the prior they differ by less


def logistic_regression(
    train: Windows,
    validation: Windows,
    *,
    prior: np.ndarray,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Fitted:
    """Returns a logistic regression on standardised summaries, at a temperature about the prior.

    Of the penalties the strongest is taken whose NLL on the validation windows, each at its own
    temperature, is above the lowest by no more than one standard error over blocks of time. It is
    strong: windows that end one bar apart are nearly the same, so 132,064 of them (eight symbols,
    15 minutes) are worth a few thousand.

    Args:
        train: windows to be fitted to.
        validation: those of the validation period.
        prior: class frequencies of the training period, (3,).
        seed: for equal signatures; the solver draws nothing.
        progress: called with the share that is done.
    """
    candidates = []
    for penalty in PENALTIES:
        fitted = fit(_regression(penalty * len(train.labels), seed), train, prior)
        candidates.append(replace(fitted, penalty=penalty).with_temperature(validation))
        progress(len(candidates) / len(PENALTIES))
    losses = [one.losses(validation) for one in candidates]
    best = min(losses, key=np.mean)
    errors = [_standard_error(nll - best, validation.blocks) for nll in losses]
    return next(
        one
        for one, nll, error in zip(candidates, losses, errors, strict=True)
        if nll.mean() - best.mean() <= max(error, _EQUAL)
    )


def boosted_trees(
    train: Windows,
    validation: Windows,
    *,
    prior: np.ndarray,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Fitted:
    """Returns gradient-boosted trees on summaries, at a temperature about the prior.

    How many rounds is chosen by the NLL on the validation windows and on quarters of the training
    time, each left out once with its neighbourhood: the validation windows alone are too few
    blocks of time to tell. The temperature is that of the validation windows, but no higher than
    that of the parts left out, unless the NLL on the validation windows would be above the
    prior's. (On the 15-minute bars of benchmarks/baselines.md the 49 blocks of validation hold
    little signal; by them alone the trees were trained too short or cooled too much for the time
    that followed.)

    Each split looks at three in ten columns. scikit-learn's early stopping by itself would hold
    out random windows, whose neighbours, one bar away, would be trained on.

    Args:
        train: windows to be fitted to.
        validation: those of the validation period.
        prior: class frequencies of the training period, (3,).
        seed: of the estimator.
        progress: called with the share that is done.
    """
    few = train[subsample(len(train.labels), _MOST_JUDGED)]
    judges = []
    for fitting, left in chain(_parts_left_out(few), [(few, validation)]):
        judges.append((_judge(fitting, left, prior, seed), left))
        progress(len(judges) / (PARTS + 1))
    weights = np.array([len(left.labels) for _, left in judges], float)
    weights[:-1] *= len(train.labels) / len(few.labels)
    curves = [_nll_by_rounds(judge) for judge, _ in judges]  # of each part (ROUNDS,)
    rounds = ROUNDS[int(np.argmin(np.average(curves, axis=0, weights=weights)))]
    fitted = replace(fit(_trees(len(train.labels), rounds, seed), train, prior), rounds=rounds)
    answered = fitted.log_p(validation.x)  # once: it takes seconds of a million windows
    own = fitted.temperature_for(answered, validation.labels, validation.blocks)
    fitted = replace(fitted, temperature=own)
    if len(judges) == 1:
        return fitted
    log_p = [replace(judge, rounds=rounds).log_p(left.x) for judge, left in judges[:-1]]
    left_out = [left for _, left in judges[:-1]]
    of_parts = fitted.temperature_for(
        np.concatenate(log_p),
        np.concatenate([left.labels for left in left_out]),
        np.concatenate([left.blocks for left in left_out]),
    )
    milder = replace(fitted, temperature=min(own, of_parts))
    of_prior = -np.log(np.maximum(np.asarray(prior), LEAST))[validation.labels].mean()
    nll = losses_of(milder.tempered(answered), validation.labels)
    return milder if nll.mean() <= of_prior else fitted


def fitted_anew(chosen: Fitted, train: Windows, *, prior: np.ndarray, seed: int = 0) -> Fitted:
    """Returns a baseline fitted to other windows with the penalty, rounds and temperature chosen.

    Args:
        chosen: what `logistic_regression` or `boosted_trees` returned.
        train: windows to be fitted to.
        prior: class frequencies of the training period, (3,).
        seed: of the estimator.
    """
    num_windows, rounds, penalty = len(train.labels), chosen.rounds, chosen.penalty
    if penalty is None:
        estimator = _trees(num_windows, rounds or max(ROUNDS), seed)
    else:
        estimator = _regression(penalty * num_windows, seed)
    fitted = fit(estimator, train, prior)
    return replace(fitted, rounds=rounds, penalty=penalty, temperature=chosen.temperature)


def _regression(penalty: float, seed: int):
    return make_pipeline(
        StandardScaler(),
        FunctionTransformer(_clipped),
        LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-4, random_state=seed),
    )


def _clipped(x: np.ndarray) -> np.ndarray:
    """Returns standardised columns without what a line should not follow."""
    return np.clip(x, -CLIP, CLIP)


def _trees(num_windows: int, rounds: int, seed: int, **early) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_leaf_nodes=8,
        max_features=0.3,
        min_samples_leaf=max(20, num_windows // 200),
        l2_regularization=1.0,
        max_iter=rounds,
        random_state=seed,
        **{"early_stopping": False} | early,  # pyright: ignore[reportArgumentType]
    )


def _parts_left_out(windows: Windows) -> Iterator[tuple[Windows, Windows]]:
    """Yields, for every part of the time, the windows clear of it and those within it.

    A block is as long as a window with its label, so without the blocks beside the part no window
    shares a bar with one in it. There is nothing where the blocks are few, or a class is missing.
    """
    num_blocks = int(windows.blocks.max()) + 1
    bounds = np.linspace(0, num_blocks, PARTS + 1).astype(int)
    if num_blocks < 3 * PARTS:
        return
    classes = np.unique(windows.labels)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        clear = windows[(windows.blocks < start - 1) | (windows.blocks > stop)]
        if len(np.unique(clear.labels)) == len(classes):
            yield clear, windows[(windows.blocks >= start) & (windows.blocks < stop)]


def _judge(clear: Windows, left: Windows, prior: np.ndarray, seed: int) -> Fitted:
    """Returns trees on some windows, grown until those left out have seen enough."""
    classes = np.unique(clear.labels)
    if len(classes) < 2:
        return fit(None, clear, prior)
    seen = np.isin(left.labels, classes)
    known = left if seen.all() else left[seen]  # a copy of a million windows takes 1 GB
    early = {"early_stopping": True, "scoring": "loss", "n_iter_no_change": _PATIENCE, "tol": 0.0}
    trees = _trees(len(clear.labels), max(ROUNDS), seed, **early)
    x_left = known.x.astype(np.float64, copy=False)  # else scikit-learn holds two copies beside it
    trees.fit(clear.x, clear.labels, X_val=x_left, y_val=known.labels)
    return Fitted(trees, classes, np.asarray(prior))


def _nll_by_rounds(judge: Fitted) -> np.ndarray:
    """Returns the NLL on the windows left out at each of ROUNDS, or at the last there is."""
    if judge.estimator is None:
        return np.zeros(len(ROUNDS))
    nll = -judge.estimator.validation_score_  # the first is that of no round
    return nll[np.minimum(ROUNDS, len(nll) - 1)]


def _standard_error(values: np.ndarray, blocks: np.ndarray) -> float:
    """Returns the jackknife's standard error of a mean, blocks of time left out in turn."""
    counts, sums = np.bincount(blocks), np.bincount(blocks, values)
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(counts) < 2:
        return np.inf
    without = (sums.sum() - sums) / (counts.sum() - counts)
    return float(np.sqrt((len(counts) - 1) * np.var(without)))
