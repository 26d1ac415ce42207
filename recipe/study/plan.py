"""The plan of a study: its cells, their flags and the state of each, all in a folder.

studies/ID/study.json       kind, bars, flags
           cells/CELL.json  the flags of a cell, once it was begun
           runs/CELL/       its run folder
           ended/CELL.json  why a cell has no result; remove it, and the cell is tried again
           logs/CELL.txt    what its process said
           locks/           of the cells that somebody works on
           draw.lock        held while the flags of a sweep are drawn
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import config
from core.contract import is_count, is_number, is_text
from core.errors import InputError
from core.i18n import _
from evaluation.figures.summary import NLLSummary
from recipe.run import folder as files
from recipe.study import arms
from recipe.study.arms import Range
from recipe.study.checked import read, value_of

FILE = "study.json"
KINDS = ("ablation", "sweep", "seeds")
DONE, FAILED, PRUNED, OPEN = "done", "failed", "pruned", "open"
ENDS = (FAILED, PRUNED)
MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        name: of its run folder.
        arm: what it has in common with the cells of other seeds.
        flags: checked; for a sweep, without what Optuna draws.
    """

    name: str
    arm: str
    flags: config.Flags


@dataclass(frozen=True)
class Plan:
    """A study.

    Args:
        folder: of the study.
        name: of the study in its storage.
        kind: one of KINDS.
        data: path of the bars; None for the sample.
        flags: of the arm with everything as flagged.
        count: seeds, or trials of a sweep.
        database: whether the storage is a database.
    """

    folder: Path
    name: str
    kind: str
    data: str | None
    flags: config.Flags
    count: int
    database: bool

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The cells by name, seed after seed, so that half a study compares all arms."""
        if self.kind == "sweep":
            names = [f"trial-{number:04d}" for number in range(self.count)]
            return {name: Cell(name, name, self.flags) for name in names}
        flags_of_arms = (
            arms.arms(self.flags) if self.kind == "ablation" else {"as-flagged": self.flags}
        )
        first, size = self.flags.SEED, self.flags.ENSEMBLE_SIZE
        cells = [
            Cell(f"{arm}-seed{seed}", arm, config.load([f"SEED={seed}"], **config.as_dict(flags)))
            for seed in range(first, first + self.count * size, size)  # members have the others
            for arm, flags in flags_of_arms.items()
        ]
        return {cell.name: cell for cell in cells}

    def run(self, cell: str) -> Path:
        """Returns the run folder of a cell."""
        return self.folder / "runs" / cell

    def flags_file(self, cell: str) -> Path:
        """Returns the file with the flags of a cell that was begun."""
        return self.folder / "cells" / f"{cell}.json"

    def state(self, cell: str) -> str:
        """Returns done, failed, pruned or open."""
        if (self.run(cell) / files.METRICS).exists():
            return DONE
        path = self._ended(cell)
        return value_of(path, ["state"], ENDS.__contains__) if path.exists() else OPEN

    def reason(self, cell: str) -> str:
        """Returns why a cell failed or was pruned, in the current language; files are English."""
        text = value_of(self._ended(cell), ["reason"], lambda value: isinstance(value, str))
        ended = re.fullmatch(r"status (-?\d+): (.*)", text)
        if ended is None:
            return _(text)
        return _("status {status}: {reason}", status=ended[1], reason=_(ended[2]))

    def end(self, cell: str, state: str, reason: str) -> None:
        """Records that a cell has no result, and why."""
        files.write_json(self._ended(cell), {"state": state, "reason": reason})

    def value(self, cell: str) -> float:
        """Returns the mean NLL of a finished run on the validation windows of its folds, nats."""
        folds = read(NLLSummary, self.run(cell) / files.METRICS).folds
        return sum(fold.validation.nll for fold in folds) / len(folds)

    def drawn(self, cell: str, space: Mapping[str, Range]) -> dict[str, float]:
        """Returns the drawn flags that a cell of a sweep was begun with.

        Raises:
            InputError: where one is no number in its range.
        """

        def value(name: str, bounds: Range) -> float:
            holds = partial(is_number, least=bounds.low, largest=bounds.high)
            return value_of(self.flags_file(cell), [name], holds)

        return {name: value(name, bounds) for name, bounds in space.items()}

    def _ended(self, cell: str) -> Path:
        return self.folder / "ended" / f"{cell}.json"


def make(
    folder: Path, kind: str, data: str | None, flags: config.Flags, count: int, *, database: bool
) -> Plan:
    """Returns a new study, whose folder it makes.

    Raises:
        InputError: where the folder is there already, or the flags do not suit the study.
    """
    files.check_absent(folder)
    if count < 1:
        raise InputError("a study needs at least 1 seed or trial, got {count}", count=count)
    if data is not None and Path(data).exists():
        data = str(Path(data).absolute())
    name = f"{folder.name}-{secrets.token_hex(4)}"  # a database may hold many studies
    plan = Plan(folder, name, kind, data, flags, count, database)
    len(plan.cells)  # bad flags leave nothing behind
    files.make(folder)
    for part in ("cells", "runs", "ended", "logs", "locks"):
        (folder / part).mkdir()
    files.write_json(
        folder / FILE,
        {
            "name": name,
            "kind": kind,
            "data": data,
            "count": count,
            "database": database,
            "flags": config.as_dict(flags),
            "versions": files.versions(),
        },
    )
    return plan


def load(folder: Path) -> Plan:
    """Returns the study in a folder.

    Raises:
        InputError: where there is none.
    """
    content = files.read_json(folder / FILE)
    faults = [name for name, holds in _PARTS.items() if not holds(content.get(name))]
    if faults:
        wrong = ", ".join(faults)
        raise InputError(
            "{folder} must be that of a study; missing or unknown: {wrong}",
            folder=folder / FILE,
            wrong=wrong,
        )
    return Plan(
        folder,
        content["name"],
        content["kind"],
        content["data"],
        config.load(**content["flags"]),
        content["count"],
        content["database"],
    )


_PARTS: dict[str, Callable[[Any], bool]] = {
    "name": is_text,
    "kind": lambda value: value in KINDS,
    "data": lambda value: value is None or isinstance(value, str),
    "count": lambda value: is_count(value, 1, MOST_CELLS),
    "database": lambda value: isinstance(value, bool),
    "flags": lambda value: isinstance(value, dict) and not {"assignments", "replay"} & set(value),
}
