"""The classifier builder, and the public names that notebooks import.

"rl" is a name kept from the project's plan; there is no reinforcement learning here. The flags
speak of supervised epochs and batches for the same reason.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, regularizers

from models.deployable import load_classifier
from models.layers.dropout import SequenceDropout
from models.layers.head import CappedDense, PriorBias
from models.layers.mlstm_block import MLSTMBlock
from models.layers.rolling_deviation import RollingDeviation
from models.layers.slstm_block import SLSTMBlock
from models.training.callbacks.callback_list import ValidationPlan, get_training_callbacks
from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.epoch_tracker import EpochSchedules, EpochTracker
from models.training.callbacks.mining import MiningPlan
from models.training.losses import AsymmetricFocalLoss, MixedLoss
from models.training.optimizers import AveragedAdam
from models.training.schedules import WarmUpCosineDecayScheduler

__all__ = [
    "AsymmetricFocalLoss",
    "AveragedAdam",
    "EMAWeightsCallback",
    "EpochSchedules",
    "EpochTracker",
    "MLSTMBlock",
    "MiningPlan",
    "MixedLoss",
    "NetworkSettings",
    "SLSTMBlock",
    "ValidationPlan",
    "WarmUpCosineDecayScheduler",
    "build_xlstm_classifier",
    "get_training_callbacks",
    "load_classifier",
]

_OF_PROBABILITIES = (
    *("binary_crossentropy", "binary_focal_crossentropy"),
    *("categorical_crossentropy", "categorical_focal_crossentropy"),
    *("sparse_categorical_crossentropy", "kl_divergence", "kld", "poisson"),
)  # of Keras; as functions and by their names they take probabilities


@dataclass(frozen=True)
class NetworkSettings:
    """What `build_xlstm_classifier` builds, but for what the data say.

    Attributes:
        prior_bias: whether the head starts at the class prior of the training stream.
        units: as `build_xlstm_classifier` takes it, like all that follow.
    """

    prior_bias: bool = True
    units: int = 64
    blocks: str = "ms"
    num_heads: int = 4
    dropout_rnn1: float = 0.0
    dropout_rnn2: float = 0.0
    recurrent_dropout: float = 0.0
    weight_decay_l2: float = 0.0
    gate_soft_cap: float = 0.0
    logit_clip: float = 0.0
    deviation_bars: int = 0

    def build(
        self, sequence_length: int, num_features: int, *, class_prior: np.ndarray, **data: Any
    ) -> keras.Model:
        """Returns the uncompiled model; `data` are further arguments of the builder."""
        options = asdict(self)
        prior = class_prior if options.pop("prior_bias") else None
        return build_xlstm_classifier(
            sequence_length, num_features, class_prior=prior, **options, **data
        )


def build_xlstm_classifier(
    sequence_length: int,
    num_features: int,
    *,
    num_classes: int = 3,
    labels_per_sequence: int = 1,
    units: int = 64,
    blocks: str = "ms",
    num_heads: int = 4,
    class_prior: Sequence[float] | np.ndarray | None = None,
    dropout_rnn1: float = 0.0,
    dropout_rnn2: float = 0.0,
    recurrent_dropout: float = 0.0,
    weight_decay_l2: float = 0.0,
    gate_soft_cap: float = 0.0,
    logit_clip: float = 0.0,
    deviation_bars: int = 0,
    feature_mean: Sequence[float] | np.ndarray | None = None,
    feature_variance: Sequence[float] | np.ndarray | None = None,
    name: str = "xlstm_classifier",
) -> keras.Model:
    """Returns an uncompiled model from windows (batch, time, features) to logits (batch, classes).

    Logits, not probabilities: `keras.ops.softmax` makes those, and a loss must take logits, as
    `MixedLoss` does; labels are class codes. Scaling, a linear embedding, xLSTM blocks (Beck et al.
    2024, arXiv 2405.04517), of the last of them the last time step, a norm, and the head
    `classifier`. Every neutral default leaves its part out.

    With `labels_per_sequence` K above 1 it is the training form: logits (batch, K, classes) of the
    last K steps of a longer sequence. Both forms have the same weights in the same order and under
    the same names, so `form.set_weights(other.get_weights())` takes over what the other learnt.

    Args:
        sequence_length: bars of the input (time): of a window, or of a sequence of the training
            form.
        num_features: features of a bar.
        num_classes: classes of the target.
        labels_per_sequence: last steps that are classified; 1: the window form.
        units: width of the residual stream; a multiple of `num_heads`.
        blocks: one letter for each block, first to last: m for mLSTM, s for sLSTM.
        num_heads: heads of every block.
        class_prior: class distribution of the training stream, any positive scale. The untrained
            model then outputs exactly this distribution: the head's bias is its logarithm (Lin et
            al. 2017, section 3.3) and its kernel starts at 0. None: Keras's default start.
        dropout_rnn1: dropout rate after the first block; one mask for each sequence.
        dropout_rnn2: dropout rate after each later block, likewise.
        recurrent_dropout: rate inside the blocks, one mask for each sequence (Gal and Ghahramani
            2016).
        weight_decay_l2: L2 factor on kernels; biases, norms and gate biases are exempt.
        gate_soft_cap: soft cap of the gate pre-activations; 0: none.
        logit_clip: soft cap of the logits at the start of training; 0: a plain dense head.
        deviation_bars: each bar is read with the standard deviations of so many bars up to it, see
            `models.layers.rolling_deviation.RollingDeviation`; 0: alone.
        feature_mean: mean of each feature over the training rows, (features,); with
            `deviation_bars` then of each deviation, (2 * features,).
        feature_variance: variance of each, likewise. Without the two the layer `scaling` passes
            its input on until it is adapted.
        name: the model's name.

    Raises:
        ValueError: where an argument is out of range, with the argument's name and value.

    Examples:
        >>> model = build_xlstm_classifier(
        ...     32, 10, units=16, num_heads=2, class_prior=[0.3, 0.4, 0.3]
        ... )
        >>> logits = model(np.zeros((2, 32, 10), "float32"))  # (2, 3)
        >>> print(np.round(keras.ops.softmax(logits)[0], 3))  # untrained, it says the prior
        [0.3 0.4 0.3]
        >>> model.compile("adam", MixedLoss())
    """
    _check(sequence_length, num_features, units, num_heads, blocks, labels_per_sequence)
    whole = not isinstance(deviation_bars, bool) and int(deviation_bars) == deviation_bars
    if not whole or not 0 <= deviation_bars <= sequence_length:
        raise ValueError(
            f"deviation_bars must be a whole number from 0 to the {sequence_length} bars of the "
            f"input, got {deviation_bars!r}"
        )
    inputs = keras.Input((sequence_length, num_features), name="window")
    x: Any = inputs
    if deviation_bars:
        x = RollingDeviation(deviation_bars, name="rolling_deviation")(x)
    x = _scaling(feature_mean, feature_variance, x.shape[-1])(x)
    l2 = regularizers.L2(weight_decay_l2) if weight_decay_l2 else None
    x = layers.Dense(units, kernel_regularizer=l2, name="embedding")(x)  # (batch, time, units)
    shared = {
        "num_heads": num_heads,
        "recurrent_dropout": recurrent_dropout,
        "gate_soft_cap": gate_soft_cap or None,
        "num_blocks": len(blocks),
    }
    for index, kind in enumerate(blocks):
        regularizer = regularizers.L2(weight_decay_l2) if weight_decay_l2 else None
        # The last block gives the step to classify alone.
        last = index == len(blocks) - 1 and labels_per_sequence == 1
        block = _block(
            kind, index, kernel_regularizer=regularizer, return_sequences=not last, **shared
        )
        x = block(x)  # (batch, time, units); of the last block (batch, units)
        rate = dropout_rnn1 if index == 0 else dropout_rnn2
        if rate:
            # One mask for each sequence (Gal and Ghahramani 2016): XLA draws random numbers slowly
            # on a CPU, and a mask for each time step took two thirds of the training step.
            mask = (None, units) if last else (None, 1, units)
            x = SequenceDropout(rate, noise_shape=mask, name=f"dropout_{index}")(x)
    if labels_per_sequence > 1:
        early_steps = sequence_length - labels_per_sequence
        x = layers.Cropping1D((early_steps, 0), name="labelled_steps")(x)  # (batch, K, units)
    x = layers.LayerNormalization(epsilon=1e-5, center=False, name="post_norm")(x)
    logits = _head(num_classes, class_prior, logit_clip, weight_decay_l2)(x)
    return LogitsModel(inputs, logits, name=name)


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class LogitsModel(keras.Model):
    """A `keras.Model` whose outputs are logits; `compile` says so where a loss takes others.

    A cross-entropy that takes probabilities clips logits to 0 and 1: it trains, and learns nothing
    that is wanted. A loss of one's own is not looked into.
    """

    def compile(self, *args, **kwargs):
        """Compiles, as `keras.Model.compile` does.

        Raises:
            ValueError: where the loss is one of Keras's for probabilities.
        """
        loss = kwargs.get("loss", args[1] if len(args) > 1 else None)
        if _takes_probabilities(loss):
            name = loss if isinstance(loss, str) else getattr(loss, "name", None)
            name = name or getattr(loss, "__name__", "")
            raise ValueError(
                f"the model gives logits, and the loss {name} takes probabilities: use MixedLoss, "
                "or keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
            )
        super().compile(*args, **kwargs)

    def compile_from_config(self, config):
        """Compiles as it was when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and getattr(self, "optimizer", None) is not None:
            self.optimizer.build(self.trainable_variables)


