"""One temperature about the prior.

Where little can be known every probability stays near its class's frequency pi, so what is to be
taken back where validation shows too much confidence is the distance to pi, not that to a third
each:

    log p_T = log pi + (log p - log pi) / T + constant

T = 1 changes nothing, T to infinity answers pi, and the order of the lifts p / pi, which makes the
call (`core.calls`), does not depend on T, but for float32's rounding near the highest.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import log_softmax, logsumexp

LOWEST_TEMPERATURE = 0.05
_LEAST_DISTANCE = 3e-5  # that the highest temperature leaves, so that float32 still tells the lift
_SURE = 1.96  # standard errors that sharpening needs


def tempered(
    log_p: np.ndarray, prior: Sequence[float] | np.ndarray, temperature: float
) -> np.ndarray:
    """Returns the log-probabilities at a temperature about the prior, float64 (windows, classes).

    Args:
        log_p: log-probabilities, up to a constant of each row, (windows, classes).
        prior: class frequencies, (classes,), all positive.
        temperature: above 0.
    """
    log_prior = np.log(np.asarray(prior, np.float64))
    distance = np.asarray(log_p, np.float64) - log_prior
    return log_softmax(log_prior + distance / temperature, axis=-1)


def fit_temperature(
    log_p: np.ndarray,
    labels: np.ndarray,
    prior: Sequence[float] | np.ndarray,
    blocks: np.ndarray,
) -> float:
    """Returns a temperature about the prior that time blocks of validation windows speak for.

    The one of the lowest NLL, its logarithm shrunk towards 0 by its error over the blocks (the
    positive part of James and Stein's factor; the error is a jackknife's, each block left out by a
    Newton step). Below 1, which sharpens, only where the logarithm is below 0 by 1.96 errors. Where
    the shrunk one would leave the NLL above that of the prior itself, it is not shrunk: so the NLL
    is never above the prior's, but for 1e-4 where the answers are the prior.

    Args:
        log_p: log-probabilities, up to a constant of each row, (windows, classes).
        labels: class codes, (windows,).
        prior: class frequencies, (classes,), all positive.
        blocks: number of each window's block of time, 0.. without holes, (windows,); of a single
            block no error is known, and none sharpens.

    Returns:
        a number of five digits, at least 0.05. At the highest the answers are the prior: their
        distance to it has a root mean square of 3e-5.
    """
    answers = _Answers(log_p, labels, prior, blocks)
    best = answers.best()
    temperature = np.exp(_shrunk(-np.log(best), answers.errors(best)))
    if answers.nll(1 / temperature) > answers.nll(0.0):
        temperature = 1 / best
    return float(f"{min(temperature, 1 / answers.low):.5g}")


def _shrunk(logarithm: float, error: float | None) -> float:
    """Returns the logarithm of the temperature, nearer to 0 the less it is known."""
    if error is None:
        return max(logarithm, 0.0)
    if logarithm > -_SURE * error and logarithm < 0 or logarithm == 0:
        return 0.0
    return logarithm * max(0.0, 1 - (error / logarithm) ** 2)


class _Answers:
    """The NLL of softmax(log pi + b (log p - log pi)) as a convex function of b = 1 / T."""

    high = 1 / LOWEST_TEMPERATURE

    def __init__(self, log_p, labels, prior, blocks):
        self._log_prior = np.log(np.asarray(prior, np.float64))
        self._distance = np.asarray(log_p, np.float64) - self._log_prior  # (windows, classes)
        self._own = self._distance[np.arange(len(labels)), labels]
        self._own_prior = self._log_prior[labels]
        self._blocks = np.asarray(blocks)
        size = np.sqrt(np.mean(self._distance**2))
        self.low = min(1.0, _LEAST_DISTANCE / max(size, _LEAST_DISTANCE))

    def nll(self, b: float) -> float:
        """Returns the mean NLL in nats."""
        logits = self._log_prior + b * self._distance
        return float(np.mean(logsumexp(logits, axis=-1) - self._own_prior - b * self._own))

    def _slopes(self, b: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first and second derivative of each window's NLL, (windows,)."""
        p = np.exp(log_softmax(self._log_prior + b * self._distance, axis=-1))
        mean = (p * self._distance).sum(axis=-1)
        return mean - self._own, (p * self._distance**2).sum(axis=-1) - mean**2

    def best(self) -> float:
        """Returns the b of the lowest NLL."""

        def slope(b: float) -> float:
            return float(self._slopes(b)[0].sum())

        if slope(self.low) >= 0:
            return self.low
        return self.high if slope(self.high) <= 0 else _root(slope, self.low, self.high)

    def errors(self, best: float) -> float | None:
        """Returns the standard error of log b over blocks, None where there is one block."""
        first, second = (np.bincount(self._blocks, part) for part in self._slopes(best))
        num_blocks = len(first)
        if num_blocks < 2:
            return None
        bend = np.maximum(second.sum() - second, 1e-12)
        without = np.clip(best - (first.sum() - first) / bend, self.low, self.high)
        return float(np.sqrt((num_blocks - 1) * np.var(np.log(without))))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), method="brentq").root)
