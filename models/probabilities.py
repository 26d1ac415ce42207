"""What losses, calibration and callbacks share: parameters of classes, stable logarithms, NLL."""

from collections.abc import Sequence

import numpy as np
from keras import ops
from scipy.special import log_softmax

PerClass = float | Sequence[float]  # one number counts for all classes
_AT_ONCE = 1 << 16  # windows: of two million, all at once would take 240 MB on the way


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
    logits, labels = np.asarray(logits), np.asarray(labels)
    losses = np.empty(len(labels))
    for start in range(0, len(labels), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        log_p = log_softmax(logits[part].astype(np.float64), axis=-1)
        losses[part] = -log_p[np.arange(len(losses[part])), labels[part]]
    return losses
