"""The recipe: from one fold of a market to a trained and calibrated model, by the flags."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from config import Flags
from core.i18n import _, date, listed
from data.batches.datasets import WindowBatches
from data.batches.sequences import SequenceBatches
from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior, training_statistics
from data.market.windows import subsample
from evaluation.judge import blocks_of
from models.prediction import predict_windows
from models.training.callbacks.callback_list import (
    TrainingCallbacks,
    ValidationPlan,
    make_training_callbacks,
)
from models.training.callbacks.epoch_tracker import EpochSchedules
from models.training.callbacks.mining import MiningPlan
from models.training.callbacks.step_timer import StepTimer
from models.training.callbacks.validation import take_weights
from models.training.collapse_forecast import forecast_collapse
from models.training.schedules import logit_cap_release
from recipe.devices import processes
from recipe.run.batches import event_bars, hard_share, training_batches
from recipe.run.deploy import calibrate, deploy, window_sequence
from recipe.run.network import ce_weight, make_classifiers
from recipe.run.origin import of_part
from recipe.run.reporter import SILENT

_LEAST_VALIDATED = 2048  # windows, where there are as many


@dataclass
class Assembly:
    """A compiled model with all that its training needs."""

    number: int  # of the fold
    member: int  # of the fold's ensemble
    seed: int
    fold: Fold
    batches: WindowBatches | SequenceBatches
    classifier: keras.Model
    window_form: keras.Model  # of the classifier; itself where windows are trained
    natural_prior: np.ndarray  # class frequencies of the training period
    flags: Flags
    market: Market
    timer: StepTimer = field(init=False)

    def __post_init__(self):
        self.timer = StepTimer(self.batches)

    @property
    def class_prior(self) -> np.ndarray:
        """The class distribution of the training stream, (classes,)."""
        return np.asarray(self.batches.plan.class_prior)

    def forecast(self):
        """Returns the constant that training falls to where there is no signal."""
        flags = self.flags
        return forecast_collapse(
            self.class_prior,
            flags.AFL_ALPHA,
            flags.AFL_GAMMA,
            flags.CLASS_SMOOTHING,
            flags.CE_WEIGHT_END,
        )


@dataclass(frozen=True)
class TrainedMember:
    """A trained classifier, the deployable model of it alone, and what is known of its training."""

    seed: int
    classifier: keras.Model  # that answers for windows
    deployable: keras.Model
    rows: list[dict[str, float]]
    best_epoch: int
    probabilities: dict[str, np.ndarray]
    calibration: dict[str, Any]
    forecast: Any
    alarms: list[dict[str, Any]]
    repeats: dict[str, Any]
    mining: list[dict[str, Any]]
    timing: dict[str, Any]


def assemble(
    flags: Flags,
    market: Market,
    number: int,
    member: int = 0,
    *,
    note: Callable[[str], None] = SILENT.note,
) -> Assembly:
    """Returns the batches and the compiled model of a member of fold `number`.

    No two of a run have the same seed, and in the first fold a member is what a run with its seed
    alone would be.

    Raises:
        InputError: where flags and data do not fit together.
    """
    fold, seed = market.folds[number], flags.SEED + number * flags.ENSEMBLE_SIZE + member
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    own = processes.distribute(flags.SUPERVISED_BATCH_SIZE, note)
    mean, variance = training_statistics(market, fold)
    batches = training_batches(flags, market, fold, seed, mean, variance)
    batches.own = own
    classifier, window_form = make_classifiers(
        flags,
        market,
        plan=batches.plan,
        feature_mean=mean,
        feature_variance=variance,
    )
    prior = training_prior(fold)
    return Assembly(
        number, member, seed, fold, batches, classifier, window_form, prior, flags, market
    )


def train(
    assembly: Assembly,
    folder: Path,
    *,
    resume: bool,
    verbose: int,
    note: Callable[[str], None],
    on_rows: Callable[[list[dict[str, float]]], None],
    made_from: Mapping[str, Any] | None = None,
) -> TrainedMember:
    """Trains, chooses the epoch, calibrates, and predicts validation and test windows.

    Args:
        assembly: fresh from `assemble`.
        folder: where the checkpoints of this training go.
        resume: whether to go on from the newest checkpoint in it.
        verbose: that of Keras's `fit`.
        note: told about alarms, and checkpoints that are passed over.
        on_rows: given all rows of the history after each epoch.
        made_from: the origin of the run, for the checkpoints.
    """
    flags, classifier = assembly.flags, assembly.classifier
    parts = _callbacks(assembly, folder, note)
    best, checkpointer = parts.best, parts.checkpointer
    checkpointer.saves = processes.is_first()
    checkpointer.origin = of_part(dict(made_from or {}), assembly.number, assembly.member)
    start = checkpointer.restore(classifier, note) if resume else 0
    processes.agree(_("checkpoint, on a disk that all share"), str(start))
    keep_history = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: on_rows(checkpointer.rows)
    )
    if start < flags.SUPERVISED_EPOCHS and not best.exhausted:
        classifier.fit(
            assembly.batches.stream(),
            epochs=flags.SUPERVISED_EPOCHS,
            initial_epoch=start,
            shuffle=False,  # the plan has shuffled
            verbose=verbose,
            callbacks=[assembly.timer, *parts.ordered(), keep_history],
        )
    on_rows(checkpointer.rows)
    best_epoch = best.restore(classifier)
    if assembly.window_form is not classifier:
        take_weights(assembly.window_form, classifier)
    deployable, calibration = deploy(assembly, ce_weight=ce_weight(flags)(best_epoch))
    return TrainedMember(
        seed=assembly.seed,
        classifier=assembly.window_form,
        deployable=deployable,
        rows=checkpointer.rows,
        best_epoch=best_epoch,
        probabilities=predict_splits(deployable, assembly.market, assembly.fold),
        calibration=calibration,
        forecast=assembly.forecast(),
        alarms=parts.alarm.alarms,
        repeats=_repeats(assembly),
        mining=parts.mining.refreshes if parts.mining else [],
        timing={
            "epochs": assembly.timer.epochs,
            "labels": assembly.batches.labels_per_epoch,
            "compilation_seconds": assembly.timer.compilation,
            "validation_seconds": parts.validation.seconds + parts.compiling.seconds,
            "mining_seconds": parts.mining.seconds if parts.mining else 0.0,
        },
    )


def predict_splits(model: keras.Model, market: Market, fold: Fold) -> dict[str, np.ndarray]:
    """Returns the probabilities of the validation and the test windows, (windows, classes) each."""
    return {
        name: predict_windows(model, window_sequence(market, ends))
        for name, ends in [("validation", fold.validation), ("test", fold.test)]
    }


def _callbacks(assembly: Assembly, folder: Path, note: Callable[[str], None]) -> TrainingCallbacks:
    flags, market, fold = assembly.flags, assembly.market, assembly.fold
    few = fold.validation[subsample(len(fold.validation), _most_validated(assembly))]

    def restore(epoch: int, logits: np.ndarray) -> np.ndarray:
        return calibrate(assembly, logits, few, ce_weight=ce_weight(flags)(epoch))[1]

    mining = None
    if flags.USE_HARD_NEGATIVE_MINING:
        mining = MiningPlan(
            start_epoch=flags.HNM_START_EPOCH,
            update_period=flags.HNM_UPDATE_PERIOD,
            top_k_fraction=flags.HNM_TOP_K_FRACTION,
            trim_fraction=flags.HNM_TRIM_FRACTION,
            max_scored=flags.HNM_MAX_SCORED,
            spacing=event_bars(flags),
            seed=flags.SEED + assembly.member,
        )
    cap = None
    if flags.LOGIT_CLIP:
        cap = functools.partial(
            logit_cap_release, cap=flags.LOGIT_CLIP, release_epoch=flags.LOGIT_CLIP_RELEASE_EPOCH
        )
    validation = ValidationPlan(
        windows=window_sequence(market, few),
        labels=fold.labels[few],
        class_names=[name.lower() for name in CLASS_NAMES],
        quotas=assembly.class_prior,
        window_form=assembly.window_form
        if assembly.window_form is not assembly.classifier
        else None,
        restore=restore,
        prior=assembly.natural_prior,
        blocks=blocks_of(market, few),
        monitor=flags.CHECKPOINT_METRIC,
        patience=flags.EARLY_STOPPING_EPOCHS,
    )
    parts = make_training_callbacks(
        assembly.classifier,
        assembly.batches,
        validation,
        folder,
        schedules=EpochSchedules(ce_weight(flags), cap, hard_share(flags)),
        mining=mining,
        feature_names=market.feature_names,
        describe_batch=lambda epoch, index: _describe(assembly, epoch, index),
        note=note,
    )
    return parts


def _most_validated(assembly: Assembly) -> int:
    """Returns how many windows are validated after an epoch at the most; 0: all.

    As many as the flag says, and no more than cost as much as a pass: a bar costs a training step
    about twice what it costs a prediction.
    """
    flags = assembly.flags
    most = flags.VALIDATION_MAX_WINDOWS
    affordable = 2 * assembly.batches.bars_per_epoch // flags.SEQUENCE_LENGTH
    return most and min(most, max(affordable, _LEAST_VALIDATED))


def _describe(assembly: Assembly, epoch: int, index: int) -> str:
    """Says which symbols and times a training batch shows."""
    market, rows = assembly.market, np.asarray(assembly.batches.describe(epoch, index))
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


def _repeats(assembly: Assembly) -> dict[str, Any]:
    """Returns how often the last epoch drew a window, with the symbols' names."""
    repeats = assembly.batches.plan.effective_repeats(assembly.flags.SUPERVISED_EPOCHS - 1)
    names = assembly.market.symbol_names
    symbols = {names[int(code)]: values for code, values in repeats["symbols"].items()}
    return repeats | {"symbols": symbols}
