"""The recipe: from a training that is ready to a trained and calibrated member of a fold."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from core.i18n import _, date, listed
from data.market.labels import CLASS_NAMES
from data.market.windows import subsample
from evaluation.answers import answers, directions
from evaluation.judge import blocks_of
from evaluation.metrics import mcc
from models.training.callbacks.callback_list import (
    TrainingCallbacks,
    ValidationPlan,
    make_training_callbacks,
)
from models.training.callbacks.epoch_tracker import EpochSchedules
from models.training.callbacks.validation import take_weights
from models.training.collapse_forecast import Forecast
from recipe.devices import processes
from recipe.run.deploy import Deployed, deploy, window_sequence
from recipe.run.origin import of_part
from recipe.run.reporter import SILENT, Reporter
from recipe.run.training import Training

_LEAST_VALIDATED = 2048  # windows, where there are as many


@dataclass(frozen=True)
class Record:
    """What metrics.json says of a training.

    Attributes:
        forecast: the constant output that it would end at without a signal.
        alarms: of a collapse, at most one per epoch.
        repeats: how often the last epoch drew each window.
        mining: one entry per refresh of the hard windows.
        timing: where the seconds went.
    """

    forecast: Forecast
    alarms: list[dict[str, Any]]
    repeats: dict[str, Any]
    mining: list[dict[str, Any]]
    timing: dict[str, Any]


@dataclass(frozen=True)
class TrainedMember:
    """A trained classifier of a fold.

    Attributes:
        seed: of its training.
        classifier: from windows to logits.
        alone: the deployable model made from it alone.
        rows: of its history.
        best_epoch: the chosen epoch.
        record: of its training.
    """

    seed: int
    classifier: keras.Model
    alone: Deployed
    rows: list[dict[str, float]]
    best_epoch: int
    record: Record


def train(
    training: Training,
    folder: Path,
    *,
    resume: bool,
    note: Callable[[str], None],
    on_rows: Callable[[list[dict[str, float]]], None],
    made_from: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
) -> TrainedMember:
    """Trains, chooses the epoch, calibrates, and predicts validation and test windows.

    A training whose choices were made before ends with the chosen epoch.

    Args:
        training: fresh from `recipe.run.training.assemble`.
        folder: where the checkpoints of this training go.
        resume: whether to go on from the newest checkpoint in it.
        note: called with alarms, and with checkpoints that are skipped.
        on_rows: called with all rows of the history after each epoch.
        made_from: the origin of the run, for the checkpoints.
        reporter: shows the progress.
    """
    classifier, epochs = training.classifier, training.epochs
    parts = _callbacks(training, folder, note)
    best, checkpointer = parts.best, parts.checkpointer
    checkpointer.saves = processes.is_first()
    checkpointer.origin = of_part(dict(made_from or {}), training.number, training.member)
    start = checkpointer.restore(classifier, note) if resume else 0
    processes.agree(_("checkpoint, on a disk that all share"), str(start))
    keep_history = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: on_rows(checkpointer.rows)
    )
    if start < epochs and not best.exhausted:
        if training.settings.training.jit_compile:
            reporter.log(_("compiling"), _("the training step, about 10 s"))
        with _Epochs(reporter, training) as progress:
            classifier.fit(
                training.batches.stream(),
                epochs=epochs,
                initial_epoch=start,
                shuffle=False,  # the plan has shuffled
                verbose=0,  # pyright: ignore[reportArgumentType]  # Keras says str
                callbacks=[training.timer, *parts.ordered(), keep_history, progress],
            )
    on_rows(checkpointer.rows)
    best_epoch = best.restore(classifier, last=training.chosen is not None)
    if training.window_form is not classifier:
        take_weights(training.window_form, classifier)
    return TrainedMember(
        seed=training.seed,
        classifier=training.window_form,
        alone=deploy(training, best_epoch),
        rows=checkpointer.rows,
        best_epoch=best_epoch,
        record=Record(
            forecast=training.forecast(),
            alarms=parts.alarm.alarms,
            repeats=_repeats(training),
            mining=parts.mining.refreshes if parts.mining else [],
            timing={
                "epochs": training.timer.epochs,
                "labels": training.batches.labels_per_epoch,
                "compilation_seconds": training.timer.compilation,
                "validation_seconds": parts.validation.seconds + parts.compiling.seconds,
                "mining_seconds": parts.mining.seconds if parts.mining else 0.0,
            },
        ),
    )


class _Epochs(keras.callbacks.Callback):
    """Reports the progress of an epoch, and its figures at the end; comes last in the list."""

    def __init__(self, reporter: Reporter, training: Training):
        super().__init__()
        self.reporter, self.training = reporter, training
        self._bar = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        self._bar.close()

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.perf_counter()
        self._done = self._bar.enter_context(self.reporter.bar())

    def on_train_batch_end(self, batch, logs=None):
        self._done((batch + 1) / self.training.batches.plan.num_batches)

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        shown, seconds = dict(logs or {}), time.perf_counter() - self._begun
        if self.training.chosen:  # its validation windows are training windows
            shown = {name: value for name, value in shown.items() if name[:4] != "val_"}
        self.reporter.epoch(epoch, self.training.epochs, shown, seconds)


def _callbacks(training: Training, folder: Path, note: Callable[[str], None]) -> TrainingCallbacks:
    settings, market, fold = training.settings, training.market, training.fold
    few = fold.validation[subsample(len(fold.validation), _most_validated(training))]
    labels, blocks = fold.labels[few], blocks_of(market, few)
    itself = training.window_form is training.classifier
    validation = ValidationPlan(
        windows=window_sequence(market, few),
        labels=labels,
        class_names=[name.lower() for name in CLASS_NAMES],
        quotas=training.restoration.training_prior,
        window_form=None if itself else training.window_form,
        restore=lambda epoch, logits: training.restoration.fitted(epoch, logits, labels, blocks)[1],
        prior=training.restoration.natural_prior,
        blocks=blocks,
        judge=lambda logits: {"val_direction": _direction(training, logits, labels)},
        monitor=settings.training.monitor,
        patience=settings.training.patience,
    )
    schedules = EpochSchedules(
        ce_weight=settings.training.loss.ce_weight,
        logit_cap=settings.training.cap if settings.training.logit_cap else None,
        hard_share=settings.batches.hard_share,
    )
    return make_training_callbacks(
        training.classifier,
        training.batches,
        validation,
        folder,
        schedules=schedules,
        mining=training.mining,
        feature_names=market.feature_names,
        describe_batch=lambda epoch, index: _describe(training, epoch, index),
        note=note,
        predict=training.predict,
    )


def _direction(training: Training, logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the skill in direction of logits (windows, classes)."""
    judged = answers(softmax(np.float64(logits), axis=-1), training.restoration.natural_prior)
    return float(mcc(directions(np.zeros(len(labels), int), labels, judged.sides)[0]))


