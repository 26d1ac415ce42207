"""The class that a network falls to where there is no signal, known before the first step.

Without signal the best a network can do is the constant that minimises its expected loss under
the batches' class quotas. Argmax turns a small edge of that constant into one class throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from models.calibration import slopes
from models.probabilities import PerClass

NO_EDGE = 1e-4  # margin below which no class counts as favoured
_STARTS = 8  # the expected loss of a large gamma may have several valleys


@dataclass(frozen=True)
class Forecast:
    """The best constant answer without signal.

    Attributes:
        probabilities: of each class, (classes,), as the training logits say them.
        favoured: code of the class that argmax would name throughout.
        margin: its probability minus that of the second.
    """

    probabilities: np.ndarray
    favoured: int
    margin: float

    def as_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns the forecast in a form that JSON can hold, by class name."""
        values = self.probabilities.tolist()
        return {
            "probabilities": dict(zip(class_names, values, strict=True)),
            "favoured": class_names[self.favoured],
            "margin": self.margin,
        }


def forecast_collapse(
    quotas: Sequence[float] | np.ndarray,
    alpha: PerClass,
    gamma: PerClass,
    smoothing: PerClass = 0.0,
    ce_weight: float = 0.0,
) -> Forecast:
    """Returns the constant that minimises the expected training loss.

    Args:
        quotas: class distribution of the training batches, any positive scale, (classes,).
        alpha: that of the loss, here and below (`models.training.losses`).
        gamma: focusing exponent of each class.
        smoothing: label smoothing of each class.
        ce_weight: weight of plain cross-entropy.

    Raises:
        ValueError: if a quota is not positive.
    """
    shares = np.asarray(quotas, np.float64)
    if shares.ndim != 1 or not np.all(shares > 0):
        raise ValueError(f"quotas must be positive, one per class, got {shares.tolist()}")
    probabilities = best_answer(shares / shares.sum(), alpha, gamma, smoothing, ce_weight)
    order = np.argsort(-probabilities, kind="stable")
    margin = float(probabilities[order[0]] - probabilities[order[1]])
    return Forecast(probabilities, int(order[0]), margin)


def best_answer(
    posterior: np.ndarray,
    alpha: PerClass,
    gamma: PerClass,
    smoothing: PerClass = 0.0,
    ce_weight: float = 0.0,
) -> np.ndarray:
    """Returns the probabilities that minimise the expected loss under `posterior`, (classes,)."""
    parameters = (posterior, alpha, gamma, smoothing, ce_weight)
    rng = np.random.default_rng(0)
    starts = [np.log(posterior), np.zeros_like(posterior)]
    starts += list(rng.normal(scale=1.5, size=(_STARTS - len(starts), len(posterior))))
    # "BFGS" does as well, but hushes its line search by the filter of warnings, and that is one for
    # all threads: the baselines are fitted beside this.
    exactly = {"ftol": 0.0, "gtol": 1e-9}
    minima = [
        minimize(_expected_loss, start, parameters, "L-BFGS-B", jac=True, options=exactly)
        for start in starts
    ]
    return softmax(min(minima, key=lambda result: result.fun).x)


def _expected_loss(logits, posterior, alpha, gamma, smoothing, ce_weight):
    """Returns the expected loss and its gradient in the logits (`models.calibration`)."""
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    rest = p @ (1 - np.eye(len(p)))
    eps = np.broadcast_to(smoothing, p.shape)
    smoothed = -(1 - eps) * log_p - eps * log_p.mean()
    focal = np.asarray(alpha) * rest ** np.asarray(gamma) * smoothed
    loss = ce_weight * -log_p + (1 - ce_weight) * focal
    g, h = slopes(p, alpha, gamma, smoothing, ce_weight)
    downhill = posterior * g - p * (posterior @ g) + (posterior @ h) * (1 / len(p) - p)
    return posterior @ loss, -downhill
