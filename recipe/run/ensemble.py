"""The model of a fold: one trained member, or the mean of several with different seeds.

Also the refit of the shipped model: on all bars up to the end, with what validation chose.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.market.market import Fold, Market
from data.market.windows import ends_within, spans, subsample
from evaluation.baselines.fold import Learner, fit_learners
from evaluation.figures.run import Importance, Metrics, Refit
from evaluation.judge import Judged
from recipe.devices import processes
from recipe.run.deploy import Deployed, deploy_blend, deploy_mean
from recipe.run.fold import TrainedMember, train
from recipe.run.reporter import SILENT, Reporter
from recipe.run.settings import RunSettings
from recipe.run.training import Chosen, ChosenBlend, Training, assemble
from recipe.run.warm import Start, start_at

_WATCHED = 2048  # windows checked for a collapse after each epoch of a refit
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Blend:
    """What the model of a fold was blended from.

    Attributes:
        network: the model by itself, with its probabilities.
        learners: all fitted baselines, by name.
        weights: of the members by name; "network" comes first.
        seconds: spent waiting for the fits, and finding the weights.
    """

    network: Deployed
    learners: dict[str, Learner]
    weights: dict[str, float]
    seconds: float = 0.0

    @property
    def probabilities(self) -> dict[str, dict[str, np.ndarray]]:
        """The probabilities of each member by name, (windows, classes) by split."""
        others = {
            name: self.learners[name].probabilities for name in self.weights if name != "network"
        }
        return {"network": self.network.probabilities, **others}


@dataclass(frozen=True)
class FoldResult:
    """The results of a fold.

    Attributes:
        fold: the one trained on.
        deployed: its model, with its probabilities.
        members: of the network.
        importance: of its features; None for a brief run.
        baselines: from `evaluation.baselines.fold.baseline_probabilities`.
        blend: what the model is blended from; None if it is the network alone.
    """

    fold: Fold
    deployed: Deployed
    members: list[TrainedMember]
    importance: Importance | None = None
    baselines: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    blend: Blend | None = None

    @property
    def judged(self) -> Judged:
        """The fold with the probabilities of the model and of the baselines."""
        return Judged(self.fold, self.deployed.probabilities, self.baselines)


def train_fold(
    first: Training,
    folder: Path,
    *,
    resume: bool,
    note: Callable[[str], None],
    on_member: Callable[[Training], None],
    on_rows: Callable[[Rows], None],
    made_from: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
    fit: Callable[[], dict[str, Learner]] | None = None,
) -> FoldResult:
    """Trains the members of a fold one after another, and combines them into one model.

    Args:
        first: the first member, fresh from `recipe.run.training.assemble`.
        folder: for the checkpoints; with several members, each has a folder in it.
        resume: whether to go on from the newest checkpoint of each.
        note: called with alarms, and with checkpoints that are skipped.
        on_member: called before a member is trained.
        on_rows: called after each epoch with the history of all members so far; with several
            members, each row has the number of its `member`.
        made_from: the origin of the run, for the checkpoints.
        reporter: shows the progress.
        fit: returns fitted baselines for a blend, on summaries with sums in float64; None to fit
            them here.
    """
    size = first.settings.ensemble_size
    members, earlier = [], []
    training = first
    for number in range(size):
        if number:
            training = assemble(
                first.settings,
                first.market,
                first.number,
                number,
                start=first.start,
                chosen=first.chosen,
            )
        on_member(training)
        tag = {"member": number} if size > 1 else {}
        trained = train(
            training,
            folder / f"member-{number}" if size > 1 else folder,
            resume=resume,
            note=note,
            on_rows=lambda rows, before=earlier, tag=tag: on_rows(
                before + [tag | row for row in rows]
            ),
            made_from=made_from,
            reporter=reporter,
        )
        members.append(trained)
        earlier = earlier + [tag | row for row in trained.rows]
    network = members[0].alone
    if size > 1:
        network = deploy_mean(training, [(m.classifier, m.alone.calibration) for m in members])
    if not first.settings.blend:
        return FoldResult(training.fold, network, members)
    return _blended(training, network, members, fit)


def _blended(
    training: Training,
    network: Deployed,
    members: list[TrainedMember],
    fit: Callable[[], dict[str, Learner]] | None,
) -> FoldResult:
    begun = time.perf_counter()
    wanted, chosen = training.settings.blend, training.chosen and training.chosen.blend
    if fit is None:
        learners = fit_learners(
            training.market,
            training.fold,
            seed=training.settings.seed,
            names=wanted,
            sums=np.float64,
            chosen=chosen and chosen.fits,
        )
    else:
        learners = fit()
    joined = {name: learners[name] for name in wanted}
    deployed, weights = deploy_blend(training, network, joined)
    blend = Blend(network, learners, weights, time.perf_counter() - begun)
    return FoldResult(training.fold, deployed, members, blend=blend)


def start_of_fold(
    settings: RunSettings, before: Sequence[FoldResult], initial: Start | None
) -> Start | None:
    """Returns the weights that a fold starts at: from the fold before, or from the run's start.

    Args:
        settings: of the run.
        before: results of the earlier folds.
        initial: where the run starts; None for random weights.
    """
    if settings.walk_warm and before:
        return start_at([member.classifier for member in before[-1].members])
    return initial


def with_all_bars(market: Market) -> Market:
    """Returns the market with one more fold, which trains on all windows that have a label.

    It takes labels and threshold from the last fold, and the length of a rolling training. Its
    validation and test windows are a few of the training windows: they choose nothing.
    """
    last = market.folds[-1]
    ends = ends_within(market.bounds, market.sequence_length, market.future_window)
    ends = ends[last.labels[ends] >= 0]
    if market.settings.rolling and len(market.folds) > 1:
        times, of_fold = market.timestamps[ends], market.timestamps[last.train]
        ends = ends[times >= times.max() - (of_fold.max() - of_fold.min())]
    few = ends[subsample(len(ends), _WATCHED)]
    whole = Fold(ends, few, few, last.labels, last.threshold, last.persistence, {})
    return replace(market, folds=(*market.folds, whole))


def refit_training(
    settings: RunSettings, market: Market, results: Sequence[FoldResult], initial: Start | None
) -> Training:
    """Returns the training on all bars, ready to start where that of the last fold started.

    Args:
        settings: of the run.
        market: of the run.
        results: of all its folds; the last one's choice holds here.
        initial: where the run started; None for random weights.
    """
    number, last = len(market.folds), results[-1]
    processes.barrier(f"fold {number}")
    return assemble(
        settings,
        with_all_bars(market),
        number,
        start=start_of_fold(settings, results[:-1], initial),
        chosen=_chosen(last),
    )


def _chosen(last: FoldResult) -> Chosen:
    """Returns what validation chose in a fold."""
    epochs, deployed, blend = [member.best_epoch for member in last.members], last.deployed, None
    temperature = deployed.calibration.get("temperature")
    if last.blend is not None:
        fits = {name: learner.fitted for name, learner in last.blend.learners.items()}
        blend = ChosenBlend(fits, last.blend.weights, temperature)
        temperature = last.blend.network.calibration.get("temperature")
    return Chosen(tuple(epochs), temperature, blend)


def with_refit(metrics: Metrics, market: Market, result: FoldResult, seconds: float) -> Metrics:
    """Returns the metrics of a run with those of its refit added.

    Args:
        metrics: of all folds.
        market: of the run.
        result: of the refit.
        seconds: taken by the refit.
    """
    refit = _figures(market, result)
    return replace(
        metrics,
        refit=refit,
        timing=replace(metrics.timing, refit_seconds=round(seconds, 3)),
        verdict=replace(metrics.verdict, refit_until=refit.training_period[1]),
    )


def _figures(market: Market, result: FoldResult) -> Refit:
    ends = result.fold.train
    first, last = spans(ends, market.timestamps, market.sequence_length, market.future_window)
    counts = np.bincount(result.fold.labels[ends], minlength=3)
    return Refit(
        windows=len(ends),
        training_period=[str(first.min())[:19], str(last.max())[:19]],
        prior=(counts / counts.sum()).tolist(),
        epochs=[member.best_epoch + 1 for member in result.members],
        temperature=result.deployed.calibration.get("temperature"),
        blend=result.blend.weights if result.blend else None,
        loss=[[row["loss"] for row in member.rows] for member in result.members],
    )
