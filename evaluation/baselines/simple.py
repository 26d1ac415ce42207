"""Baselines without a fit: the class frequencies, and persistence."""

import numpy as np

from data.market.labels import CLASS_NAMES

UNKNOWN = -1  # of a label


def constant_prior(train_labels: np.ndarray, num_windows: int) -> np.ndarray:
    """Returns the training period's class frequencies for every window, (windows, 3)."""
    return np.tile(_frequencies(train_labels), (num_windows, 1))


def persistence(
    previous_labels: np.ndarray, train_previous: np.ndarray, train_labels: np.ndarray
) -> np.ndarray:
    """Returns P(label | label of the move that has just ended), (windows, 3).

    The table is counted on the training windows, each cell one window more than seen (Laplace),
    so that both a trend and a reversal show.

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


def _frequencies(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    return counts / counts.sum()
