"""Fixed figures of the validation windows after the epochs."""

from collections.abc import Sequence

import keras
import numpy as np
from sklearn.metrics import f1_score, matthews_corrcoef

from models.probabilities import cross_entropies
from models.training.callbacks.base import StatefulCallback
from models.training.callbacks.ema import EMAWeightsCallback, validation_weights


class ValidationMetrics(StatefulCallback):
    """Adds fixed figures of the validation windows to the logs, under the validation weights.

    The training loss changes its scale while cross-entropy gives way to the focal loss, so
    nothing may be chosen by it. These figures are of the training logits, before any calibration:
    val_mcc, val_macro_f1, val_nll and, for each class, val_rate_CLASS, its share of the
    predictions. The last logits stay in `logits`, float32 (windows, classes).

    Listed after `EMAWeightsCallback`, and before `CollapseAlarm` and `BestWeights`, which read the
    figures.

    Args:
        sequence: the validation windows in order, a Keras PyDataset.
        labels: class codes of the windows, (windows,).
        ema: callback with the averages; None for raw weights.
        every: epochs between two validations; the last epoch always has one.
        class_names: names for the logs, by class code.
    """

    part = "validation"

    def __init__(
        self,
        sequence: keras.utils.PyDataset,
        labels: np.ndarray,
        ema: EMAWeightsCallback | None = None,
        every: int = 1,
        class_names: Sequence[str] = ("sell", "hold", "buy"),
    ):
        super().__init__()
        self.sequence = sequence
        self.labels = np.asarray(labels)
        self.ema = ema
        self.every = every
        self.class_names = tuple(class_names)

    def reset(self):
        """Forgets the last logits."""
        self.logits = None

    def on_epoch_end(self, epoch, logs=None):
        """Predicts the validation windows and adds their figures to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every and not last:
            self.logits = None
            return
        with validation_weights(self.ema, self.model):
            self.logits = self.model.predict(self.sequence, verbose=0)
        logs.update(validation_figures(self.labels, self.logits, self.class_names))


def validation_figures(
    labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]
) -> dict[str, float]:
    """Returns val_mcc, val_macro_f1, val_nll and val_rate_CLASS of logits (windows, classes).

    Raises:
        ValueError: where labels and logits are not of the same windows.
    """
    if logits.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"validation logits must have shape ({len(labels)}, {len(class_names)}), one row per "
            f"label, got {logits.shape}"
        )
    predicted = logits.argmax(axis=-1)
    codes = np.arange(len(class_names))
    figures = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(
            labels, predicted, labels=codes, average="macro", zero_division=0.0
        ),
        "val_nll": cross_entropies(logits, labels).mean(),
    }
    for code, name in enumerate(class_names):
        figures[f"val_rate_{name}"] = np.mean(predicted == code)
    return {name: float(value) for name, value in figures.items()}
