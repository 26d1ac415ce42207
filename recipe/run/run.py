"""One run: trains and tests every fold, and writes everything to the run folder."""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from config import Flags, as_dict
from core.i18n import LANGUAGES, _, speaking
from core.memory import release_memory
from core.threads import Progress, beside
from data.market.market import Market
from evaluation import judge
from evaluation.across.common_moves import by_heart, common_moves
from evaluation.baselines.fold import FITTED, Learner, baseline_probabilities, fit_learners
from evaluation.figures.plain import to_plain
from evaluation.figures.run import Metrics
from evaluation.importance import explain
from evaluation.optimum.known import known_optimum
from evaluation.report.report import report_page
from models.deployable import save_model
from recipe.devices import processes
from recipe.run import folder as files
from recipe.run.ensemble import FoldResult, refit_training, start_of_fold, train_fold, with_refit
from recipe.run.metrics import in_words, run_metrics
from recipe.run.origin import ORIGINS
from recipe.run.reporter import SILENT, Reporter
from recipe.run.settings import RunSettings, run_settings
from recipe.run.training import Training, assemble
from recipe.run.warm import Start, start_of


def run(
    flags: Flags,
    market: Market,
    folder: Path,
    *,
    run_info: dict[str, Any],
    resume: bool,
    start: Path | None = None,
    reporter: Reporter = SILENT,
) -> Metrics:
    """Trains and tests all folds of a market, fills the run folder, and returns the metrics.

    Args:
        flags: checked.
        market: from `data.market.market.build_market`.
        folder: created once the first model is assembled, so that bad input leaves nothing behind.
        run_info: command, bars and origins for `run.json`; `brief` if only the figures of the model
            are wanted: no baselines beyond those of a blend, no importance, no report.
        resume: whether the folder exists, locked by the caller, with checkpoints to go on from.
        start: model file with the weights to start at; None for random ones.
        reporter: shows the progress.

    Raises:
        InputError: if flags, data and start do not fit together.
        TrainingDiverged: if the loss became NaN or infinite.
    """
    begun, settings = time.perf_counter(), run_settings(flags)
    processes.barrier("fold 0")
    initial = None if start is None else start_of(start, market)
    first = assemble(settings, market, 0, start=initial, note=reporter.note)
    if not resume:  # else the caller has made and locked it
        files.make(folder)
    with contextlib.nullcontext() if resume else files.lock(folder):
        run_info |= {
            "git_commit": files.git_commit(),
            "versions": files.versions(),
            "platform": platform.platform(),
            "backend": keras.backend.backend(),
            "devices": _devices(),
            "seed": settings.seed,
        }
        if start is not None and start != folder / files.START:
            content = start.read_bytes()
            files.write(folder / files.START, lambda path: path.write_bytes(content))
        files.write_json(folder / files.CONFIG, as_dict(flags))
        files.write_json(folder / files.RUN, run_info)
        for text in filter(None, [common_moves(market, market.folds[0]), by_heart(market)]):
            reporter.note(text)
        run = _Run(settings, market, folder, run_info, reporter, resume)
        results = run.train(first, begun)
        del first  # its batches and its optimizer, before the refit
        refit = run.refit(results, initial) if settings.refit else None
        return run.write(results, refit, begun, as_dict(flags))


