"""One training made ready: the batches of a fold and the compiled model, by the settings."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from data.batches.datasets import WindowBatches
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.batches.training_batches import training_batches
from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior
from data.market.training_rows import deviation_statistics, training_statistics
from evaluation.baselines.fitted import Fitted
from models.prediction import Predict, predict_windows
from models.restoration import Restoration
from models.training.callbacks.mining import MiningPlan
from models.training.callbacks.step_timer import StepTimer
from models.training.collapse_forecast import Forecast, forecast_collapse
from models.training.losses import CrossEntropyWeight
from recipe.devices import processes
from recipe.run.reporter import SILENT
from recipe.run.settings import RunSettings
from recipe.run.warm import Start


@dataclass(frozen=True)
class ChosenBlend:
    """What validation chose for a blend.

    Attributes:
        fits: the baselines in it, by name; their strength, rounds and temperature hold.
        weights: of the members by name.
        temperature: of their mean; None where there is none.
    """

    fits: Mapping[str, Fitted]
    weights: Mapping[str, float]
    temperature: float | None


@dataclass(frozen=True)
class Chosen:
    """What validation chose in a training before, for one that has no bars to choose by.

    Attributes:
        epochs: the epoch of each member, counted from 0.
        temperature: of the network's restoration; None where there is none.
        blend: of the network and baselines; None: there is none.
    """

    epochs: tuple[int, ...]
    temperature: float | None
    blend: ChosenBlend | None = None


@dataclass
class Training:
    """A member of a fold, ready to be trained.

    Attributes:
        settings: of the run.
        market: that the fold is of.
        number: of the fold.
        member: of the fold's ensemble.
        batches: that it is trained on.
        classifier: compiled.
        window_form: the classifier as it answers for windows; itself where windows are trained.
        restoration: from its logits to probabilities.
        predict: how it predicts windows.
        start: the weights that it starts at; None: at random ones.
        chosen: what it need not choose; None: all is chosen by validation.
        timer: of its steps.
    """

    settings: RunSettings
    market: Market
    number: int
    member: int
    batches: WindowBatches | SequenceBatches
    classifier: keras.Model
    window_form: keras.Model
    restoration: Restoration
    predict: Predict
    start: Start | None = None
    chosen: Chosen | None = None
    timer: StepTimer = field(init=False)

    def __post_init__(self):
        self.timer = StepTimer(self.batches)

    @property
    def fold(self) -> Fold:
        """The fold that is trained on."""
        return self.market.folds[self.number]

    @property
    def seed(self) -> int:
        """The seed of this training."""
        return self.settings.seed_of(self.number, self.member)

    @property
    def epochs(self) -> int:
        """How many epochs are trained, of a schedule that may be longer."""
        if self.chosen is None:
            return self.settings.training.epochs
        return 1 + self.chosen.epochs[self.member]

    @property
    def mining(self) -> MiningPlan | None:
        """When and how this training mines hard windows; the folds of a member mine alike."""
        plan = self.settings.mining
        return plan and dataclasses.replace(plan, seed=self.settings.seed + self.member)

    def forecast(self) -> Forecast:
        """Returns the constant that training falls to where there is no signal."""
        loss = self.settings.training.loss
        prior = self.restoration.training_prior
        return forecast_collapse(prior, loss.alpha, loss.gamma, loss.smoothing, loss.ce_end)


def assemble(
    settings: RunSettings,
    market: Market,
    number: int,
    member: int = 0,
    *,
    start: Start | None = None,
    chosen: Chosen | None = None,
    note: Callable[[str], None] = SILENT.note,
) -> Training:
    """Returns a member of fold `number` with its batches and its compiled model.

    Where it has weights to start at, it is made by the settings for that.

    Raises:
        InputError: where settings and data do not fit together.
    """
    if start is not None:
        settings = settings.warm or settings
    fold, seed = market.folds[number], settings.seed_of(number, member)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    devices = processes.distribute(settings.batches.batch_size, note)
    mean, variance = training_statistics(market, fold)
    batches = training_batches(settings.batches, market, fold, seed, mean, variance)
    batches.rows = devices.rows
    if settings.network.deviation_bars:
        mean, variance = deviation_statistics(market, fold)
    classifier, window_form = _classifiers(
        settings, market, batches.plan, feature_mean=mean, feature_variance=variance
    )
    if start is not None:
        start.give(classifier, member)
    loss = settings.training.loss
    return Training(
        settings=settings,
        market=market,
        number=number,
        member=member,
        batches=batches,
        classifier=classifier,
        window_form=window_form,
        restoration=Restoration(
            settings.restoration,
            loss.focal,
            loss.ce_weight,
            training_prior=np.asarray(batches.plan.class_prior),
            deploy_prior=batches.plan.natural_prior,
            natural_prior=training_prior(fold),
            known_temperature=chosen and chosen.temperature,
        ),
        predict=functools.partial(predict_windows, by=devices.predict),
        start=start,
        chosen=chosen,
    )


def _classifiers(
    settings: RunSettings, market: Market, plan: Any, **statistics: np.ndarray
) -> tuple[keras.Model, keras.Model]:
    """Returns the compiled classifier, and the form of it that answers for windows.

    The two are one model unless sequences with many labels are trained.
    """
    training = settings.training
    build = functools.partial(
        settings.network.build,
        num_features=len(market.feature_names),
        class_prior=plan.class_prior,
        **statistics,
    )
    if isinstance(plan, SequencePlan):
        num_labels = plan.runs.labels_per_sequence
        classifier = build(plan.runs.num_bars, labels_per_sequence=num_labels)
        window_form = build(market.sequence_length)
        window_form.jit_compile = training.jit_compile
    else:
        classifier = window_form = build(market.sequence_length)
    loss = training.loss.build(len(CLASS_NAMES) if settings.mining else 0)
    classifier.compile(
        optimizer=training.optimizer.build(training.epochs, plan.num_batches),
        loss=loss,
        metrics=[CrossEntropyWeight(loss)],
        jit_compile=training.jit_compile,  # pyright: ignore[reportArgumentType]  # Keras says str
    )
    # TensorFlow traces a step twice that makes variables when it is first called.
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier, window_form
