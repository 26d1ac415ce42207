"""The run behind a classifier: how it is begun or taken up, and its folder once it has ended."""

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import config
from core.errors import InputError
from core.foreign import writing
from core.i18n import N_, _
from recipe.cli.backend import load_model, quiet_backend
from recipe.run import folder as files
from recipe.run.origin import (
    changes_since,
    check_checkpoints,
    known_origins,
    origin,
    read_run,
    taken_up,
)
from xlstm_classifier.card import Evaluation

# What a model is without: checkpoints are for the training alone.
SAVED = (
    *(files.CONFIG, files.RUN, files.MODEL, files.METRICS, files.HISTORY),
    *(files.PREDICTIONS, files.VALIDATION, files.REPORT),
)


class TemporaryFolder:
    """A folder that goes with the object, or with the process."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="xlstm-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass
class FinishedRun:
    """A finished run: its folder, and what is read of it once it is asked for.

    Attributes:
        folder: of the run.
        temporary: that goes with this object, if any.
    """

    folder: Path
    temporary: TemporaryFolder | None = None

    def check(self) -> None:
        """Raises InputError where the folder holds no finished run."""
        for name in (files.CONFIG, files.RUN, files.METRICS):
            files.read_json(self.folder / name)
        if not (self.folder / files.MODEL).is_file():
            raise InputError(
                "need a finished run; {folder} has no {name}", folder=self.folder, name=files.MODEL
            )

    def copy_to(self, new: Path) -> None:
        """Copies model, figures and report into a new folder, whole or not at all."""
        files.check_absent(new, N_("folder of the model"))
        whole = new.with_name(f".{new.name}.tmp")
        shutil.rmtree(whole, ignore_errors=True)  # of a process that was killed
        files.make(whole)
        with writing(new):
            for name in SAVED:
                if (self.folder / name).exists():
                    shutil.copyfile(self.folder / name, whole / name)
            whole.rename(new)

    @cached_property
    def model(self) -> Any:
        """The deployable model."""
        return load_model(self.folder / files.MODEL)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The figures."""
        metrics = files.read_json(self.folder / files.METRICS)
        return Evaluation.of(metrics, read_run(self.folder), self.folder)


def take_up(
    flags: config.Flags, market: Any, folder: Path, bars_info: dict[str, Any], reporter: Any
) -> None:
    """Goes on with a run, unless it has ended."""
    with files.lock(folder):
        before, saved = read_run(folder), files.read_json(folder / files.CONFIG)
        known, current = known_origins(before, saved), origin(flags, bars_info)
        ended = (folder / files.METRICS).exists() and (folder / files.REPORT).exists()
        if ended:
            changes = files.differences(known[-1], current)
        else:
            changes = check_checkpoints(folder, known) + changes_since(before, known, current)
        if changes:
            faults = [_("{change}: the run cannot go on with it", change=text) for text in changes]
            raise InputError(faults)
        if not ended:
            run_info = taken_up(before | bars_info, known, current)
            train(flags, market, folder, run_info, reporter, resume=True)


def train(
    flags: config.Flags,
    market: Any,
    folder: Path,
    run_info: dict[str, Any],
    reporter: Any,
    *,
    resume: bool,
) -> None:
    """Trains a market in a run folder, once the backend has started."""
    quiet_backend()
    from recipe.run.run import run

    run(flags, market, folder, run_info=run_info, resume=resume, reporter=reporter)