@dataclasses.dataclass
class _Run:
    """A run whose folder exists and is locked."""

    settings: RunSettings
    market: Market
    folder: Path
    info: dict[str, Any]
    reporter: Reporter
    resume: bool
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    refit_seconds: float = 0.0

    @property
    def brief(self) -> bool:
        """Whether only the figures of the model are wanted."""
        return self.info.get("brief", False)

    def train(self, first: Training | None, begun: float) -> list[FoldResult]:
        """Returns the results of all folds; `first` is the first fold's training, ready to run."""
        results, starts, num_folds = [], [begun], len(self.market.folds)
        self.reporter.announce_device(self.info["devices"])
        initial = first and first.start
        for number in range(num_folds):
            if first is None:
                processes.barrier(f"fold {number}")
                start = start_of_fold(self.settings, results, initial)
                first = assemble(
                    self.settings, self.market, number, start=start, note=self.reporter.note
                )
            longest = max((b - a for a, b in pairwise(starts)), default=0.0)
            self.reporter.announce_number(number, num_folds, left=longest * (num_folds - number))
            training, first = first, None
            results.append(self._train_fold(training))
            starts.append(time.perf_counter())
        return results

    def _train_fold(self, first: Training) -> FoldResult:
        number, fold, earlier = first.number, first.fold, list(self.history)
        self.reporter.announce_fold(first, judge.describe_splits(self.market, fold))

        def keep(rows: list[dict[str, Any]]) -> None:
            self.history = [*earlier, *({"fold": number, **row} for row in rows)]
            files.write_history(self.folder / files.HISTORY, self.history)

        seed, importance, brief = self.settings.seed, None, self.brief
        wanted = self.settings.blend if brief else FITTED
        sums = np.float64 if self.settings.blend else None

        def fit(progress: Progress) -> dict[str, Learner]:
            return fit_learners(
                self.market, fold, seed=seed, names=wanted, sums=sums, progress=progress
            )

        # Meanwhile the network compiles, and trains mostly on one core.
        with beside(fit) as wait:

            def fitted() -> dict[str, Learner]:
                what = _("constant prior, persistence, logistic regression, boosted trees")
                with (SILENT if brief else self.reporter).working(_("baselines"), what) as done:
                    return wait(done)

            result = self._train(first, on_rows=keep, fit=fitted)
            if not brief:  # before the baselines, since other processes take part
                importance = explain(result.deployed.answer, self.market, fold, seed=seed)
            shown = {} if brief else result.blend.learners if result.blend else fitted()
        release_memory()  # the training's, before its figures are made
        baselines = baseline_probabilities(self.market, fold, shown)
        return dataclasses.replace(result, importance=importance, baselines=baselines)

    def _train(
        self,
        first: Training,
        on_rows: Callable[[list[dict[str, Any]]], None],
        fit: Callable[[], dict[str, Learner]] | None = None,
    ) -> FoldResult:
        return train_fold(
            first,
            self.folder / files.CHECKPOINTS / f"fold-{first.number}",
            resume=self.resume,
            note=lambda text: self.reporter.log(_("alarm"), text),
            on_member=self.reporter.announce_member,
            on_rows=on_rows,
            made_from=self.info[ORIGINS][-1],
            reporter=self.reporter,
            fit=fit,
        )

    def refit(self, results: Sequence[FoldResult], initial: Start | None) -> FoldResult:
        """Trains the last fold's model once more, on all bars, with what was chosen in it."""
        begun = time.perf_counter()
        training = refit_training(self.settings, self.market, results, initial)
        self.reporter.log(
            _("refit"),
            _(
                "on all {num_windows:,} windows, with what validation chose",
                num_windows=len(training.fold.train),
            ),
        )
        result = self._train(training, on_rows=lambda rows: None)
        self.refit_seconds = time.perf_counter() - begun
        return result

    def write(
        self,
        results: Sequence[FoldResult],
        refit: FoldResult | None,
        begun: float,
        flags_used: dict[str, Any],
    ) -> Metrics:
        """Writes model, predictions, metrics and report; returns the metrics.

        Args:
            results: of all folds.
            refit: the model to ship instead of the last fold's; None to ship that one.
            begun: when the run began.
            flags_used: as a dictionary.
        """
        folder, last = self.folder, results[-1].deployed
        metrics = run_metrics(
            self.market,
            results,
            monitor=self.settings.training.monitor,
            cost_bps=self.settings.cost_bps,
            seed=self.settings.seed,
        )
        optimum = known_optimum(
            self.info.get("data"), self.market, [result.fold for result in results]
        )
        metrics = dataclasses.replace(metrics, known_optimum=optimum)
        if refit is not None:
            metrics = with_refit(metrics, self.market, refit, self.refit_seconds)
            self.info["refit"] = metrics.refit and metrics.refit.training_period
            save_model(last.model, folder / files.JUDGED)
        save_model((refit or results[-1]).deployed.model, folder / files.MODEL)
        self._write_predictions(results, "validation", folder / files.VALIDATION)
        predictions = self._write_predictions(results, "test", folder / files.PREDICTIONS)
        self.info |= {
            "wall_seconds": time.perf_counter() - begun,
            "peak_memory_bytes": files.peak_memory_bytes(),
            "other_runs_on_these_bars": files.other_runs_on(folder, self.info["bars_sha256"]),
        }
        files.write_json(folder / files.RUN, self.info)
        with speaking(LANGUAGES[0]):  # files are the same in every language
            written = in_words(metrics)
        files.write_json(folder / files.METRICS, to_plain(written))
        # Pictures come last, so that a failure there costs no training: `resume` makes a missing
        # report.
        if self.brief:
            self.reporter.log(_("file"), str(folder / files.METRICS))
            return written
        seen = in_words(metrics, 1 + self.info["other_runs_on_these_bars"])
        page = report_page(
            folder.name,
            metrics=seen,
            history=pd.DataFrame(self.history),
            predictions=predictions,
            recent=judge.recent_bars(self.market, results[-1].fold, last.probabilities["test"]),
            run_info=self.info,
            flags=flags_used,
            defaults=as_dict(Flags()),
        )
        files.write_text(folder / files.REPORT, page)
        self.reporter.conclude(seen, folder, self.info)
        return written

    def _write_predictions(
        self, results: Sequence[FoldResult], split: str, path: Path
    ) -> pd.DataFrame:
        table = judge.predictions_table(
            self.market,
            [result.fold for result in results],
            [result.deployed.probabilities[split] for result in results],
            split,
        )
        files.write(path, lambda temporary: table.to_parquet(temporary, index=False))
        return table


def run_worker(
    flags: Flags,
    market: Market,
    folder: Path,
    *,
    resume: bool,
    brief: bool,
    start: Path | None = None,
) -> None:
    """Trains all folds along with the process that runs `run`; writes and prints nothing.

    Args:
        flags: checked.
        market: the same as there.
        folder: of the run; only read, and only to resume.
        resume: as for `run`.
        brief: whether to skip the importance of features.
        start: as for `run`.
    """
    settings, results = run_settings(flags), []

    def train_here(training: Training) -> FoldResult:
        return train_fold(
            training,
            folder / files.CHECKPOINTS / f"fold-{training.number}",
            resume=resume,
            note=SILENT.note,
            on_member=SILENT.announce_member,
            on_rows=lambda rows: None,
        )

    initial = None
    for number, fold in enumerate(market.folds):
        processes.barrier(f"fold {number}")
        if start is not None and not number:
            initial = start_of(start, market)
        begin = start_of_fold(settings, results, initial)
        results.append(train_here(assemble(settings, market, number, start=begin)))
        if not brief:
            explain(results[-1].deployed.answer, market, fold, seed=settings.seed)
    if settings.refit:
        train_here(refit_training(settings, market, results, initial))


def _devices() -> list[str]:
    return [str(device) for device in keras.distribution.list_devices()]
