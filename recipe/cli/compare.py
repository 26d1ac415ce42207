"""Finished runs, read from their folders to be compared, and what is said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InputError
from core.foreign import check_regular, reason_of
from core.i18n import N_, _, ngettext, number
from evaluation.figures.plain import Mismatch, from_plain
from evaluation.figures.summary import RunSummary
from evaluation.report.compare import Run
from recipe.cli.screen import log, table
from recipe.run import folder as files
from recipe.run import run_json

_SHOWN = {
    "validation_direction": N_("val. direction"),
    "direction": N_("test direction"),
    "mcc": N_("test MCC"),
}
_CODES = {"label": (0, 1, 2), "call": (0, 1, 2), "side": (-1, 0, 1)}


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


def comparison(found: dict[str, Any]) -> None:
    """Prints what `evaluation.report.compare.compare_runs` found."""
    for group in found["groups"]:
        rows = group["rows"]
        log(_("bars"), _("{data}, {digest}", data=_data_of(group), digest=group["bars"]))
        table(
            {
                _("run"): max(len(row["name"]) for row in rows) + 2,
                **{_(name): 9 for name in _SHOWN.values()},
                _("seconds"): 9,
                _("above {best}", best=rows[0]["name"]): 30,
            },
            [_compared(row) for row in rows],
        )
    for name, values in found["flags"].items():
        log(_("flag"), f"{name}: {', '.join(map(str, values))}")
    log(
        _("note"),
        ngettext(
            "{n} runs were looked at; the best of several looks better than it is",
            "{n} runs were looked at; the best of several looks better than it is",
            len(found["rows"]),
        ),
    )


def _data_of(group: Mapping[str, Any]) -> str:
    return _("the sample") if group["data"] is None else str(group["data"])


def _compared(row: dict[str, Any]) -> list[str]:
    scores = [number(row["values"][name], ".4f") for name in _SHOWN]
    seconds = "" if row["seconds"] is None else number(row["seconds"], ",.0f")
    return [row["name"], *scores, seconds, _above(row)]


def _above(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return "" if row["same_windows"] else _("other test windows or labels")
    low, high = row["interval"]
    return _(
        "{difference:+.4f} ({low:+.4f} to {high:+.4f})",
        difference=row["difference"],
        low=low,
        high=high,
    )


def _read(folder: Path) -> Run:
    flags, metrics = (files.read_json(folder / name) for name in (files.CONFIG, files.METRICS))
    run_info = run_json.read(folder)
    if not metrics.get("folds"):
        raise InputError(
            _(
                "{path} must have folds; that of an earlier version has none",
                path=folder / files.METRICS,
            )
        )
    if isinstance(metrics.get("test"), dict) and "direction" not in metrics["test"]:
        raise InputError(
            _(
                "{path} must have the skill in direction; that of an earlier version has none: "
                "train that run again",
                path=folder / files.METRICS,
            )
        )
    figures = _figures(folder / files.METRICS, metrics)
    predictions = _predictions(folder / files.PREDICTIONS)
    return Run(str(folder), flags, run_info, figures, predictions)


def _figures(path: Path, metrics: Any) -> RunSummary:
    """Returns the figures that are compared, checked: somebody may have edited them."""
    try:
        figures = from_plain(RunSummary, metrics)
        if figures.verdict.block_seconds < 1:
            raise Mismatch("verdict.block_seconds", figures.verdict.block_seconds)
    except Mismatch as mismatch:
        raise InputError(run_json.not_written(path, mismatch.name, mismatch.value)) from None
    return figures


def _predictions(path: Path) -> pd.DataFrame:
    """Returns the test windows of a run."""
    try:
        check_regular(path, str(path))
        table = pd.read_parquet(path)
        missing = {"symbol", *_CODES, "timestamp"} - set(table)
        if missing:
            raise ValueError(f"there is no {', '.join(sorted(missing))}")
        if not pd.api.types.is_datetime64_any_dtype(table["timestamp"]):
            raise ValueError("timestamp holds no times")
        for name, codes in _CODES.items():
            if not set(table[name]) <= set(codes):
                raise ValueError(f"{name} must be one of {codes}")
        return table.assign(symbol=table["symbol"].astype(str))
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise InputError(
            _(
                "{path} must be the predictions of a finished run: {error}",
                path=path,
                error=reason_of(error),
            )
        ) from error
