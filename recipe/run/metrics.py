"""The content of metrics.json: what each fold gave, and what all folds gave together.

Everything of one fold stands under `folds`, also where there is one; what stands beside it is
pooled over the test windows of all folds.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from core.i18n import _
from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior
from evaluation.across import cross_section
from evaluation.across.judged import judge_across
from evaluation.blend.figures import blend_figures
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.run import (
    Alarm,
    Blend,
    BlendedNetwork,
    Chosen,
    Collapse,
    CollapseForecast,
    FoldMetrics,
    Label,
    Member,
    Metrics,
    PooledBlend,
    PooledScores,
    Refresh,
    Repeats,
    SplitScores,
    Timing,
)
from evaluation.figures.scores import Verdict
from evaluation.judge import Judged, describe_splits, drift, judge, pooled
from evaluation.metrics import evaluate
from evaluation.optimum import known
from evaluation.verdict_words import refit_in_words, sentence
from models.training.callbacks.collapse_alarm import message
from recipe.run.ensemble import FoldResult
from recipe.run.fold import TrainedMember


def run_metrics(
    market: Market, results: Sequence[FoldResult], *, monitor: str, cost_bps: float, seed: int
) -> Metrics:
    """Returns the content of metrics.json, but for its sentences; see `in_words`.

    Args:
        market: that was trained on.
        results: one for each fold; without importance those of a brief run, whose baselines are
            too few for a verdict.
        monitor: the metric that chose the epochs.
        cost_bps: trading cost per side in basis points.
        seed: of the run.
    """
    judged = [result.judged for result in results]
    judgement = judge(market, judged, cost_bps=cost_bps)
    verdict = replace(judgement.verdict, relative=market.settings.relative or None)
    if any(result.importance is None for result in results):
        verdict = replace(verdict, better_than_baseline=None)
    return Metrics(
        num_folds=len(results),
        verdict=verdict,
        skill=judgement.skill,
        test=judgement.test,
        baselines=judgement.baselines,
        costs=judgement.costs,
        cross_section=judge_across(market, judged, cost_bps=cost_bps),
        blend=_pooled_blend(market, results),
        timing=_timing(results),
        seed=seed,
        folds=[_fold_metrics(market, result, monitor) for result in results],
    )


def in_words(metrics: Metrics, trials: int = 1) -> Metrics:
    """Returns the metrics with verdict, alarms and known optimum in the current language.

    Args:
        metrics: what `run_metrics` returned.
        trials: runs on the same bars. metrics.json is in English and does not count them: the same
            run must give the same file at any time.
    """
    verdict, optimum = replace(metrics.verdict, trials=trials), metrics.known_optimum
    return replace(
        metrics,
        verdict=replace(verdict, sentence=_verdict_in_words(verdict)),
        folds=[_with_alarms_in_words(fold) for fold in metrics.folds],
        known_optimum=optimum and replace(optimum, sentence=known.sentence(optimum)),
        cross_section=cross_section.in_language(metrics.cross_section),
    )


def _verdict_in_words(verdict: Verdict) -> str:
    if verdict.better_than_baseline is not None:
        return sentence(verdict)
    text = _("No verdict: a brief run has no baselines that were fitted.")
    return f"{text} {refit_in_words(verdict)}" if verdict.refit_until else text


def _with_alarms_in_words(fold: FoldMetrics) -> FoldMetrics:
    alarms = [replace(alarm, message=_alarm_in_words(alarm)) for alarm in fold.collapse.alarms]
    return replace(fold, collapse=replace(fold.collapse, alarms=alarms))


def _alarm_in_words(alarm: Alarm) -> str:
    text = message(to_plain(alarm))
    if alarm.member is None:
        return text
    member = _("member {n}", n=alarm.member + 1)
    return f"{member}, {text}"


def _pooled_blend(market: Market, results: Sequence[FoldResult]) -> PooledBlend | None:
    members = _of_members(results)
    if not members:
        return None
    test = pooled(members, "test")
    return PooledBlend(
        network=PooledScores(test.evaluate(test.baselines["network"])),
        test=blend_figures(market, members, "test"),
    )


def _fold_metrics(market: Market, result: FoldResult, monitor: str) -> FoldMetrics:
    """Returns the figures of one fold alone."""
    fold, members = result.fold, result.members
    several, record = len(members) > 1, members[0].record
    scores = _scores(fold, result.deployed.probabilities)
    return FoldMetrics(
        splits=describe_splits(market, fold),
        prior=training_prior(fold).tolist(),
        validation=scores.validation,
        test=scores.test,
        baselines={name: _scores(fold, by_split) for name, by_split in result.baselines.items()},
        chosen=Chosen(monitor, None if several else members[0].best_epoch),
        calibration=result.deployed.calibration,
        collapse=Collapse(
            forecast=from_plain(CollapseForecast, record.forecast.as_dict(CLASS_NAMES)),
            alarms=_alarms(members),
        ),
        label=Label(
            method=market.label_method,
            reference=market.settings.label_reference,
            future_window_bars=market.future_window,
            threshold=fold.threshold,
        ),
        dropped=market.dropped | fold.dropped,
        repeats=from_plain(Repeats, record.repeats),
        mining=[_refresh(refresh) for refresh in record.mining],
        drift=drift(market, fold),
        blend=_blend(market, result),
        members=[_member(fold, member, monitor) for member in members] if several else None,
        importance=result.importance,
    )


def _blend(market: Market, result: FoldResult) -> Blend | None:
    if result.blend is None:
        return None
    network, members = result.blend.network, _of_members([result])
    scores = _scores(result.fold, network.probabilities)
    return Blend(
        weights=result.blend.weights,
        network=BlendedNetwork(network.calibration, scores.validation, scores.test),
        validation=blend_figures(market, members, "validation"),
        test=blend_figures(market, members, "test"),
    )


def _of_members(results: Sequence[FoldResult]) -> list[Judged]:
    """Returns the folds with the members of their blends in the place of baselines."""
    return [
        Judged(result.fold, result.deployed.probabilities, result.blend.probabilities)
        for result in results
        if result.blend is not None
    ]


def _refresh(refresh: dict[str, Any]) -> Refresh:
    classes = {CLASS_NAMES[int(code)]: pool for code, pool in refresh["classes"].items()}
    return from_plain(Refresh, refresh | {"classes": classes})


def _scores(fold: Fold, probabilities: dict[str, np.ndarray]) -> SplitScores:
    prior = training_prior(fold)
    return SplitScores(
        validation=evaluate(fold.labels[fold.validation], probabilities["validation"], prior),
        test=evaluate(fold.labels[fold.test], probabilities["test"], prior),
    )


def _member(fold: Fold, member: TrainedMember, monitor: str) -> Member:
    """Returns a member of an ensemble as it would be alone, with a temperature of its own."""
    scores = _scores(fold, member.alone.probabilities)
    return Member(
        seed=member.seed,
        chosen=Chosen(monitor, member.best_epoch),
        calibration=member.alone.calibration,
        mining=[_refresh(refresh) for refresh in member.record.mining],
        validation=scores.validation,
        test=scores.test,
    )


def _alarms(members: Sequence[TrainedMember]) -> list[Alarm]:
    """Returns the alarms of all members; of several, each with the number of its member."""
    several = len(members) > 1
    return [
        replace(from_plain(Alarm, alarm), member=number if several else None)
        for number, member in enumerate(members)
        for alarm in member.record.alarms
    ]


def _timing(results: Sequence[FoldResult]) -> Timing:
    trained = [member for result in results for member in result.members]
    blends = [result.blend.seconds for result in results if result.blend]
    return replace(training_time(trained), blend_seconds=round(sum(blends), 3) if blends else None)


def training_time(trained: Sequence[TrainedMember]) -> Timing:
    """Returns where the time of the epochs went that this process trained.

    Validation and mining are compiled beside the training step; what is waited for that after the
    first epoch stands in `validation_seconds`. On JAX each compiles in its own seconds.
    """
    timings = [member.record.timing for member in trained]
    epochs = [epoch for timing in timings for epoch in timing["epochs"]]
    total = sum(epoch["training"] for epoch in epochs)
    # Of each fold without its first epoch, which compiles the step, where there are others.
    timed = [timing["epochs"][1:] or timing["epochs"] for timing in timings]
    seconds = sum(epoch["training"] for part in timed for epoch in part)
    compilation = sum(timing["compilation_seconds"] for timing in timings)
    labels = sum(t["labels"] * len(part) for t, part in zip(timings, timed, strict=True))
    return Timing(
        seconds_per_epoch=[round(epoch["all"], 3) for epoch in epochs],
        training_seconds_per_epoch=[round(epoch["training"], 3) for epoch in epochs],
        labels_per_second=round(labels / seconds, 1) if seconds else None,
        share_outside_step=sum(e["outside"] for e in epochs) / total if total else None,
        training_seconds=round(total - compilation, 3),
        compilation_seconds=round(compilation, 3),
        validation_seconds=round(sum(t["validation_seconds"] for t in timings), 3),
        mining_seconds=round(sum(t["mining_seconds"] for t in timings), 3),
    )
