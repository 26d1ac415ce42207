"""Asymmetric focal loss, and its blend with cross-entropy; both on logits.

With p = softmax(logits), C classes, and label y (docs: the loss of improvement 3):

    AFL = alpha_y (1 - p_y)^gamma_y CE_eps(y, p)
          + beta sum over c != y of kappa[y, c] q_c^gneg_c (-log(1 - q_c)),  q_c = max(p_c - m, 0)

CE_eps is cross-entropy with label smoothing eps_y. The first factor is the focal loss of Lin et al.
(2017, arXiv 1708.02002) with parameters for each class; gamma 0 for the rare class is the
asymmetric focal loss of Yeung et al. (2022, arXiv 2102.04525). The bracket takes one-versus-rest
negatives after Ridnik et al. (2021, arXiv 2009.14119) and is off by default. A larger gamma
down-weights a class.

Everything is computed from log p and log(1 - p), the latter as a log-sum-exp over the other
classes. So no probability is ever clipped, and a confidently wrong window keeps its gradient:
Keras's `CategoricalFocalCrossentropy` clips, and its gradient is exactly 0 there.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from models.probabilities import PerClass, log_of_rest, plain


def asymmetric_focal_loss(
    labels,
    logits,
    *,
    alpha: PerClass = 1.0,
    gamma: PerClass = 0.0,
    smoothing: PerClass = 0.0,
    negative_weight: float = 0.0,
    negative_gamma: PerClass = 0.0,
    negative_margin: float = 0.0,
    negative_costs: Sequence[Sequence[float]] | None = None,
):
    """Returns the loss of each window, float32 (batch,).

    Args:
        labels: class codes, (batch,) or (batch, 1), of any number type; one-hot labels are refused
            with a ValueError.
        logits: (batch, classes).
        alpha: weight of each class; one number counts for all classes, here and below.
        gamma: focusing exponent of each class, >= 0.
        smoothing: label smoothing of each class, in [0, 1).
        negative_weight: beta, weight of the one-versus-rest negatives; 0 for none.
        negative_gamma: focusing exponent of each class as a negative, >= 0.
        negative_margin: m, probability below which a negative costs nothing, in [0, 1).
        negative_costs: kappa, (classes, classes), row: the label; None for all 1.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)  # (batch, classes)
    num_classes = log_p.shape[-1]
    hot = ops.one_hot(_codes(labels, log_p), num_classes, dtype="float32")  # (batch, classes)
    log_not_p = log_of_rest(log_p)  # (batch, classes)

    eps = _of_label(hot, smoothing)  # (batch,)
    nll = -ops.sum(hot * log_p, axis=-1)
    smoothed = (1 - eps) * nll - eps * ops.mean(log_p, axis=-1)
    focus = ops.exp(_of_label(hot, gamma) * ops.sum(hot * log_not_p, axis=-1))
    loss = _of_label(hot, alpha) * focus * smoothed
    if negative_weight:
        costs = _negatives(log_p, log_not_p, negative_gamma, negative_margin)
        if negative_costs is not None:
            costs = costs * ops.matmul(hot, ops.convert_to_tensor(negative_costs, "float32"))
        loss = loss + negative_weight * ops.sum((1 - hot) * costs, axis=-1)
    return loss


def _codes(labels, logits):
    """Returns the codes in the shape of the logits without their classes."""
    labels = ops.convert_to_tensor(labels)
    known = getattr(labels.shape, "rank", 0) is not None  # of TensorFlow it may not be
    if known and labels.shape[-1:] == logits.shape[-1:] and len(labels.shape) == len(logits.shape):
        if logits.shape[-1] != 1:
            raise ValueError(
                "labels must be class codes, one for each window, got one-hot ones of shape "
                f"{tuple(labels.shape)}: give labels.argmax(-1)"
            )
    return ops.cast(ops.reshape(labels, (-1, *logits.shape[1:-1])), "int32")


def _per_class(value: PerClass, num_classes: int):
    return ops.broadcast_to(ops.convert_to_tensor(value, "float32"), (num_classes,))


