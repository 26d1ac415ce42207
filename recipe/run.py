"""One run: every fold trained and judged, and all of it written to the run folder."""

import platform
import sys
import time
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from config import Flags, as_dict
from data.labels import CLASS_NAMES
from data.market import Market
from evaluation import evaluate as evaluation
from evaluation.metrics import evaluate
from evaluation.report.report import write_report
from evaluation.verdict import sentence
from models.deployable import save_model
from recipe import console
from recipe import run_folder as files
from recipe.fold import Assembly, assemble, train


def run(
    flags: Flags,
    market: Market,
    folder: Path,
    *,
    run_info: dict[str, Any],
    resume: bool,
) -> dict[str, Any]:
    """Trains and judges all folds of a market, fills the run folder, and returns the metrics.

    Args:
        flags: checked.
        market: from `data.market.build_market`.
        folder: is made after the first model was assembled, so that bad input leaves nothing.
        run_info: what `run.json` is to say about command and bars.
        resume: whether the folder exists and holds checkpoints to go on from.

    Raises:
        InputError: where flags and data do not fit together.
        TrainingDiverged: where the loss became NaN or infinite.
    """
    begun = time.perf_counter()
    first: Assembly | None = assemble(flags, market, 0)
    if not resume:
        files.make(folder)
    run_info |= {
        "git_commit": files.git_commit(),
        "versions": files.versions(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "devices": _devices(),
        "seed": flags.SEED,
    }
    files.write_json(folder / files.CONFIG, as_dict(flags))
    files.write_json(folder / files.RUN, run_info)

    trained, others = [], []
    for number, fold in enumerate(market.folds):
        assembly = first or assemble(flags, market, number)
        first = None
        splits = evaluation.describe_splits(market, fold)
        console.announce_fold(assembly, len(market.folds), splits)
        earlier = [row for done in trained for row in done.rows]
        result = train(
            assembly,
            folder / files.CHECKPOINTS / f"fold-{number}",
            resume=resume,
            verbose=1 if sys.stdout.isatty() else 2,
            note=lambda text: console.log("alarm", text),
            on_rows=lambda rows, number=number, earlier=earlier: files.write_history(
                folder / files.HISTORY, earlier + [{"fold": number, **row} for row in rows]
            ),
        )
        result.rows[:] = [{"fold": number, **row} for row in result.rows]
        trained.append(result)
        console.log("baselines", "constant prior, persistence, logistic regression, boosted trees")
        others.append(evaluation.baseline_probabilities(market, fold, seed=flags.SEED))

    metrics = _metrics(flags, market, trained, others)
    predictions = evaluation.predictions_table(
        market, [t.fold for t in trained], [t.probabilities["test"] for t in trained]
    )
    save_model(trained[-1].deployable, folder / files.MODEL)
    files.write(folder / files.PREDICTIONS, lambda path: predictions.to_parquet(path, index=False))
    run_info |= {
        "wall_seconds": time.perf_counter() - begun,
        "peak_memory_bytes": files.peak_memory_bytes(),
        "other_runs_on_these_bars": files.other_runs_on(folder, run_info["bars_sha256"]),
    }
    files.write_json(folder / files.RUN, run_info)
    seen = _with_trials(metrics, 1 + run_info["other_runs_on_these_bars"])
    write_report(folder, metrics=seen, history=_history(trained), predictions=predictions)
    # The metrics come last: they mark the run as complete.
    files.write_json(folder / files.METRICS, metrics)
    console.conclude(seen, folder, run_info)
    return metrics


def _metrics(flags, market, trained, others) -> dict[str, Any]:
    """Returns the content of metrics.json."""
    last = trained[-1]
    judged = evaluation.judge(
        market,
        [
            (t.fold, t.probabilities["test"], {n: b["test"] for n, b in other.items()})
            for t, other in zip(trained, others, strict=True)
        ],
        cost_bps=flags.COST_BPS,
        num_resamples=flags.BOOTSTRAP_RESAMPLES,
        seed=flags.SEED,
    )
    labels = last.fold.labels[last.fold.validation]
    baselines = {
        name: {"validation": evaluate(labels, values["validation"]), "test": judged["tests"][name]}
        for name, values in others[-1].items()
    }
    metrics = {
        "verdict": judged["verdict"],
        "splits": evaluation.describe_splits(market, last.fold),
        "validation": evaluate(labels, last.probabilities["validation"]),
        "test": judged["test"],
        "baselines": baselines,
        "costs": judged["costs"],
        "chosen": {"metric": flags.CHECKPOINT_METRIC, "epoch": last.best_epoch},
        "calibration": last.calibration,
        "collapse": {
            "forecast": last.forecast.as_dict(CLASS_NAMES),
            "alarms": [alarm for t in trained for alarm in t.alarms],
        },
        "label": {
            "method": flags.LABEL_METHOD,
            "future_window_bars": flags.FUTURE_WINDOW,
            "threshold": last.fold.threshold,
        },
        "dropped": market.dropped | last.fold.dropped,
        "repeats": last.repeats,
        "timing": _timing(trained),
        "seed": flags.SEED,
    }
    if len(trained) > 1:
        metrics["folds"] = [
            {
                "splits": evaluation.describe_splits(market, t.fold),
                "best_epoch": t.best_epoch,
                "test": evaluate(t.fold.labels[t.fold.test], t.probabilities["test"]),
            }
            for t in trained
        ]
    return metrics


def _with_trials(metrics: dict[str, Any], trials: int) -> dict[str, Any]:
    """Returns the metrics as a person should read them after several runs on the same bars.

    metrics.json itself does not count them: the same run must give the same file at any time.
    """
    verdict = metrics["verdict"] | {"trials": trials}
    return metrics | {"verdict": verdict | {"sentence": sentence(verdict)}}


def _timing(trained) -> dict[str, Any]:
    """Returns where the time of the epochs went that this process trained."""
    epochs = [epoch for t in trained for epoch in t.timing["epochs"]]
    in_all = sum(epoch["training"] for epoch in epochs)
    windows = sum(t.timing["windows"] * len(t.timing["epochs"]) for t in trained)
    return {
        "seconds_per_epoch": [round(epoch["all"], 3) for epoch in epochs],
        "training_seconds_per_epoch": [round(epoch["training"], 3) for epoch in epochs],
        "windows_per_second": round(windows / in_all, 1) if in_all else None,
        "share_outside_step": sum(e["outside"] for e in epochs) / in_all if in_all else None,
        "mining_seconds": round(sum(t.timing["mining_seconds"] for t in trained), 3),
    }


def _history(trained) -> pd.DataFrame:
    return pd.DataFrame([row for t in trained for row in t.rows])


def _devices() -> list[str]:
    return [str(device) for device in keras.distribution.list_devices()]
