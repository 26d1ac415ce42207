"""What losses, calibration and callbacks share: parameters of classes, stable logarithms, NLL."""

from collections.abc import Sequence

import numpy as np
from keras import ops
from scipy.special import log_softmax

PerClass = float | Sequence[float]  # one number counts for all classes


def plain(value: PerClass | Sequence[Sequence[float]] | None) -> float | list | None:
    """Returns numbers in the form that the config of a Keras object holds; None stays None."""
    return None if value is None else np.asarray(value, np.float64).tolist()


def log_of_rest(log_p):
    """Returns log(1 - p_c) without cancellation: the log-sum of all other classes.

    Args:
        log_p: log-probabilities, a float32 tensor (batch, classes).

    Returns:
        float32 (batch, classes).
    """
    itself = ops.eye(log_p.shape[-1], dtype="float32") * -1e9
    return ops.logsumexp(ops.expand_dims(log_p, -2) + itself, axis=-1)  # (batch, classes)


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the plain cross-entropy (NLL, in nats) of each window, float64 (windows,).

    Args:
        logits: (windows, classes); log-probabilities are logits too.
        labels: class codes, (windows,).
    """
    log_p = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return -log_p[np.arange(len(labels)), labels]
