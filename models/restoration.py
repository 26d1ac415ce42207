"""From the logits of a training to the probabilities that are shipped, by one object a training.

Validation asks it after every epoch, and so does whoever ships the chosen one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from core.priors import fit_temperature, tempered
from models.calibration import RestoreProbabilities

_LEAST = 1e-30  # has a logarithm


@dataclass(frozen=True)
class RestorationSettings:
    """What of a training's bends is undone.

    Attributes:
        loss: the focal part of the loss.
        prior: the class shares of the batches.
        temperature: whether one is fitted on validation windows.
    """

    loss: bool = True
    prior: bool = True
    temperature: bool = True


@dataclass(frozen=True)
class Restoration:
    """How one training bends probabilities, and how that is undone.

    Attributes:
        settings: what is undone.
        focal: alpha, gamma and smoothing of the loss.
        ce_weight: weight of cross-entropy in the loss, by epoch.
        training_prior: class distribution of the training stream, (classes,).
        deploy_prior: the one that the stream would have had without quotas, (classes,).
        natural_prior: class frequencies of the training period, (classes,); the temperature is
            about it.
        known_temperature: one that was fitted before; None: validation windows say it.
    """

    settings: RestorationSettings
    focal: dict[str, Any]
    ce_weight: Callable[[int], float]
    training_prior: np.ndarray
    deploy_prior: np.ndarray
    natural_prior: np.ndarray
    known_temperature: float | None = None

    def untempered(self, epoch: int) -> dict[str, Any]:
        """Returns the arguments of `RestoreProbabilities` for an epoch, but for a temperature."""
        arguments: dict[str, Any] = {}
        if self.settings.loss:
            arguments |= self.focal | {"ce_weight": self.ce_weight(epoch)}
        if self.settings.prior:
            arguments |= {
                "training_prior": self.training_prior.tolist(),
                "deploy_prior": self.deploy_prior.tolist(),
            }
        return arguments

    def fitted(
        self, epoch: int, logits: np.ndarray, labels: np.ndarray, blocks: np.ndarray
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Returns the arguments of `RestoreProbabilities`, and the restored log-probabilities.

        Args:
            epoch: that the logits are of.
            logits: of validation windows, by which the temperature is fitted, (windows, classes).
            labels: class codes of these windows, (windows,).
            blocks: number of each window's block of time, 0.. without holes, (windows,).
        """
        arguments = self.untempered(epoch)
        restored = RestoreProbabilities(**arguments)(logits)
        log_p = np.log(np.maximum(np.asarray(keras.ops.convert_to_numpy(restored)), _LEAST))
        temperature = self.temperature(log_p, labels, blocks)
        if temperature:
            arguments |= temperature
            log_p = tempered(log_p, temperature["temperature_prior"], temperature["temperature"])
        return arguments, log_p

    def temperature(
        self, log_p: np.ndarray, labels: np.ndarray, blocks: np.ndarray
    ) -> dict[str, Any]:
        """Returns the arguments of a temperature that validation windows speak for; none if off.

        Args:
            log_p: log-probabilities of these windows, (windows, classes).
            labels: class codes of these windows, (windows,).
            blocks: as `fitted` takes them.
        """
        if not self.settings.temperature:
            return {}
        known = self.known_temperature
        return {
            "temperature": fit_temperature(log_p, labels, self.natural_prior, blocks)
            if known is None
            else known,
            "temperature_prior": self.natural_prior.tolist(),
        }