def _check(sequence_length, num_features, units, num_heads, blocks, labels_per_sequence) -> None:
    for name, value in [
        ("sequence_length", sequence_length),
        ("num_features", num_features),
        ("units", units),
        ("num_heads", num_heads),
        ("labels_per_sequence", labels_per_sequence),
    ]:
        if int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    if labels_per_sequence > sequence_length:
        raise ValueError(
            f"labels_per_sequence must be at most the {sequence_length} bars of a sequence, got "
            f"{labels_per_sequence}"
        )
    if units % num_heads:
        raise ValueError(
            f"units must be a multiple of num_heads, got units = {units}, num_heads = {num_heads}"
        )
    if not blocks or set(blocks) - {"m", "s"}:
        raise ValueError(f"blocks must be letters m and s, such as 'ms', got {blocks!r}")


def _scaling(mean, variance, num_features: int) -> layers.Layer:
    if (mean is None) != (variance is None):
        raise ValueError("feature_mean and feature_variance must be given together")
    if mean is None:
        return layers.Normalization(axis=-1, name="scaling")
    for name, values in [("feature_mean", mean), ("feature_variance", variance)]:
        if np.shape(values) != (num_features,):
            raise ValueError(f"{name} must have shape ({num_features},), got {np.shape(values)}")
    return layers.Normalization(
        axis=-1,
        mean=np.asarray(mean, "float32"),
        variance=np.asarray(variance, "float32"),
        name="scaling",
    )


