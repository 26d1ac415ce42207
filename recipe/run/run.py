"""One run: every fold trained and judged, and all of it written to the run folder."""

import contextlib
import platform
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from config import Flags, as_dict
from core.i18n import _
from data.market.market import Market
from evaluation import judge as evaluation
from evaluation.common_moves import common_moves
from evaluation.made_up import known_optimum
from evaluation.report.report import report_page
from models.deployable import save_model
from recipe.devices import processes
from recipe.run import folder as files
from recipe.run.ensemble import train_fold
from recipe.run.fold import Assembly, assemble
from recipe.run.importance import explain
from recipe.run.metrics import run_metrics, with_trials
from recipe.run.origin import ORIGINS
from recipe.run.reporter import SILENT, Reporter


def run(
    flags: Flags,
    market: Market,
    folder: Path,
    *,
    run_info: dict[str, Any],
    resume: bool,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Trains and judges all folds of a market, fills the run folder, and returns the metrics.

    Args:
        flags: checked.
        market: from `data.market.market.build_market`.
        folder: is made after the first model was assembled, so that bad input leaves nothing.
        run_info: what `run.json` is to say about command, bars and origins; `brief` where the
            figures of the model alone are wanted: no baseline is fitted, nothing explained, no
            report made.
        resume: whether the folder exists, locked by the caller, and holds checkpoints to go on
            from.
        reporter: told what happens.

    Raises:
        InputError: where flags and data do not fit together.
        TrainingDiverged: where the loss became NaN or infinite.
    """
    begun = time.perf_counter()
    processes.meet("fold 0")
    first = assemble(flags, market, 0, note=reporter.note)
    if resume:  # who resumes has the lock already
        return _fill(flags, market, folder, run_info, first, begun, reporter, resume=True)
    files.make(folder)
    with files.lock(folder):
        return _fill(flags, market, folder, run_info, first, begun, reporter, resume=False)


def _fill(
    flags: Flags,
    market: Market,
    folder: Path,
    run_info: dict[str, Any],
    first: Assembly | None,
    begun: float,
    reporter: Reporter,
    *,
    resume: bool,
) -> dict[str, Any]:
    brief = run_info.get("brief", False)
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

    common = common_moves(market, market.folds[0])
    if common is not None:
        reporter.note(common)

    trained, others, explained, history = [], [], [], []
    starts = [begun]
    for number, fold in enumerate(market.folds):
        if first is None:
            processes.meet(f"fold {number}")
        assembly = first or assemble(flags, market, number, note=reporter.note)
        first = None
        splits = evaluation.describe_splits(market, fold)
        longest = max((b - a for a, b in pairwise(starts)), default=0.0)
        num_folds = len(market.folds)
        reporter.announce_number(number, num_folds, left=longest * (num_folds - number))
        reporter.announce_fold(assembly, splits)

        def keep(rows: list[dict[str, Any]], number: int = number, earlier=tuple(history)) -> None:
            history[:] = [*earlier, *({"fold": number, **row} for row in rows)]
            files.write_history(folder / files.HISTORY, history)

        result = train_fold(
            assembly,
            folder / files.CHECKPOINTS / f"fold-{number}",
            resume=resume,
            verbose=1 if sys.stdout.isatty() else 2,
            note=lambda text: reporter.log(_("alarm"), text),
            on_member=reporter.announce_member,
            on_rows=keep,
            made_from=run_info[ORIGINS][-1],
        )
        trained.append(result)
        what = _("constant prior, persistence, logistic regression, boosted trees")
        if not brief:  # before the baselines: other processes take part in it
            explained.append(explain(result.deployable, market, fold, seed=flags.SEED))
        with contextlib.nullcontext() if brief else reporter.working(_("baselines"), what):
            others.append(
                evaluation.baseline_probabilities(market, fold, seed=flags.SEED, fitted=not brief)
            )
        starts.append(time.perf_counter())

    metrics = run_metrics(flags, market, trained, others, explained)
    optimum = known_optimum(run_info.get("data"), market, [t.fold for t in trained])
    if optimum is not None:
        metrics["known_optimum"] = optimum
    save_model(trained[-1].deployable, folder / files.MODEL)
    _write_predictions(market, trained, "validation", folder / files.VALIDATION)
    predictions = _write_predictions(market, trained, "test", folder / files.PREDICTIONS)
    run_info |= {
        "wall_seconds": time.perf_counter() - begun,
        "peak_memory_bytes": files.peak_memory_bytes(),
        "other_runs_on_these_bars": files.other_runs_on(folder, run_info["bars_sha256"]),
    }
    files.write_json(folder / files.RUN, run_info)
    files.write_json(folder / files.METRICS, metrics)
    # Pictures come last: nothing that fails in them costs a training. `resume` makes a report that
    # is missing.
    if brief:
        reporter.log(_("file"), str(folder / files.METRICS))
    else:
        seen = with_trials(metrics, 1 + run_info["other_runs_on_these_bars"])
        page = report_page(
            folder.name,
            metrics=seen,
            history=pd.DataFrame(history),
            predictions=predictions,
            recent=evaluation.recent_bars(
                market, trained[-1].fold, trained[-1].probabilities["test"]
            ),
            run_info=run_info,
            flags=as_dict(flags),
            defaults=as_dict(Flags()),
        )
        files.write_text(folder / files.REPORT, page)
        reporter.conclude(seen, folder, run_info)
    return metrics


def take_part(flags: Flags, market: Market, folder: Path, *, resume: bool, brief: bool) -> None:
    """Trains all folds along with the process that runs `run`; writes and says nothing.

    Args:
        flags: checked.
        market: the same as there.
        folder: of the run; it is read where `resume` is true.
        resume: as `run` takes it.
        brief: whether nothing is explained.
    """
    for number, fold in enumerate(market.folds):
        processes.meet(f"fold {number}")
        trained = train_fold(
            assemble(flags, market, number),
            folder / files.CHECKPOINTS / f"fold-{number}",
            resume=resume,
            verbose=0,
            note=SILENT.note,
            on_member=SILENT.announce_member,
            on_rows=SILENT.note,
        )
        if not brief:
            explain(trained.deployable, market, fold, seed=flags.SEED)


def _write_predictions(market: Market, trained, split: str, path: Path) -> pd.DataFrame:
    table = evaluation.predictions_table(
        market, [t.fold for t in trained], [t.probabilities[split] for t in trained], split
    )
    files.write(path, lambda temporary: table.to_parquet(temporary, index=False))
    return table


def _devices() -> list[str]:
    return [str(device) for device in keras.distribution.list_devices()]
