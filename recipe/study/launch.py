"""Starts the workers of a study and reports its progress."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from core import place
from core.contract import is_number
from core.errors import InputError
from core.i18n import _, listed, ngettext
from recipe.run import folder as files
from recipe.study.plan import DONE, FAILED, OPEN, PRUNED, Plan
from recipe.study.worker import STORAGE, is_worked_on


def run_workers(
    plan: Plan, num_workers: int, storage: str, say: Callable[[str], None], pause: float = 2.0
) -> bool:
    """Runs workers on the open cells, and returns whether every cell has ended.

    Args:
        plan: of the study; other machines may work on it too.
        num_workers: processes.
        storage: URL of the database to copy the trials to; "" for none.
        say: called with the progress whenever it has changed.
        pause: seconds between looks.

    Raises:
        InputError: if the storage cannot be opened or is not the study's, or a sweep lacks Optuna.
    """
    check_storage(plan, storage)
    environment = place.environment() | {STORAGE: storage}
    command = [sys.executable, "-m", place.module("recipe.study.worker"), str(plan.folder)]
    # In sessions of their own: Ctrl-C is for this process, which ends them.
    workers = [
        subprocess.Popen(command, env=environment, start_new_session=True)
        for _worker in range(num_workers)
    ]
    last_text = ""
    try:
        while True:
            working = [worker for worker in workers if worker.poll() is None]
            text = progress(plan, len(working))
            if text != last_text:
                say(text)
                last_text = text
            if not working:
                return all(plan.state(cell) != OPEN for cell in plan.cells)
            time.sleep(pause)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def check_storage(plan: Plan, storage: str) -> None:
    """Checks that the database is the one that the study was begun with.

    Raises:
        InputError: if it is not, cannot be opened, or Optuna is needed and missing.
    """
    if plan.database != bool(storage):
        needs = _("its database: --storage URL") if plan.database else _("no --storage")
        raise InputError("the study in {folder} needs {needs}", folder=plan.folder, needs=needs)
    if storage or plan.kind == "sweep":
        from recipe.study.trials import copy_to

        if storage:
            copy_to(plan, storage)


def progress(plan: Plan, num_workers: int = 0) -> str:
    """Returns a line: how many cells are done, running and failed, and the time left.

    Args:
        plan: of the study.
        num_workers: known to be alive; between two cells a worker does not show as running.
    """
    states = {cell: plan.state(cell) for cell in plan.cells}
    count = Counter(states.values())
    running = sum(is_worked_on(plan, cell) for cell, state in states.items() if state == OPEN)
    parts = [
        _("{done} of {all} cells done", done=count[DONE], all=len(states)),
        ngettext("{n} running", "{n} running", running),
        ngettext("{n} failed", "{n} failed", count[FAILED]),
    ]
    if count[PRUNED]:
        parts.append(ngettext("{n} pruned", "{n} pruned", count[PRUNED]))
    seconds = [wall_seconds(plan, cell) for cell, state in states.items() if state == DONE]
    at_once = max(running, num_workers)
    if count[OPEN] and seconds and at_once:
        left = float(np.mean(seconds)) * count[OPEN] / at_once
        parts.append(_("about {span} left", span=_span(left)))
    return listed(parts)


def wall_seconds(plan: Plan, cell: str) -> float:
    """Returns the seconds of the process that finished a run."""
    seconds: Any = files.read_json(plan.run(cell) / files.RUN).get("wall_seconds")
    return seconds if is_number(seconds, 0) else 0.0


def _span(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes < 120:
        return _("{n} min", n=minutes)
    if minutes < 48 * 60:
        return _("{n:.1f} h", n=minutes / 60)
    return _("{n:.1f} days", n=minutes / 1440)
