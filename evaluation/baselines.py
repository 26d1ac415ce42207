"""What a model must beat: constant prior, persistence, and two learners on window summaries.

The learners may look at the validation windows for what the network chooses there too: how long to
train, and the temperature.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.market.labels import CLASS_NAMES
from evaluation.metrics import evaluate, losses

UNKNOWN = -1  # of a label
ROUNDS = (20, 40, 60)  # of boosting; one is chosen
HIGHEST_TEMPERATURE = 20.0  # its inverse is the lowest


def window_summary(x: np.ndarray) -> np.ndarray:
    """Returns a few numbers for each feature of each window, float32 (batch, 4 * features).

    The last bar, the mean and standard deviation over the window, and the mean over its last
    quarter: level, scale, and what changed lately.

    Args:
        x: windows, (batch, time, features).
    """
    late = x[:, -max(1, x.shape[1] // 4) :]  # (batch, time / 4, features)
    parts = [x[:, -1], x.mean(axis=1), x.std(axis=1), late.mean(axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def constant_prior(train_labels: np.ndarray, num_windows: int) -> np.ndarray:
    """Returns the training period's class frequencies for every window, (windows, 3)."""
    return np.tile(_frequencies(train_labels), (num_windows, 1))


def persistence(
    previous_labels: np.ndarray, train_previous: np.ndarray, train_labels: np.ndarray
) -> np.ndarray:
    """Returns P(label | label of the move that has just ended), (windows, 3).

    The table is counted on the training windows, each cell one window more than seen (Laplace),
    so that a trend and a reversal are both found.

    Args:
        previous_labels: of the windows to judge, -1 where unknown: those get the prior.
        train_previous: of the training windows, -1 where unknown, (training windows,).
        train_labels: labels of the training windows, (training windows,).
    """
    previous_labels = np.asarray(previous_labels)
    known = np.asarray(train_previous) != UNKNOWN
    counts = np.ones((len(CLASS_NAMES), len(CLASS_NAMES)))
    np.add.at(counts, (np.asarray(train_previous)[known], np.asarray(train_labels)[known]), 1)
    table = np.concatenate(
        [counts / counts.sum(axis=1, keepdims=True), _frequencies(train_labels)[None]]
    )  # its last row is where -1 points to
    return table[previous_labels]


def logistic_regression(
    train_x: np.ndarray,
    train_y: np.ndarray,
    validation_x: np.ndarray,
    validation_y: np.ndarray,
    *,
    seed: int = 0,
) -> "Fitted":
    """Returns a logistic regression on standardised summaries, its temperature from validation.

    Args:
        train_x: summaries of training windows, (samples, columns).
        train_y: their labels, (samples,).
        validation_x: the same of the validation windows.
        validation_y: their labels.
        seed: for equal signatures; the solver draws nothing.
    """
    estimator = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, random_state=seed)
    )
    return _fit(estimator, train_x, train_y).with_temperature(validation_x, validation_y)


def boosted_trees(
    train_x: np.ndarray,
    train_y: np.ndarray,
    validation_x: np.ndarray,
    validation_y: np.ndarray,
    *,
    seed: int = 0,
) -> "Fitted":
    """Returns small gradient-boosted trees on summaries, as many as suit the validation windows.

    The rounds with the highest validation MCC are kept, the measure that the network's epochs are
    chosen by: by the NLL they were 9 on the 15-minute bars of benchmarks/intervals.md, where 40
    had twice the test MCC. scikit-learn's early stopping cannot serve: it holds out random
    windows, whose neighbours, one bar away, would be trained on.

    Args:
        train_x: summaries of training windows, (samples, columns).
        train_y: their labels, (samples,).
        validation_x: the same of the validation windows.
        validation_y: their labels.
        seed: of the estimator.
    """
    estimator = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=max(20, len(train_y) // 200),
        l2_regularization=1.0,
        early_stopping=False,
        warm_start=True,
        random_state=seed,
    )
    grown = [
        copy.deepcopy(_fit(estimator.set_params(max_iter=rounds), train_x, train_y))
        for rounds in ROUNDS
    ]
    return max(
        grown,
        key=lambda fitted: evaluate(validation_y, fitted.predict_proba(validation_x))["mcc"],
    )


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator whose probabilities always have all classes, in class order.

    Attributes:
        estimator: of scikit-learn; None if only one class was seen.
        classes: those seen in training, rising.
        temperature: that the logits are divided by.
    """

    estimator: Any
    classes: np.ndarray
    temperature: float = 1.0

    def with_temperature(self, x: np.ndarray, labels: np.ndarray) -> "Fitted":
        """Returns it with the temperature of the lowest NLL on these summaries and labels."""
        plain = self.predict_proba(x)
        found = minimize_scalar(
            lambda log: losses(labels, _tempered(plain, np.exp(log))).mean(),
            bounds=np.log([1 / HIGHEST_TEMPERATURE, HIGHEST_TEMPERATURE]),
            method="bounded",
        )
        return dataclasses.replace(self, temperature=float(np.exp(found.x)))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns probabilities (samples, 3) of summaries (samples, columns)."""
        probabilities = np.zeros((len(x), len(CLASS_NAMES)))
        probabilities[:, self.classes] = (
            1.0 if self.estimator is None else self.estimator.predict_proba(x)
        )
        return _tempered(probabilities, self.temperature)


def _tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def _fit(estimator, train_x, train_y) -> Fitted:
    classes = np.unique(train_y)
    return Fitted(None if len(classes) < 2 else estimator.fit(train_x, train_y), classes)


def _frequencies(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    return counts / counts.sum()
