"""Known and unfamiliar: how far each feature of the test bars has moved from the training bars.

The population stability index over tenths of the training values: the sum over bins of
(test - training) * ln(test / training). Below 0.1 it is usually read as no shift, above 0.25 as a
large one (Siddiqi 2006, Credit Risk Scorecards).
"""

import numpy as np

from data.market.windows import subsample

NUM_BINS = 10
MOST_ROWS = 100_000  # of a split, evenly spaced
_SMALLEST = 1e-4  # share; bounds what an empty bin adds


def stability_index(expected: np.ndarray, actual: np.ndarray) -> float:
    """Returns the population stability index of two samples of one feature, 0 for equal shares.

    Args:
        expected: values that set the bins, (rows,).
        actual: values that are compared, (other rows,).
    """
    edges = np.unique(np.quantile(expected, np.arange(1, NUM_BINS) / NUM_BINS))

    def shares(values: np.ndarray) -> np.ndarray:
        # To the right of its edge, so that a value that fills several bins has one to itself.
        counts = np.bincount(np.searchsorted(edges, values, "left"), minlength=len(edges) + 1)
        return np.maximum(counts / len(values), _SMALLEST)

    before, now = shares(expected), shares(actual)
    return float(((now - before) * np.log(now / before)).sum())


def feature_drift(
    features: np.ndarray, names: tuple[str, ...], train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """Returns the stability index of each feature between two splits, the largest first.

    Args:
        features: (rows, features).
        names: of its columns.
        train: end rows of the training windows.
        test: end rows of the test windows.
    """
    before, now = (np.asarray(features[e[subsample(len(e), MOST_ROWS)]]) for e in (train, test))
    indices = {n: stability_index(before[:, i], now[:, i]) for i, n in enumerate(names)}
    return dict(sorted(indices.items(), key=lambda item: -item[1]))