def _most_validated(training: Training) -> int:
    """Returns the most windows to validate after an epoch; 0 for all.

    As many as the setting says, but no more than cost as much as a training pass: a bar takes about
    twice as long in a training step as in a prediction.
    """
    most = training.settings.max_validated
    affordable = 2 * training.batches.bars_per_epoch // training.market.sequence_length
    return most and min(most, max(affordable, _LEAST_VALIDATED))


def _describe(training: Training, epoch: int, index: int) -> str:
    """Returns which symbols and times a training batch shows."""
    market, rows = training.market, np.asarray(training.batches.describe(epoch, index))
    parts = []
    for code in np.unique(market.symbols[rows]):
        times = market.timestamps[rows[market.symbols[rows] == code]]
        first, last = str(times.min())[:16], str(times.max())[:16]
        parts.append(
            _(
                "{symbol} {first} to {last}",
                symbol=market.symbol_names[code],
                first=date(first),
                last=date(last),
            )
        )
    return _("windows of {places}", places=listed(parts))


def _repeats(training: Training) -> dict[str, Any]:
    """Returns how often the last epoch drew a window, with the symbols' names."""
    last = training.epochs - 1
    repeats = training.batches.plan.effective_repeats(last)
    names = training.market.symbol_names
    symbols = {names[int(code)]: values for code, values in repeats["symbols"].items()}
    return repeats | {"symbols": symbols}
