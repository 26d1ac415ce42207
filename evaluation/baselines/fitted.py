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
        if self.rounds is None:
            probabilities = self.estimator.predict_proba(x)
        else:
            stages = self.estimator.staged_predict_proba(x)
            last = min(self.rounds, self.estimator.n_iter_) - 1
            probabilities = next(islice(stages, last, None))
        return np.log(np.maximum(probabilities, LEAST))

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
        probabilities = np.zeros((len(x), len(CLASS_NAMES)))
        log_p = tempered(self.log_p(x), self.prior[self.classes], self.temperature)
        probabilities[:, self.classes] = np.exp(log_p)
        return probabilities

    def losses(self, windows: Windows) -> np.ndarray:
        """Returns the NLL of each window in nats, (windows,)."""
        rows = np.arange(len(windows.labels))
        of_true = self.predict_proba(windows.x)[rows, windows.labels]
        return -np.log(np.maximum(of_true, LEAST))


def fit(estimator: Any, windows: Windows, prior: np.ndarray) -> Fitted:
    """Returns an estimator of scikit-learn fitted to windows; the prior where it is None."""
    classes = np.unique(windows.labels)
    fitted = None
    if estimator is not None and len(classes) > 1:
        fitted = estimator.fit(windows.x, windows.labels)
    return Fitted(fitted, classes, np.asarray(prior))
