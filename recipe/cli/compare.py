"""Finished runs, read from their folders to be compared."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from core.errors import InputError
from core.i18n import _
from evaluation.report.compare import Run
from recipe.run import folder as files


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Returns the runs of some folders.

    Raises:
        InputError: for fewer than two folders, one given twice, and one without a finished run.
    """
    if len(folders) < 2:
        raise InputError(
            _("compare needs two run folders or more, got {num_folders}", num_folders=len(folders))
        )
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            _(
                "compare needs different run folders, got {folders}",
                folders=" ".join(map(str, folders)),
            )
        )
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Run:
    flags, run_info, metrics = (
        files.read_json(folder / name) for name in (files.CONFIG, files.RUN, files.METRICS)
    )
    if not metrics.get("folds"):
        raise InputError(
            _(
                "{path} must have folds; that of an earlier version has none",
                path=folder / files.METRICS,
            )
        )
    if "direction" not in metrics.get("test", {}):
        raise InputError(
            _(
                "{path} must have the skill in direction; that of an earlier version has none: "
                "train that run again",
                path=folder / files.METRICS,
            )
        )
    path = folder / files.PREDICTIONS
    try:
        predictions = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            _("{path} must be the predictions of a finished run: {error}", path=path, error=error)
        ) from error
    return Run(str(folder), flags, run_info, metrics, predictions)
