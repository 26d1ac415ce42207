"""Fixed metrics of the validation windows after the epochs."""

import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
from scipy.special import softmax
from sklearn.metrics import f1_score, matthews_corrcoef

from core.calls import calls
from models.prediction import Predict, compile_prediction, predict_windows, trace_prediction
from models.probabilities import cross_entropies
from models.training.callbacks.base import StatefulCallback, copy_of
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights


class ValidationMetrics(StatefulCallback):
    """Adds fixed metrics of the validation windows to the logs, under the averaged weights.

    The training loss changes its scale while cross-entropy gives way to the focal loss, so
    nothing may be chosen by it. They are val_mcc, val_macro_f1, val_nll and, for each class,
    val_rate_CLASS, its share of the predictions; of the probabilities that would be shipped where
    `restore` is given: the focal loss and balanced batches bend the training's own on purpose, so
    these would speak against every epoch with them. The last training logits stay in `logits`,
    float32 (windows, classes), the NLL of each window in `losses`, float64 (windows,), and
    `seconds` are those of all validations.

    Listed after `EMAWeightsCallback`, and before `CollapseAlarm` and `BestWeights`, which read the
    metrics.

    Args:
        sequence: the validation windows in order, a Keras PyDataset or an array.
        labels: class codes of the windows, (windows,).
        class_names: for the logs, in lower case, by class code.
        ema: callback with the averages; None for raw weights.
        window_form: the model that predicts the windows, where another form of it is trained; it
            takes over the weights. None: the trained model.
        restore: from (epoch, training logits) to the logits that the figures are of, both
            (windows, classes); None: the training logits.
        prior: class frequencies over which a call must gain most, (classes,), see `core.priors`;
            None: the most probable class is called.
        predict: how the windows are predicted.
        judge: from the logits that the figures are of, (windows, classes), to more figures, by
            their names in the logs.
    """

    def __init__(
        self,
        sequence: keras.utils.PyDataset | np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        ema: EMAWeightsCallback | None = None,
        window_form: keras.Model | None = None,
        restore: Callable[[int, np.ndarray], np.ndarray] | None = None,
        prior: Sequence[float] | np.ndarray | None = None,
        predict: Predict = predict_windows,
        judge: Callable[[np.ndarray], dict[str, float]] | None = None,
    ):
        super().__init__()
        self.prior, self.predict, self.judge = prior, predict, judge
        self.sequence, self.window_form, self.restore = sequence, window_form, restore
        self.seconds = 0.0
        self.labels = np.asarray(labels)
        self.ema = ema
        self.class_names = tuple(class_names)

    def reset(self):
        self.logits: np.ndarray | None = None
        self.losses: np.ndarray | None = None

    def trace(self) -> None:
        trace_prediction(self._predictor, self.sequence)

    def compile(self) -> None:
        compile_prediction(self._predictor, self.sequence)

    def on_epoch_end(self, epoch, logs=None):
        started = time.perf_counter()
        with averaged_weights(self.ema, self.model):
            if self.window_form is not None:
                take_weights(self.window_form, self.model)
            self.logits = logits = self.predict(self._predictor, self.sequence)
        if self.restore is not None:
            logits = self.restore(epoch, logits)
        logs.update(validation_metrics(self.labels, logits, self.class_names, self.prior))
        if self.judge is not None:
            logs.update(self.judge(logits))
        self.losses = cross_entropies(logits, self.labels)
        self.seconds += time.perf_counter() - started

    def last_losses(self) -> np.ndarray:
        """Returns the NLL of each window in the epoch just validated, (windows,)."""
        if self.losses is None:
            raise ValueError("no epoch was validated yet")
        return self.losses

    @property
    def _predictor(self) -> keras.Model:
        return self.model if self.window_form is None else self.window_form


def take_weights(model: keras.Model, other: keras.Model) -> None:
    """Gives the model the weights of another form of it."""
    for variable, value in zip(model.weights, other.weights, strict=True):
        variable.assign(copy_of(value))


def validation_metrics(
    labels: np.ndarray,
    logits: np.ndarray,
    class_names: Sequence[str],
    prior: Sequence[float] | np.ndarray | None = None,
) -> dict[str, float]:
    """Returns val_mcc, val_macro_f1, val_nll and val_rate_CLASS of logits (windows, classes).

    Args:
        labels: class codes, (windows,).
        logits: (windows, classes); log-probabilities are logits too.
        class_names: in lower case, by class code.
        prior: that of `ValidationMetrics`.

    Raises:
        ValueError: where labels and logits are not of the same windows.
    """
    if logits.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"validation logits must have shape ({len(labels)}, {len(class_names)}), one row per "
            f"label, got {logits.shape}"
        )
    if prior is None:
        predicted = logits.argmax(axis=-1)
    else:
        predicted = calls(softmax(np.asarray(logits, np.float64), axis=-1), prior)
    codes = np.arange(len(class_names))
    metrics = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(
            labels,
            predicted,
            labels=codes,
            average="macro",
            zero_division=0.0,  # pyright: ignore
        ),
        "val_nll": cross_entropies(logits, labels).mean(),
    }
    for code, name in enumerate(class_names):
        metrics[f"val_rate_{name}"] = np.mean(predicted == code)
    return {name: float(value) for name, value in metrics.items()}