def _of_label(hot, value: PerClass):
    return ops.sum(hot * _per_class(value, hot.shape[-1]), axis=-1)  # (batch,)


def _negatives(log_p, log_not_p, gamma: PerClass, margin: float):
    """Returns q_c^gneg_c (-log(1 - q_c)) for every class, (batch, classes)."""
    gamma = _per_class(gamma, log_p.shape[-1])
    if not margin:
        return ops.exp(gamma * log_p) * -log_not_p
    p = ops.exp(log_p)
    # Both branches of `where` get a gradient, so the unused one must stay finite too.
    q = ops.where(p > margin, p - margin, 1.0)
    cost = ops.exp(gamma * ops.log(q)) * -ops.log(ops.exp(log_not_p) + margin)
    return ops.where(p > margin, cost, 0.0)


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class AsymmetricFocalLoss(keras.losses.Loss):
    """The asymmetric focal loss of `asymmetric_focal_loss`, on logits and integer labels.

    Args:
        alpha: weight of each class; one number counts for all classes, here and below.
        gamma: focusing exponent of each class; a larger one down-weights a class.
        smoothing: label smoothing of each class.
        negative_weight: weight of the one-versus-rest negatives; 0 for none.
        negative_gamma: focusing exponent of each class as a negative.
        negative_margin: probability below which a negative costs nothing.
        negative_costs: cost of each wrong class, (classes, classes), row: the label.
        reduction: that of `keras.losses.Loss`.
        name: the loss's name.
        dtype: that of `keras.losses.Loss`.

    Raises:
        ValueError: where a parameter is out of range.

    Examples:
        >>> loss = AsymmetricFocalLoss(alpha=[1.0, 0.5, 1.0], gamma=0.0)
        >>> round(float(loss(np.array([1]), np.zeros((1, 3), "float32"))), 4)  # half of log 3
        0.5493
    """

    def __init__(
        self,
        alpha: PerClass = 1.0,
        gamma: PerClass = 0.0,
        smoothing: PerClass = 0.0,
        negative_weight: float = 0.0,
        negative_gamma: PerClass = 0.0,
        negative_margin: float = 0.0,
        negative_costs: Sequence[Sequence[float]] | None = None,
        reduction: str = "sum_over_batch_size",
        name: str = "asymmetric_focal_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _check("alpha", alpha, 0, None)
        _check("gamma", gamma, 0, None)
        _check("smoothing", smoothing, 0, 1)
        _check("negative_weight", negative_weight, 0, None)
        _check("negative_gamma", negative_gamma, 0, None)
        _check("negative_margin", negative_margin, 0, 1)
        self.parameters = {
            "alpha": plain(alpha),
            "gamma": plain(gamma),
            "smoothing": plain(smoothing),
            "negative_weight": float(negative_weight),
            "negative_gamma": plain(negative_gamma),
            "negative_margin": float(negative_margin),
            "negative_costs": plain(negative_costs),
        }

    def call(self, y_true, y_pred):
        return asymmetric_focal_loss(y_true, y_pred, **self.parameters)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype, **self.parameters}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class MixedLoss(AsymmetricFocalLoss):
    """`ce_weight` * cross-entropy + (1 - `ce_weight`) * asymmetric focal loss, on logits.

    The weight is a `keras.Variable`, so that `loss.ce_weight.assign(0.5)` takes effect in a
    compiled model at the next step; as a Python number it would be frozen when the training step
    is traced. The cross-entropy is Keras's own, without smoothing or class weights: at weight 1
    the two are equal. Because the loss changes its scale during training, no choice may be made
    by it.

    Hard-negative mining makes some windows of a class heavier than others, by what the network
    said of their label: weights of window and label bend the answer, as those of classes do.
    With `hard_classes` the loss corrects for them as one does for a stratified sample (McFadden
    1978; for class weights Menon et al. 2021, arXiv 2007.07314): it adds to each logit the
    logarithm of what the window would weigh if it were of that class, so that the best logits are
    those of the unweighted stream (exactly for cross-entropy, nearly for the focal part). Labels
    are then class codes plus `hard_classes` times a number whose bit k says that the window lies
    in the band of class k, and `hard_offsets`, (2, classes), has the logarithms outside and inside
    of it: 0 at first.

    Args:
        ce_weight: weight of cross-entropy at the start, in [0, 1].
        hard_classes: number of classes, where labels are coded so; 0: they are class codes.
        **kwargs: those of `AsymmetricFocalLoss`.

    Examples:
        >>> loss = MixedLoss(ce_weight=1.0, gamma=[1.0, 2.0, 1.0])
        >>> labels, logits = np.array([0, 2]), np.zeros((2, 3), "float32")
        >>> round(float(loss(labels, logits)), 4)  # log 3
        1.0986
        >>> _ = loss.ce_weight.assign(0.0)  # the focal part alone, from the next step on
        >>> round(float(loss(labels, logits)), 4)  # 2/3 of it, as p = 1/3 and gamma = 1
        0.7324
    """

    def __init__(
        self,
        ce_weight: float = 1.0,
        hard_classes: int = 0,
        name: str = "mixed_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if not 0 <= ce_weight <= 1:
            raise ValueError(f"ce_weight must be in [0, 1], got {ce_weight}")
        self.ce_weight = keras.Variable(
            float(ce_weight), trainable=False, dtype="float32", name="ce_weight"
        )
        self.hard_classes, self.hard_offsets = int(hard_classes), None
        if hard_classes:
            self.hard_offsets = keras.Variable(
                np.zeros((2, hard_classes), np.float32),
                trainable=False,
                dtype="float32",
                name="hard_offsets",
            )

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        if self.hard_offsets is not None:
            codes = _codes(y_true, logits)
            bands, y_true = codes // self.hard_classes, codes % self.hard_classes
            powers = ops.convert_to_tensor(2 ** np.arange(self.hard_classes), "int32")
            inside = ops.expand_dims(bands, -1) // powers % 2 == 1  # (batch, classes)
            logits = logits + ops.where(inside, self.hard_offsets[1], self.hard_offsets[0])
        entropy = keras.losses.sparse_categorical_crossentropy(
            _codes(y_true, logits), logits, from_logits=True
        )
        focal = super().call(y_true, logits)
        return self.ce_weight * entropy + (1 - self.ce_weight) * focal

    @property
    def variables(self) -> list[keras.Variable]:
        """What changes during training; Keras tracks no variables of a loss, checkpoints do."""
        offsets = [] if self.hard_offsets is None else [self.hard_offsets]
        return [self.ce_weight, *offsets]

    def get_config(self):
        """Returns the arguments of the loss, with the weight as it is now."""
        arguments = {"ce_weight": float(self.ce_weight), "hard_classes": self.hard_classes}
        return {**super().get_config(), **arguments}


class CrossEntropyWeight(keras.metrics.Metric):
    """Shows the `ce_weight` of a `MixedLoss`; `compile` must be given both.

    A training step on JAX is a function of the variables that Keras knows of: those of metrics,
    but not those of losses. Without this the weight would be frozen there when the step is traced.

    Args:
        loss: the `MixedLoss`.
        name: as it is in the logs.
    """

    def __init__(self, loss: MixedLoss, name: str = "ce_weight"):
        super().__init__(name=name)
        self.ce_weight, self.hard_offsets = loss.ce_weight, loss.hard_offsets

    def update_state(self, *args, **kwargs):
        """Does nothing: the weight is assigned by whoever plans it."""

    def reset_state(self):
        """Does nothing: a new epoch is no reason to change the weight."""

    def result(self):
        return ops.convert_to_tensor(self.ce_weight)


def _check(name: str, value: PerClass, low: float, high: float | None) -> None:
    for number in value if isinstance(value, Sequence) else [value]:
        if not number >= low or (high is not None and not number < high):
            bound = f">= {low}" if high is None else f"in [{low}, {high})"
            raise ValueError(f"{name} must be {bound}, got {value}")
