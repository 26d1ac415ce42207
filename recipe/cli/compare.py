"""Reads finished runs from their folders, and prints how they compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.i18n import N_, _, ngettext, number
from evaluation.figures.summary import RunSummary
from evaluation.report.compare import Run
from recipe.cli.screen import log, table
from recipe.run import folder as files
from recipe.run.origin import read_run
from recipe.study.checked import predictions, read

_SHOWN = {
    "validation_direction": N_("val. direction"),
    "direction": N_("test direction"),
    "mcc": N_("test MCC"),
}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Returns the runs of some folders.

    Raises:
        InputError: for fewer than two folders, for a folder given twice, and with a line for each
            one without a finished run.
    """
    if len(folders) < 2:
        raise InputError(
            "compare needs two run folders or more, got {num_folders}", num_folders=len(folders)
        )
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            "compare needs different run folders, got {folders}",
            folders=" ".join(map(str, folders)),
        )
    runs, faults = [], []
    for folder in folders:
        try:
            runs.append(_read(folder))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return runs


def comparison(result: dict[str, Any]) -> None:
    """Prints the result of `evaluation.report.compare.compare_runs`."""
    for group in result["groups"]:
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
    for name, values in result["flags"].items():
        log(_("flag"), f"{name}: {', '.join(map(str, values))}")
    log(
        _("note"),
        ngettext(
            "{n} runs were looked at; the best of several looks better than it is",
            "{n} runs were looked at; the best of several looks better than it is",
            len(result["rows"]),
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
    flags = files.read_json(folder / files.CONFIG)
    metrics = read(RunSummary, folder / files.METRICS)
    table = predictions(folder / files.PREDICTIONS)
    table = table.assign(symbol=table["symbol"].astype(str))
    return Run(str(folder), flags, read_run(folder), metrics, table)
