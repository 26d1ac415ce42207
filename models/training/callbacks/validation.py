"""Fixed metrics of the validation windows after the epochs."""

from collections.abc import Sequence

import keras
import numpy as np
from sklearn.metrics import f1_score, matthews_corrcoef

from models.probabilities import cross_entropies
from models.training.callbacks.base import StatefulCallback
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights


class ValidationMetrics(StatefulCallback):
    """Adds fixed metrics of the validation windows to the logs, under the averaged weights.

    The training loss changes its scale while cross-entropy gives way to the focal loss, so
    nothing may be chosen by it. They are of the training logits, before any calibration:
    val_mcc, val_macro_f1, val_nll and, for each class, val_rate_CLASS, its share of the
    predictions. The last logits stay in `logits`, float32 (windows, classes).

    Listed after `EMAWeightsCallback`, and before `CollapseAlarm` and `BestWeights`, which read the
    metrics.

    Args:
        sequence: the validation windows in order, a Keras PyDataset.
        labels: class codes of the windows, (windows,).
        class_names: for the logs, in lower case, by class code.
        ema: callback with the averages; None for raw weights.
    """

    def __init__(
        self,
        sequence: keras.utils.PyDataset,
        labels: np.ndarray,
        class_names: Sequence[str],
        ema: EMAWeightsCallback | None = None,
    ):
        super().__init__()
        self.sequence = sequence
        self.labels = np.asarray(labels)
        self.ema = ema
        self.class_names = tuple(class_names)

    def reset(self):
        """Forgets the last logits."""
        self.logits: np.ndarray | None = None

    def on_epoch_end(self, epoch, logs=None):
        """Predicts the validation windows and adds their metrics to the logs."""
        with averaged_weights(self.ema, self.model):
            logits = self.model.predict(self.sequence, verbose=0)
        logs.update(validation_metrics(self.labels, logits, self.class_names))
        self.logits = logits


def validation_metrics(
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
    metrics = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(
            labels, predicted, labels=codes, average="macro", zero_division=0.0
        ),
        "val_nll": cross_entropies(logits, labels).mean(),
    }
    for code, name in enumerate(class_names):
        metrics[f"val_rate_{name}"] = np.mean(predicted == code)
    return {name: float(value) for name, value in metrics.items()}
