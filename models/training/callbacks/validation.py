"""Fixed metrics of the validation windows after the epochs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import softmax
from sklearn.metrics import f1_score, matthews_corrcoef

from core.calls import calls
from models.prediction import Predict, compile_prediction, predict_windows, trace_prediction
from models.probabilities import cross_entropies
from models.training.callbacks.base import StatefulCallback, copy_of
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights


@dataclass(frozen=True)
class ValidationPlan:
    """What is validated after each epoch, and what is concluded from it.

    Attributes:
        windows: to validate, in order: batches, or an array (windows, time, features).
        labels: class codes of these windows, (windows,).
        class_names: for the logs, in lower case, by class code.
        quotas: class distribution of the training batches, (classes,), for the collapse alarm.
        monitor: the metric that chooses the epoch: val_nll, val_mcc or val_macro_f1.
        patience: epochs without a better value before training stops; 0: never.
        window_form: what predicts the windows where sequences are trained; None: the same model.
        restore: from (epoch, training logits) to the logits that are judged, both
            (windows, classes); None: themselves.
        prior: class frequencies over which a call must gain most, (classes,); None: the most
            probable class is called.
        blocks: number of each window's block of time, 0.. without holes, (windows,): where the NLL
            chooses, an earlier epoch must be better than the last beyond a standard error over
            them; None: the best one is taken.
        judge: from the logits that are judged to more figures, by their names in the logs.
    """

    windows: keras.utils.PyDataset | np.ndarray
    labels: np.ndarray
    class_names: Sequence[str]
    quotas: Sequence[float] | np.ndarray
    monitor: str = "val_nll"
    patience: int = 0
    window_form: keras.Model | None = None
    restore: Callable[[int, np.ndarray], np.ndarray] | None = None
    prior: Sequence[float] | np.ndarray | None = None
    blocks: np.ndarray | None = None
    judge: Callable[[np.ndarray], dict[str, float]] | None = None


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
        plan: what is validated.
        ema: callback with the averages; None for raw weights.
        predict: how the windows are predicted.
    """

    def __init__(
        self,
        plan: ValidationPlan,
        ema: EMAWeightsCallback | None = None,
        predict: Predict = predict_windows,
    ):
        super().__init__()
        self.plan, self.ema, self.predict = plan, ema, predict
        self.labels, self.class_names = np.asarray(plan.labels), tuple(plan.class_names)
        self.seconds = 0.0

    def reset(self):
        self.logits: np.ndarray | None = None
        self.losses: np.ndarray | None = None

    def trace(self) -> None:
        trace_prediction(self._predictor, self.plan.windows)

    def compile(self) -> None:
        compile_prediction(self._predictor, self.plan.windows)

    def on_epoch_end(self, epoch, logs=None):
        started, plan = time.perf_counter(), self.plan
        with averaged_weights(self.ema, self.model):
            if plan.window_form is not None:
                take_weights(plan.window_form, self.model)
            self.logits = logits = self.predict(self._predictor, plan.windows)
        if plan.restore is not None:
            logits = plan.restore(epoch, logits)
        logs.update(validation_metrics(self.labels, logits, self.class_names, plan.prior))
        if plan.judge is not None:
            logs.update(plan.judge(logits))
        self.losses = cross_entropies(logits, self.labels)
        self.seconds += time.perf_counter() - started

    def last_losses(self) -> np.ndarray:
        """Returns the NLL of each window in the epoch just validated, (windows,)."""
        if self.losses is None:
            raise ValueError("no epoch was validated yet")
        return self.losses

    @property
    def _predictor(self) -> keras.Model:
        return self.model if self.plan.window_form is None else self.plan.window_form


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
        prior: that of `ValidationPlan`.

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