def _block(kind: str, index: int, **kwargs) -> layers.Layer:
    if kind == "s":
        return SLSTMBlock(block_index=index, name=f"slstm_{index}", **kwargs)
    return MLSTMBlock(name=f"mlstm_{index}", **kwargs)


def _head(num_classes, class_prior, logit_clip, weight_decay_l2) -> layers.Layer:
    arguments: dict[str, Any] = {"name": "classifier", "dtype": "float32"}
    if weight_decay_l2:
        arguments["kernel_regularizer"] = regularizers.L2(weight_decay_l2)
    if class_prior is not None:
        prior = np.asarray(class_prior, "float64")
        if prior.shape != (num_classes,) or not np.all(prior > 0):
            raise ValueError(
                f"class_prior must hold {num_classes} positive numbers, got {class_prior}"
            )
        arguments["kernel_initializer"] = "zeros"
        arguments["bias_initializer"] = PriorBias((prior / prior.sum()).tolist())
    if logit_clip:
        return CappedDense(num_classes, logit_cap=logit_clip, **arguments)
    return layers.Dense(num_classes, **arguments)


def _takes_probabilities(loss: Any) -> bool:
    if isinstance(loss, str):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", loss).lower() in _OF_PROBABILITIES
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") is False
    return loss is not None and any(
        loss is getattr(keras.losses, name, None) for name in _OF_PROBABILITIES
    )
