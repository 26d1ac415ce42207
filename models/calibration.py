"""From training logits to deployable probabilities: loss undone, prior corrected, temperature.

Training bends probabilities twice. Balanced batches make the network learn the posterior of the
batches, P(c | x) q_c / pi_c; and the focal factor makes the best answer p to a known posterior eta
another vector than eta. Here both are undone, in the reverse order.

The inverse of the loss. Where the expected loss sum over y of eta_y L_y(p) is smallest, its
gradient in the logits is 0. With p = softmax(z), C classes, S_y the smoothed cross-entropy, and
the loss of `models.training.losses` (w the weight of plain cross-entropy),

    L_y = w (-log p_y) + (1 - w) alpha_y (1 - p_y)^gamma_y S_y
    -dL_y / dz_j = g_y (delta_yj - p_j) + h_y (1/C - p_j)
    h_y = (1 - w) alpha_y (1 - p_y)^gamma_y eps_y
    g_y = w + (1 - w) alpha_y [(1 - p_y)^gamma_y (1 - eps_y)
                               + gamma_y p_y (1 - p_y)^(gamma_y - 1) S_y]

The gradient is linear in eta, and the system has a closed solution: with u_y = h_y / g_y

    eta_j proportional to (p_j - r / C) / g_j,   r = sum_y p_y u_y / (1 + mean_y u_y)

For w = 0 and eps = 0 this is eta_j ~ p_j / (alpha_j [(1 - p_j)^gamma_j - gamma_j p_j
(1 - p_j)^(gamma_j - 1) ln p_j]). Smoothing keeps the best p_j above r / C; what a network says
below that belongs to no posterior and is given a small positive one, so that its logarithm exists.
The loss's one-versus-rest negatives (beta) are not undone.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from models.probabilities import PerClass, log_of_rest, plain

_LOWEST_LOG = -60.0  # float32 holds exp(60) and exp(-60)
_LOWEST_MEAN = 1e-30  # has a logarithm in float32
_KEPT = 1e-3  # share of p_j that stays where smoothing would take all of it


def slopes(
    p: np.ndarray, alpha: PerClass, gamma: PerClass, smoothing: PerClass, ce_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns g and h of the loss's gradient (see the top of this file), (samples, classes).

    Args:
        p: softmax of the training logits, (samples, classes), all positive.
        alpha: as in `models.training.losses`, here and below; one number counts for all classes.
        gamma: focusing exponent of each class.
        smoothing: label smoothing of each class.
        ce_weight: weight of plain cross-entropy, in [0, 1].
    """
    p = np.asarray(p, np.float64)
    rest = p @ (1 - np.eye(p.shape[-1]))  # 1 - p without cancellation
    return _slopes(np.log(p), np.log(rest), alpha, gamma, smoothing, ce_weight, np)


def _log_posterior(log_p, alpha, gamma, smoothing, ce_weight):
    """Returns the logarithm of eta up to a constant of each row."""
    g, h = _slopes(log_p, log_of_rest(log_p), alpha, gamma, smoothing, ce_weight, ops)
    if not np.any(smoothing):
        return log_p - ops.log(g)
    u = h / g
    r = ops.sum(ops.exp(log_p) * u, axis=-1, keepdims=True) / (
        1 + ops.mean(u, axis=-1, keepdims=True)
    )  # (samples, 1)
    taken = r / log_p.shape[-1] * ops.exp(-ops.maximum(log_p, _LOWEST_LOG))
    return log_p + ops.log(ops.maximum(1 - taken, _KEPT)) - ops.log(g)


