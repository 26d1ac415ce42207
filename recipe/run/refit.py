"""The shipped model trained once more: on all bars up to the end, as validation chose."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.market.market import Fold, Market
from data.market.windows import ends_within, spans, subsample
from evaluation.figures.run import Metrics, Refit
from recipe.devices import processes
from recipe.run.ensemble import FoldResult, start_of_fold
from recipe.run.settings import RunSettings
from recipe.run.training import Chosen, ChosenBlend, Training, assemble
from recipe.run.warm import Start

_WATCHED = 2048  # windows that are looked at after an epoch, for a collapse


def with_all_bars(market: Market) -> Market:
    """Returns the market with one more fold, which trains on all windows that have a label.

    Labels and threshold are those of the last fold, and so is the length of the training where it
    is rolling. Its validation and test windows are a few of the training's: they choose nothing.
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
    settings: RunSettings, market: Market, results: Sequence[FoldResult], given: Start | None
) -> Training:
    """Returns the training on all bars, ready to begin as that of the last fold did.

    Args:
        settings: of the run.
        market: of the run.
        results: of all its folds; the last one's choice holds here.
        given: what the run started at; None: at random weights.
    """
    number, last = len(market.folds), results[-1]
    processes.barrier(f"fold {number}")
    return assemble(
        settings,
        with_all_bars(market),
        number,
        start=start_of_fold(settings, results[:-1], given),
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
    """Returns the metrics of a run with what is to be said of its refit.

    Args:
        metrics: of all folds.
        market: of the run.
        result: of the refit.
        seconds: that it took.
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
