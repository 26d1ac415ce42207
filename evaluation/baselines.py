"""What a model must beat: constant prior, persistence, and two learners on window summaries."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.labels import CLASS_NAMES

UNKNOWN = -1  # of a label


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


def logistic_regression(train_x: np.ndarray, train_y: np.ndarray, *, seed: int = 0) -> "Fitted":
    """Returns a logistic regression on standardised summaries.

    Args:
        train_x: summaries of training windows, (samples, columns).
        train_y: their labels, (samples,).
        seed: for equal signatures; the solver draws nothing.
    """
    estimator = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, random_state=seed)
    )
    return _fit(estimator, train_x, train_y)


def boosted_trees(train_x: np.ndarray, train_y: np.ndarray, *, seed: int = 0) -> "Fitted":
    """Returns small gradient-boosted trees on summaries.

    They stop after a fixed number: scikit-learn's early stopping holds out random windows, whose
    neighbours, one bar away, would be trained on.

    Args:
        train_x: summaries of training windows, (samples, columns).
        train_y: their labels, (samples,).
        seed: of the estimator.
    """
    estimator = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=max(20, len(train_y) // 200),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    return _fit(estimator, train_x, train_y)


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator whose probabilities always have all classes, in class order.

    Attributes:
        estimator: of scikit-learn; None if only one class was seen.
        classes: those seen in training, rising.
    """

    estimator: Any
    classes: np.ndarray

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns probabilities (samples, 3) of summaries (samples, columns)."""
        probabilities = np.zeros((len(x), len(CLASS_NAMES)))
        probabilities[:, self.classes] = (
            1.0 if self.estimator is None else self.estimator.predict_proba(x)
        )
        return probabilities


def _fit(estimator, train_x, train_y) -> Fitted:
    classes = np.unique(train_y)
    return Fitted(None if len(classes) < 2 else estimator.fit(train_x, train_y), classes)


def _frequencies(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    return counts / counts.sum()
