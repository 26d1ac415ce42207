"""Finished runs, read from their folders to be compared, and what is said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.contract import is_number
from core.errors import InputError
from core.i18n import N_, _, ngettext, number
from evaluation.report.compare import RANKED, Run
from recipe.cli.screen import log, table
from recipe.run import folder as files
from recipe.run.origin import read_run
from recipe.study.checked import block_seconds, predictions, validation_scores, value_of

_COMPARED = (
    *(("test", name) for name in ("direction", "movement", "mcc", "nll")),
    *(("costs", "model", name) for name in ("net_return", "trades")),
)
_RANKED = ("cross_section", "model")
_SHOWN = {
    "validation_direction": N_("val. direction"),
    "direction": N_("test direction"),
    "mcc": N_("test MCC"),
}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Returns the runs of some folders.

    Raises:
        InputError: for fewer than two folders, one given twice, and one without a finished run.
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
    _check_metrics(folder / files.METRICS)
    table = predictions(folder / files.PREDICTIONS)
    table = table.assign(symbol=table["symbol"].astype(str))
    return Run(str(folder), flags, read_run(folder), metrics, table)


def _check_metrics(path: Path) -> None:
    """Raises InputError where a figure that is compared is none: somebody may have edited it."""
    for name in ("nll", "direction"):
        validation_scores(path, name)
    for names in _COMPARED:
        value_of(path, names, is_number)
    block_seconds(path)
    for names in (_RANKED[:1], _RANKED, *((*_RANKED, name) for name in RANKED)):
        # A run of few symbols has none at all.
        if value_of(path, names, lambda part: part is None or isinstance(part, dict)) is None:
            break
        if names[-1] in RANKED:
            value_of(path, [*names, "value"], lambda value: value is None or is_number(value))
