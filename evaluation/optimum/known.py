"""How good the best possible answer is on the test windows of a made-up market."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import matthews_corrcoef

from core.calls import calls
from core.i18n import _
from data.bars.synthetic import COMMON_RATIOS, PREFIX, parsed
from data.market.labels import BUY, CLASS_NAMES, HOLD
from data.market.market import Market, training_prior
from evaluation.figures.scores import KnownOptimum
from evaluation.optimum.best import best_calls, best_probabilities

_LEAST = 1e-15  # probability: bounds the NLL of a window
_ROUNDING = 1e-9  # where neither side is likelier, the side must not be that of the last digit


class BestFigures(NamedTuple):
    """What true probabilities reach on some labels.

    Attributes:
        mcc: of the three classes.
        direction: MCC of SELL and BUY where the label is one of them.
        movement: MCC of HOLD against the rest.
        nll: in nats.
    """

    mcc: float
    direction: float
    movement: float
    nll: float


def known_optimum(data: str | None, market: Market, folds: Sequence) -> KnownOptimum | None:
    """Returns what the best answers to the test windows of all folds reach.

    Args:
        data: source of the run's bars.
        market: made of them.
        folds: of the market.

    Returns:
        the figures of `best_figures`; none for labels by three barriers. None where the bars are
        not made up.
    """
    if data is None or not data.startswith(PREFIX):
        return None
    unknown = market.settings.relative and parsed(data)[0] not in COMMON_RATIOS
    if market.label_method == "triple_barrier" or unknown:
        return KnownOptimum(data, mcc=None, nll=None, direction=None, movement=None)
    labels, probabilities, lifted = [], [], []
    for fold in folds:
        best = _of_test_windows(data, market, fold)
        labels.append(fold.labels[fold.test])
        probabilities.append(best)
        lifted.append(calls(best, training_prior(fold)))
    best = best_figures(*map(np.concatenate, (labels, probabilities, lifted)))
    return KnownOptimum(data, best.mcc, best.nll, best.direction, best.movement)


def best_figures(labels: np.ndarray, probabilities: np.ndarray, called: np.ndarray) -> BestFigures:
    """Returns the MCC of all classes, of the side and of movement that true probabilities reach.

    Calls of three classes, and of HOLD or not, are those of the highest expected MCC, for which the
    labels are not looked at; the side is the likelier one. What they reach on the labels varies by
    chance.

    Args:
        labels: class codes, (windows,).
        probabilities: (windows, 3).
        called: other calls, (windows,); no less is expected of the best.
    """
    sell, hold, buy = probabilities.T
    sides = buy > sell * (1 + _ROUNDING)
    held = best_calls(np.column_stack([1 - hold, hold]), [(called == HOLD).astype(int)])[0]
    moved, of_true = labels != HOLD, probabilities[np.arange(len(labels)), labels]
    return BestFigures(
        mcc=_mcc(labels, best_calls(probabilities, [called])[0]),
        direction=_mcc(labels[moved] == BUY, sides[moved]),
        movement=_mcc(labels == HOLD, held == 1),
        nll=float(-np.log(np.maximum(of_true, _LEAST)).mean()),
    )


def sentence(optimum: KnownOptimum) -> str:
    """Returns in the current language what `known_optimum` returned."""
    if optimum.mcc is None:
        return _(
            "The market is made up; the best possible answer to labels of this kind on it is not "
            "known."
        )
    return _(
        "The market is made up: the best possible answers reach direction {direction:+.3f}, "
        "movement {movement:+.3f}, MCC {mcc:+.3f} and an NLL of {nll:.4f} on these windows.",
        direction=optimum.direction,
        movement=optimum.movement,
        mcc=optimum.mcc,
        nll=optimum.nll,
    )


def _of_test_windows(data: str, market: Market, fold) -> np.ndarray:
    """Returns the best probabilities of a fold's test windows in their order, (windows, 3)."""
    best = best_probabilities(
        data,
        label_method=market.label_method,
        threshold=fold.threshold,
        horizon=market.future_window,
        reference=market.settings.label_reference,
        min_symbols=market.settings.features.market_min_symbols,
    )
    starts = np.searchsorted(market.symbols, np.arange(len(market.symbol_names)))
    probabilities = np.empty((len(fold.test), len(CLASS_NAMES)))
    for code, name in enumerate(market.symbol_names):
        rows = market.symbols[fold.test] == code
        bars = fold.test[rows] - starts[code] + market.settings.warm_up_bars
        probabilities[rows] = best[name][bars]
    return probabilities


def _mcc(true: np.ndarray, called: np.ndarray) -> float:
    """Returns the MCC; 0 without a warning where one class alone occurs or is called."""
    several = len(np.unique(true)) > 1 and len(np.unique(called)) > 1
    return float(matthews_corrcoef(true, called)) if several else 0.0
