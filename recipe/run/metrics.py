"""The content of metrics.json: what each fold gave, and what all folds gave together.

Everything of one fold stands under `folds`, also where there is one; what stands beside it is
pooled over the test windows of all folds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior
from evaluation import cross_section, made_up
from evaluation import judge as evaluation
from evaluation.metrics import evaluate
from evaluation.verdict import sentence
from models.training.callbacks.collapse_alarm import message

Given = dict[str, dict[str, np.ndarray]]  # probabilities by baseline and split


def run_metrics(
    flags: Any,
    market: Market,
    trained: Sequence,
    given: Sequence[Given],
    explained: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Returns the content of metrics.json.

    Args:
        flags: the checked flags.
        market: that was trained on.
        trained: a `recipe.run.ensemble.TrainedFold` for each fold.
        given: for each fold what `evaluation.judge.baseline_probabilities` returned.
        explained: for each fold what `recipe.run.importance.explain` returned; none for a brief
            run, whose baselines are too few for a verdict.
    """
    folds = list(zip(trained, given, strict=True))
    pooled = evaluation.judge(
        market,
        [(t.fold, t.probabilities, others) for t, others in folds],
        cost_bps=flags.COST_BPS,
    )
    if not explained:
        pooled["verdict"] |= {
            "verdict": None,
            "sentence": "No verdict: a brief run has no baselines that were fitted.",
        }
    return {
        "num_folds": len(folds),
        **pooled,
        "timing": training_time([member for t in trained for member in t.members]),
        "seed": flags.SEED,
        "folds": [
            _fold_metrics(flags, market, t, others)
            | ({"importance": explained[number]} if explained else {})
            for number, (t, others) in enumerate(folds)
        ],
    }


def with_trials(metrics: dict[str, Any], trials: int) -> dict[str, Any]:
    """Returns the metrics as a person should read them after several runs on the same bars.

    Their sentences and alarms are in the language of now. metrics.json itself is in English and
    does not count the runs: the same run must give the same file at any time.
    """
    verdict = metrics["verdict"] | {"trials": trials}
    seen = metrics | {"verdict": verdict | {"sentence": sentence(verdict)}}
    seen["folds"] = [_with_alarms(fold) for fold in metrics["folds"]]
    if "known_optimum" in seen:
        optimum = seen["known_optimum"]
        seen["known_optimum"] = optimum | {"sentence": made_up.sentence(optimum)}
    if "cross_section" in seen:
        seen["cross_section"] = cross_section.in_language(seen["cross_section"])
    return seen


def _with_alarms(fold: dict[str, Any]) -> dict[str, Any]:
    collapse = fold["collapse"]
    alarms = [alarm | {"message": message(alarm)} for alarm in collapse["alarms"]]
    return fold | {"collapse": collapse | {"alarms": alarms}}


def _fold_metrics(flags, market: Market, trained, given: Given) -> dict[str, Any]:
    """Returns what is known of one fold alone."""
    fold, first = trained.fold, trained.members[0]
    several = len(trained.members) > 1
    return {
        "splits": evaluation.describe_splits(market, fold),
        "prior": training_prior(fold).tolist(),
        **_judged(fold, trained.probabilities),
        "baselines": {name: _judged(fold, answers) for name, answers in given.items()},
        "chosen": {
            "metric": flags.CHECKPOINT_METRIC,
            **({} if several else {"epoch": first.best_epoch}),
        },
        "calibration": trained.calibration,
        "collapse": {
            "forecast": first.forecast.as_dict(CLASS_NAMES),
            "alarms": _alarms(trained.members) if several else first.alarms,
        },
        "label": {
            "method": flags.LABEL_METHOD,
            "future_window_bars": flags.FUTURE_WINDOW,
            "threshold": fold.threshold,
        },
        "dropped": market.dropped | fold.dropped,
        "repeats": first.repeats,
        "mining": [_with_class_names(refresh) for refresh in first.mining],
        "drift": evaluation.drift(market, fold),
        **({"members": [_member(flags, fold, m) for m in trained.members]} if several else {}),
    }


def _with_class_names(refresh: dict[str, Any]) -> dict[str, Any]:
    classes = {CLASS_NAMES[int(code)]: values for code, values in refresh["classes"].items()}
    return refresh | {"classes": classes}


def _judged(fold: Fold, probabilities: dict[str, np.ndarray]) -> dict[str, Any]:
    prior = training_prior(fold)
    return {
        split: evaluate(fold.labels[getattr(fold, split)], probabilities[split], prior)
        for split in ("validation", "test")
    }


def _member(flags, fold: Fold, member) -> dict[str, Any]:
    """Returns what a member of an ensemble would be alone, with a temperature of its own."""
    return {
        "seed": member.seed,
        "chosen": {"metric": flags.CHECKPOINT_METRIC, "epoch": member.best_epoch},
        "calibration": member.calibration,
        "mining": [_with_class_names(refresh) for refresh in member.mining],
        **_judged(fold, member.probabilities),
    }


def _alarms(members: Sequence) -> list[dict[str, Any]]:
    """Returns the alarms of all members of an ensemble, each with its member."""
    return [
        alarm | {"member": number, "message": f"member {number + 1}, {alarm['message']}"}
        for number, member in enumerate(members)
        for alarm in member.alarms
    ]


def training_time(trained: Sequence) -> dict[str, Any]:
    """Returns where the time of the epochs went that this process trained.

    Args:
        trained: a `recipe.run.fold.TrainedMember` for each training.

    Validation and mining are compiled beside the training step; what is waited for that after the
    first epoch stands in `validation_seconds`. On JAX each compiles in its own seconds.
    """
    epochs = [epoch for t in trained for epoch in t.timing["epochs"]]
    in_all = sum(epoch["training"] for epoch in epochs)
    # Of each fold without its first epoch, which compiles the step, where there are others.
    timed = [t.timing["epochs"][1:] or t.timing["epochs"] for t in trained]
    seconds = sum(epoch["training"] for part in timed for epoch in part)
    parts = {
        part: sum(t.timing[part] for t in trained)
        for part in ("compilation_seconds", "validation_seconds", "mining_seconds")
    }
    labels = sum(t.timing["labels"] * len(part) for t, part in zip(trained, timed, strict=True))
    return {
        "seconds_per_epoch": [round(epoch["all"], 3) for epoch in epochs],
        "training_seconds_per_epoch": [round(epoch["training"], 3) for epoch in epochs],
        "labels_per_second": round(labels / seconds, 1) if seconds else None,
        "share_outside_step": sum(e["outside"] for e in epochs) / in_all if in_all else None,
        "training_seconds": round(in_all - parts["compilation_seconds"], 3),
        **{part: round(value, 3) for part, value in parts.items()},
    }
