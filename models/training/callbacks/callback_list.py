"""The callbacks of a training, complete and in the right order."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field, fields
from pathlib import Path
from typing import Protocol

import keras
import numpy as np

from core.memory import release_memory
from models.prediction import Predict, predict_windows
from models.training.callbacks.base import StatefulCallback
from models.training.callbacks.best_weights import BestWeights
from models.training.callbacks.checkpoint import Checkpointer
from models.training.callbacks.collapse_alarm import CollapseAlarm
from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.epoch_tracker import EpochSchedules, EpochTracker
from models.training.callbacks.mining import HardNegativeMining, MiningPlan
from models.training.callbacks.nan_guard import NonFiniteLoss
from models.training.callbacks.validation import ValidationMetrics, ValidationPlan


class Compiled(Protocol):
    """A callback that has something to compile."""

    def trace(self) -> None:
        """Is called before the training step is traced."""

    def compile(self) -> None:
        """Is called in a thread beside it; changes nothing that training depends on."""


class CompileBeside(keras.callbacks.Callback):
    """Lets other callbacks compile what they will need, in a thread, from the start of a training.

    Tracing a training step and half of its compilation keep one core busy, so what validates and
    mines is compiled on another, and not when the first epoch ends. What is compiled first is
    traced before the training step: two threads that trace wait for each other's Python, and the
    other core has nothing to compile. On TensorFlow alone: on JAX a training step owns the weights
    while it runs.

    Listed before the callbacks that it is for: at the end of the first epoch it waits for the
    thread, `seconds` long.

    Args:
        parts: callbacks, of which None are passed over. An exception in their `compile` is raised
            at the end of the epoch.
    """

    def __init__(self, parts: Sequence[Compiled | None]):
        super().__init__()
        self.parts = [part for part in parts if part is not None]
        self.seconds = 0.0
        self._running: list[Future] = []
        self._has_compiled = False  # in the epoch before

    def on_train_begin(self, logs=None):
        if keras.backend.backend() == "tensorflow":
            for part in self.parts:
                part.trace()
            thread = ThreadPoolExecutor(1)
            self._running = [thread.submit(part.compile) for part in self.parts]
            thread.shutdown(wait=False)

    def on_epoch_end(self, epoch, logs=None):
        started = time.perf_counter()
        for task in self._running:
            task.result()
        self._has_compiled = bool(self._running)
        self._running = []
        self.seconds += time.perf_counter() - started

    def on_epoch_begin(self, epoch, logs=None):
        if self._has_compiled:
            release_memory()  # the compiler's, in the heaps of its threads; a first validation's


@dataclass
class TrainingCallbacks:
    """The parts of a training, in the order that their callbacks must be listed in.

    None stands for a part that is off: `ema` where the optimizer keeps no averages, `mining`
    where there is no plan for it. The names of the fields are those of the states in a checkpoint.

    Attributes:
        checkpoint_folder: where the checkpoints go.
    """

    epochs: EpochTracker
    non_finite: NonFiniteLoss
    ema: EMAWeightsCallback | None
    validation: ValidationMetrics
    alarm: CollapseAlarm
    best: BestWeights
    mining: HardNegativeMining | None
    checkpoint_folder: InitVar[str | Path]
    compiling: CompileBeside = field(init=False)
    checkpointer: Checkpointer = field(init=False)

    def __post_init__(self, checkpoint_folder):
        self.compiling = CompileBeside([self.validation, self.mining])
        self.checkpointer = Checkpointer(checkpoint_folder, self.stateful())

    def ordered(self) -> list[keras.callbacks.Callback]:
        """Returns the callbacks for `fit`."""
        return [self.compiling, *self.stateful().values(), self.checkpointer]

    def stateful(self) -> dict[str, StatefulCallback]:
        """Returns the parts whose state goes into the checkpoints, by the name it has there."""
        parts = {each.name: getattr(self, each.name, None) for each in fields(self)}
        return {name: p for name, p in parts.items() if isinstance(p, StatefulCallback)}


def make_training_callbacks(
    model: keras.Model,
    batches: keras.utils.PyDataset | np.ndarray | None,
    validation: ValidationPlan,
    checkpoint_folder: str | Path,
    *,
    schedules: EpochSchedules | None = None,
    mining: MiningPlan | None = None,
    feature_names: Sequence[str] | None = None,
    describe_batch: Callable[[int, int], str] | None = None,
    note: Callable[[str], None] | None = None,
    predict: Predict = predict_windows,
) -> TrainingCallbacks:
    """Returns the callbacks of a training.

    Args:
        model: compiled. Averaged weights are used where its optimizer keeps them (an
            `AveragedAdam` with a decay above 0).
        batches: the training batches; those of `data.batches` have all that the parts need. An
            array, or None, where `fit` is given arrays: there is no mining then.
        validation: what is validated after each epoch, and concluded from it.
        checkpoint_folder: where one checkpoint for each epoch goes.
        schedules: what changes with the epoch; None: nothing does.
        mining: when and how hard windows are found; None: never.
        feature_names: of the input, (features,), to name one that is not finite.
        describe_batch: from (epoch, batch) to a text that says which windows the batch held.
        note: told about alarms.
        predict: how windows are predicted, on several devices.

    Raises:
        ValueError: where a part lacks what it works on.
    """
    schedules = schedules or EpochSchedules()
    if isinstance(batches, np.ndarray):
        batches = None
    _check(model, schedules)
    if mining and not hasattr(batches, "to_score"):
        raise ValueError("mining needs batches of data.batches, which know their windows")
    ema = EMAWeightsCallback() if _average_decay(model) else None
    metrics = ValidationMetrics(validation, ema, predict)
    by_nll = validation.monitor == "val_nll" and validation.blocks is not None
    scorer = None
    if validation.window_form is not None:
        # XLA would take seconds to compile what scores a few times; this model is not compiled.
        scorer = keras.Model(model.inputs, model.outputs)
    return TrainingCallbacks(
        epochs=EpochTracker(batches, schedules),
        non_finite=NonFiniteLoss(batches, describe_batch, feature_names),
        ema=ema,
        validation=metrics,
        alarm=CollapseAlarm(validation.quotas, metrics, note),
        best=BestWeights(
            validation.monitor,
            ema,
            validation.patience,
            losses=metrics.last_losses if by_nll else None,
            blocks=validation.blocks,
        ),
        mining=HardNegativeMining(batches, ema, mining, scorer, predict) if mining else None,
        checkpoint_folder=checkpoint_folder,
    )


def get_training_callbacks(
    model: keras.Model,
    batches: keras.utils.PyDataset | np.ndarray | None,
    validation: ValidationPlan,
    checkpoint_folder: str | Path,
    **options,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a training in the order they must be listed in.

    The arguments are those of `make_training_callbacks`, which gives the parts by name.

    Examples:
        >>> validation = ValidationPlan(windows, labels, ("sell", "hold", "buy"), quotas)
        >>> callbacks = get_training_callbacks(model, batches, validation, "run")
        >>> model.fit(batches.stream(), epochs=10, shuffle=False, callbacks=callbacks)
    """
    parts = make_training_callbacks(model, batches, validation, checkpoint_folder, **options)
    return parts.ordered()


def _check(model: keras.Model, schedules: EpochSchedules) -> None:
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model must be compiled before its callbacks are made")
    if schedules.ce_weight is not None and not hasattr(model.loss, "ce_weight"):
        raise ValueError(
            f"ce_weight needs a model compiled with a MixedLoss, got {type(model.loss).__name__}"
        )
    if schedules.logit_cap is not None and not any(hasattr(a, "logit_cap") for a in model.layers):
        raise ValueError("logit_cap needs a model with a layer that has a logit_cap, got none")


def _average_decay(model: keras.Model) -> float:
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(optimizer, "average_decay", 0.0)
