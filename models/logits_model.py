"""A model that gives logits, and refuses a loss that takes probabilities."""

import re
from typing import Any

import keras

_OF_PROBABILITIES = (
    *("binary_crossentropy", "binary_focal_crossentropy"),
    *("categorical_crossentropy", "categorical_focal_crossentropy"),
    *("sparse_categorical_crossentropy", "kl_divergence", "kld", "poisson"),
)  # of Keras; as functions and by their names they take probabilities


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
        given = kwargs.get("loss", args[1] if len(args) > 1 else None)
        if _takes_probabilities(given):
            name = given if isinstance(given, str) else getattr(given, "name", None)
            name = name or getattr(given, "__name__", "")
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


def _takes_probabilities(loss: Any) -> bool:
    if isinstance(loss, str):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", loss).lower() in _OF_PROBABILITIES
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") is False
    return loss is not None and any(
        loss is getattr(keras.losses, name, None) for name in _OF_PROBABILITIES
    )
