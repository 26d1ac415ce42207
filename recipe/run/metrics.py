"""The content of metrics.json: what each fold gave, and what all folds gave together.

Everything of one fold stands under `folds`, also where there is one; what stands beside it is
pooled over the test windows of all folds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.i18n import _
from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior
from evaluation import made_up
from evaluation.across import cross_section
from evaluation.across.judged import judge_across
from evaluation.blend.figures import blend_figures
from evaluation.judge import Judged, describe_splits, drift, judge, pooled
from evaluation.metrics import evaluate
from evaluation.verdict_words import refit_in_words, sentence
from models.training.callbacks.collapse_alarm import message
from recipe.run.ensemble import FoldResult
from recipe.run.fold import TrainedMember


def run_metrics(
    market: Market, results: Sequence[FoldResult], *, monitor: str, cost_bps: float, seed: int
) -> dict[str, Any]:
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
    found = judge(market, judged, cost_bps=cost_bps)
    found["cross_section"] = judge_across(market, judged, cost_bps=cost_bps)
    members = _of_members(results)
    if members:
        test = pooled(members, "test")
        found["blend"] = {
            "network": {"test": test.evaluate(test.baselines["network"])},
            "test": blend_figures(market, members, "test"),
        }
    if market.settings.relative:
        found["verdict"] |= {"relative": True}
    if any(result.importance is None for result in results):
        found["verdict"] |= {"better_than_baseline": None}
    return {
        "num_folds": len(results),
        **found,
        "timing": training_time([member for result in results for member in result.members]),
        "seed": seed,
        "folds": [_fold_metrics(market, result, monitor) for result in results],
    }


def in_words(metrics: dict[str, Any], trials: int = 1) -> dict[str, Any]:
    """Returns the metrics with verdict, alarms and known optimum in words of the language of now.

    Args:
        metrics: what `run_metrics` returned.
        trials: runs on the same bars. metrics.json is in English and does not count them: the same
            run must give the same file at any time.
    """
    verdict = metrics["verdict"] | {"trials": trials}
    seen = metrics | {
        "verdict": verdict | {"sentence": _verdict_in_words(verdict)},
        "folds": [_with_alarms_in_words(fold) for fold in metrics["folds"]],
    }
    if "known_optimum" in seen:
        optimum = seen["known_optimum"]
        seen["known_optimum"] = optimum | {"sentence": made_up.sentence(optimum)}
    if "cross_section" in seen:
        seen["cross_section"] = cross_section.in_language(seen["cross_section"])
    return seen


def _verdict_in_words(verdict: dict[str, Any]) -> str:
    if verdict["better_than_baseline"] is not None:
        return sentence(verdict)
    text = _("No verdict: a brief run has no baselines that were fitted.")
    return f"{text} {refit_in_words(verdict)}" if "refit_until" in verdict else text


def _with_alarms_in_words(fold: dict[str, Any]) -> dict[str, Any]:
    collapse = fold["collapse"]
    alarms = [alarm | {"message": _alarm_in_words(alarm)} for alarm in collapse["alarms"]]
    return fold | {"collapse": collapse | {"alarms": alarms}}


def _alarm_in_words(alarm: dict[str, Any]) -> str:
    if "member" not in alarm:
        return message(alarm)
    member = _("member {n}", n=alarm["member"] + 1)
    return f"{member}, {message(alarm)}"


def _fold_metrics(market: Market, result: FoldResult, monitor: str) -> dict[str, Any]:
    """Returns what is known of one fold alone."""
    fold, members = result.fold, result.members
    several, record = len(members) > 1, members[0].record
    found = {
        "splits": describe_splits(market, fold),
        "prior": training_prior(fold).tolist(),
        **_judged(fold, result.deployed.probabilities),
        "baselines": {name: _judged(fold, said) for name, said in result.baselines.items()},
        "chosen": {"metric": monitor, **({} if several else {"epoch": members[0].best_epoch})},
        "calibration": result.deployed.calibration,
        "collapse": {
            "forecast": record.forecast.as_dict(CLASS_NAMES),
            "alarms": _alarms(members) if several else record.alarms,
        },
        "label": {
            "method": market.label_method,
            "reference": market.settings.label_reference,
            "future_window_bars": market.future_window,
            "threshold": fold.threshold,
        },
        "dropped": market.dropped | fold.dropped,
        "repeats": record.repeats,
        "mining": [_with_class_names(refresh) for refresh in record.mining],
        "drift": drift(market, fold),
    }
    if result.blend is not None:
        network, parts = result.blend.network, _of_members([result])
        found["blend"] = {
            "weights": result.blend.weights,
            "network": {"calibration": network.calibration, **_judged(fold, network.probabilities)},
            **{split: blend_figures(market, parts, split) for split in ("validation", "test")},
        }
    if several:
        found["members"] = [_member(fold, member, monitor) for member in members]
    if result.importance is not None:
        found["importance"] = result.importance
    return found


def _of_members(results: Sequence[FoldResult]) -> list[Judged]:
    """Returns the folds with the members of their blends in the place of baselines."""
    return [
        Judged(result.fold, result.deployed.probabilities, result.blend.said)
        for result in results
        if result.blend is not None
    ]


def _with_class_names(refresh: dict[str, Any]) -> dict[str, Any]:
    classes = {CLASS_NAMES[int(code)]: values for code, values in refresh["classes"].items()}
    return refresh | {"classes": classes}


def _judged(fold: Fold, probabilities: dict[str, np.ndarray]) -> dict[str, Any]:
    prior = training_prior(fold)
    return {
        split: evaluate(fold.labels[getattr(fold, split)], probabilities[split], prior)
        for split in ("validation", "test")
    }


def _member(fold: Fold, member: TrainedMember, monitor: str) -> dict[str, Any]:
    """Returns what a member of an ensemble would be alone, with a temperature of its own."""
    return {
        "seed": member.seed,
        "chosen": {"metric": monitor, "epoch": member.best_epoch},
        "calibration": member.alone.calibration,
        "mining": [_with_class_names(refresh) for refresh in member.record.mining],
        **_judged(fold, member.alone.probabilities),
    }


def _alarms(members: Sequence[TrainedMember]) -> list[dict[str, Any]]:
    """Returns the alarms of all members of an ensemble, each with its member."""
    return [
        alarm | {"member": number}
        for number, member in enumerate(members)
        for alarm in member.record.alarms
    ]


def training_time(trained: Sequence[TrainedMember]) -> dict[str, Any]:
    """Returns where the time of the epochs went that this process trained.

    Validation and mining are compiled beside the training step; what is waited for that after the
    first epoch stands in `validation_seconds`. On JAX each compiles in its own seconds.
    """
    timings = [member.record.timing for member in trained]
    epochs = [epoch for timing in timings for epoch in timing["epochs"]]
    in_all = sum(epoch["training"] for epoch in epochs)
    # Of each fold without its first epoch, which compiles the step, where there are others.
    timed = [timing["epochs"][1:] or timing["epochs"] for timing in timings]
    seconds = sum(epoch["training"] for part in timed for epoch in part)
    parts = {
        part: sum(timing[part] for timing in timings)
        for part in ("compilation_seconds", "validation_seconds", "mining_seconds")
    }
    labels = sum(t["labels"] * len(part) for t, part in zip(timings, timed, strict=True))
    return {
        "seconds_per_epoch": [round(epoch["all"], 3) for epoch in epochs],
        "training_seconds_per_epoch": [round(epoch["training"], 3) for epoch in epochs],
        "labels_per_second": round(labels / seconds, 1) if seconds else None,
        "share_outside_step": sum(e["outside"] for e in epochs) / in_all if in_all else None,
        "training_seconds": round(in_all - parts["compilation_seconds"], 3),
        **{part: round(value, 3) for part, value in parts.items()},
    }
