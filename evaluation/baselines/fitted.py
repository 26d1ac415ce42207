"""A fitted baseline: its probabilities in class order, at a temperature about the prior."""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from core.priors import fit_temperature, tempered
from data.market.labels import CLASS_NAMES
from evaluation.baselines.summaries import Windows

CLIP = 5.0  # standard deviations; what the regression sees of a column ends there
LEAST = 1e-12  # of a probability
_AT_ONCE = 1 << 16  # samples: scikit-learn's trees copy what they see in float64


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator whose probabilities always have all classes, in class order.

    Attributes:
        estimator: of scikit-learn; None if only one class was seen.
        classes: those seen in training, rising.
        prior: class frequencies of the training period, (3,).
        temperature: about the prior.
        rounds: of boosting that count; None for all, and for other estimators.
        penalty: of a regression, as in `PENALTIES`; None for other estimators.
    """

    estimator: Any
    classes: np.ndarray
    prior: np.ndarray
    temperature: float = 1.0
    rounds: int | None = None
    penalty: float | None = None

    def log_p(self, x: np.ndarray) -> np.ndarray:
        """Returns log-probabilities (samples, classes seen) before the temperature."""
        if self.estimator is None:
            return np.zeros((len(x), 1))
        parts = [self._answer(x[start : start + _AT_ONCE]) for start in range(0, len(x), _AT_ONCE)]
        return np.log(np.maximum(np.concatenate(parts), LEAST))

    def _answer(self, x: np.ndarray) -> np.ndarray:
        if self.rounds is None or self.rounds >= self.estimator.n_iter_:
            return self.estimator.predict_proba(x)
        return next(islice(self.estimator.staged_predict_proba(x), self.rounds - 1, None))

    def with_temperature(self, windows: Windows) -> "Fitted":
        """Returns the baseline at the temperature about the prior that fits these windows best."""
        log_p = self.log_p(windows.x)
        temperature = self.temperature_for(log_p, windows.labels, windows.blocks)
        return replace(self, temperature=temperature)

    def temperature_for(self, log_p: np.ndarray, labels: np.ndarray, blocks: np.ndarray) -> float:
        """Returns the temperature that fits log-probabilities (samples, classes seen) best."""
        seen = np.isin(labels, self.classes)
        codes = np.searchsorted(self.classes, labels[seen])
        blocks = np.unique(blocks[seen], return_inverse=True)[1]
        if len(self.classes) < 2 or not len(codes):
            return 1.0
        return fit_temperature(log_p[seen], codes, self.prior[self.classes], blocks)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns probabilities (samples, 3) of summaries (samples, columns)."""
        return self.tempered(self.log_p(x))

    def tempered(self, log_p: np.ndarray) -> np.ndarray:
        """Returns probabilities (samples, 3) of what `log_p` returned."""
        probabilities = np.zeros((len(log_p), len(CLASS_NAMES)))
        log_p = tempered(log_p, self.prior[self.classes], self.temperature)
        probabilities[:, self.classes] = np.exp(log_p)
        return probabilities

    def losses(self, windows: Windows) -> np.ndarray:
        """Returns the NLL of each window in nats, (windows,)."""
        return losses_of(self.predict_proba(windows.x), windows.labels)


def losses_of(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the NLL of each sample in nats, (samples,)."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST))


def fit(estimator: Any, windows: Windows, prior: np.ndarray) -> Fitted:
    """Returns an estimator of scikit-learn fitted to windows; the prior where it is None."""
    classes = np.unique(windows.labels)
    fitted = None
    if estimator is not None and len(classes) > 1:
        fitted = estimator.fit(windows.x, windows.labels)
    return Fitted(fitted, classes, np.asarray(prior))