def _slopes(log_p, log_rest, alpha, gamma, smoothing, ce_weight, xp):
    """Returns g and h; `xp` is numpy or keras.ops."""
    num_classes = log_p.shape[-1]
    # Plain NumPy arrays join in both kinds of arithmetic, if their type is that of log_p.
    dtype = np.float64 if xp is np else np.float32
    alpha, gamma, eps = (
        np.broadcast_to(value, (num_classes,)).astype(dtype) for value in (alpha, gamma, smoothing)
    )
    # (1 - p)^gamma and (1 - p)^-1 must both stay representable.
    log_rest = xp.maximum(log_rest, _LOWEST_LOG / max(1.0, float(np.max(gamma))))
    # Near p = 1 the softmax knows log p only to its rounding, and 1 - p much better.
    log_p = xp.where(log_rest < -1.0, xp.log1p(-xp.exp(xp.minimum(log_rest, -1.0))), log_p)
    smoothed = -(1 - eps) * log_p - eps * xp.mean(log_p, axis=-1, keepdims=True)
    focus = alpha * xp.exp(gamma * log_rest)
    bend = alpha * gamma * xp.exp(log_p + (gamma - 1) * log_rest) * smoothed
    g = ce_weight + (1 - ce_weight) * (focus * (1 - eps) + bend)
    return g, (1 - ce_weight) * focus * eps


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class RestoreProbabilities(layers.Layer):
    """Maps training logits (batch, classes) to deployable probabilities (batch, classes).

    In this order: the inverse of the loss, the change of prior, one temperature about a prior, see
    `core.priors`. Each is off by its default; with all defaults the layer is a softmax.

    Args:
        alpha: that of the loss; None with `gamma` None and no smoothing: the loss
            is not undone.
        gamma: focusing exponent of each class.
        smoothing: label smoothing of each class.
        ce_weight: weight of plain cross-entropy that the loss had at the end; 1: nothing to undo.
        training_prior: class distribution of the training batches; None: no change of prior.
        deploy_prior: class distribution to assume from now on; None: no change of prior.
        temperature: divides the distance of the log-probabilities to those of
            `temperature_prior`.
        temperature_prior: the class distribution that is left where the temperature is high;
            None: equal shares, as models before this argument had it.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: if one of the first two priors is missing, or a prior or the temperature is not
            positive.

    Examples:
        >>> restore = RestoreProbabilities(training_prior=[1, 1, 1], deploy_prior=[1, 2, 1])
        >>> np.round(restore(np.zeros((1, 3), "float32")), 3).tolist()
        [[0.25, 0.5, 0.25]]
    """

    def __init__(
        self,
        alpha: PerClass | None = None,
        gamma: PerClass | None = None,
        smoothing: PerClass | None = 0.0,
        ce_weight: float = 0.0,
        training_prior: Sequence[float] | None = None,
        deploy_prior: Sequence[float] | None = None,
        temperature: float | None = 1.0,
        temperature_prior: Sequence[float] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.arguments = {
            "alpha": plain(alpha),
            "gamma": plain(gamma),
            "smoothing": plain(smoothing),
            "ce_weight": float(ce_weight),
            "training_prior": plain(training_prior),
            "deploy_prior": plain(deploy_prior),
            "temperature": 1.0 if temperature is None else float(temperature),
            "temperature_prior": plain(temperature_prior),
        }
        if not self.arguments["temperature"] > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.prior_shift = _prior_shift(training_prior, deploy_prior)
        self.anchor = None if temperature_prior is None else np.log(_positive(temperature_prior))

    def call(self, inputs):
        # Logits of mixed-precision models come in float16, which has no room for the inverse.
        log_p = ops.log_softmax(ops.cast(inputs, "float32"), axis=-1)
        options = self.arguments
        focal = options["alpha"] or options["gamma"] or np.any(options["smoothing"] or 0)
        if focal and options["ce_weight"] != 1:
            log_p = _log_posterior(
                log_p,
                1.0 if options["alpha"] is None else options["alpha"],
                options["gamma"] or 0.0,
                options["smoothing"] or 0.0,
                options["ce_weight"],
            )
        if self.prior_shift is not None:
            log_p = log_p + ops.convert_to_tensor(self.prior_shift, "float32")
        if self.anchor is None:
            return ops.softmax(log_p / options["temperature"], axis=-1)
        anchor = ops.convert_to_tensor(self.anchor, "float32")
        return ops.softmax(anchor + (log_p - anchor) / options["temperature"], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class LogOfMean(layers.Layer):
    """Maps several probabilities, each (batch, classes), to the logarithm of their mean.

    The mean of probabilities (a linear opinion pool) keeps what the members disagree on; logits
    come out, for `RestoreProbabilities` to divide by a temperature.

    Args:
        weights: of the members, 0 or more with the sum 1; None: all the same.
        **kwargs: those of `keras.layers.Layer`.

    Raises:
        ValueError: if the weights are none.
    """

    def __init__(self, weights: Sequence[float] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.weights_of_members = None if weights is None else np.asarray(weights, np.float32)
        if weights is not None and not (min(weights) >= 0 and abs(sum(weights) - 1) < 1e-3):
            raise ValueError(f"weights must be 0 or more with the sum 1, got {weights}")

    def call(self, inputs):
        if self.weights_of_members is None:
            mean = ops.mean(ops.stack(inputs), axis=0)
        else:
            parts = zip(self.weights_of_members, inputs, strict=True)
            mean = sum(weight * part for weight, part in parts)
        return ops.log(ops.maximum(mean, _LOWEST_MEAN))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        weights = self.weights_of_members
        return super().get_config() | ({} if weights is None else {"weights": weights.tolist()})


def _prior_shift(training, deploy) -> np.ndarray | None:
    """Returns log(deploy / training), (classes,), or None if there are no priors."""
    if (training is None) != (deploy is None):
        raise ValueError("training_prior and deploy_prior must be given together")
    if training is None:
        return None
    training, deploy = _positive(training), _positive(deploy)
    if training.shape != deploy.shape:
        raise ValueError(
            f"priors must have one share per class, got {training.tolist()} and {deploy.tolist()}"
        )
    return np.log(deploy) - np.log(training)


def _positive(prior) -> np.ndarray:
    """Returns the shares, which add up to 1, float64 (classes,)."""
    prior = np.asarray(prior, np.float64)
    if not np.all(prior > 0):
        raise ValueError(f"priors must be positive, one share per class, got {prior.tolist()}")
    return prior / prior.sum()
