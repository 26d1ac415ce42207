"""A worker: asks for a cell of the study, trains it in a process of its own, and asks again."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from config import Flags, as_dict
from core import place
from core.errors import InputError
from recipe.run import folder as files
from recipe.study import beats
from recipe.study.plan import DONE, FAILED, PRUNED, Plan, load
from recipe.study.queue import Queue

INTERRUPTED = 130
STORAGE = "XLSTM_STUDY_STORAGE"  # the URL may hold a password, which others could see in a command


def work(
    folder: Path,
    storage: str = "",
    *,
    module: str = place.module("train_model"),
    grace: float = beats.GRACE,
    pause: float = 2.0,
) -> None:
    """Works until every cell of the study has ended.

    Args:
        folder: of the study.
        storage: URL of its database; "": its journal.
        module: whose `train` and `resume` are called.
        grace: seconds without a sign after which a worker elsewhere counts as dead.
        pause: seconds between two looks at a child, or at what others do.
    """
    plan = load(folder)
    queue = Queue(plan, storage, grace)
    while not queue.all_ended():
        queue.refill()
        taken = queue.take()
        if taken is None:
            time.sleep(pause)
            continue
        trial, cell = taken
        with beats.beating(folder / "beats", trial.number, cell):
            try:
                hopeless = _follow(trial, plan, cell) if plan.kind == "sweep" else lambda: False
                run_cell(plan, cell, queue.flags(trial, cell), hopeless, module, pause)
            except InputError as error:  # what was drawn breaks a rule
                plan.end(cell, FAILED, str(error))
            queue.end(trial, cell)


def run_cell(
    plan: Plan, cell: str, flags: Flags, hopeless: Callable[[], bool], module: str, pause: float
) -> None:
    """Trains a cell, or resumes it where it was begun; its folder says how that ended."""
    run = plan.run(cell)
    if run.exists() and not (run / files.RUN).exists():
        shutil.rmtree(run)  # killed before its first file
    files.write_json(plan.flags_file(cell), as_dict(flags))
    if run.exists():
        arguments = ["resume", str(run)]
    else:
        data = ["--data", plan.data] if plan.data else []
        flags_file = str(plan.flags_file(cell))
        arguments = ["train", "--brief", *data, "--config", flags_file, "--out", str(run)]
    log = plan.folder / "logs" / f"{cell}.txt"
    with (
        open(log, "ab") as told,
        subprocess.Popen(
            [sys.executable, "-m", place.module("recipe.study.child"), module, *arguments],
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=subprocess.STDOUT,
            env=own_modules(),
        ) as child,
    ):
        try:
            pruned = _wait(child, hopeless, pause)
        finally:
            child.kill()
    if child.returncode == INTERRUPTED:
        raise KeyboardInterrupt  # the cell stays open
    if pruned:
        plan.end(cell, PRUNED, "its validation NLL was worse than the median of the others")
    elif plan.state(cell) != DONE:
        plan.end(cell, FAILED, f"status {child.returncode}: {_last_line(log)}")


def _wait(child: subprocess.Popen, hopeless: Callable[[], bool], pause: float) -> bool:
    """Waits for the child; returns whether it was given up as hopeless."""
    while True:
        try:
            child.wait(pause)
            return False
        except subprocess.TimeoutExpired:
            if hopeless():
                return True


def _follow(trial, plan: Plan, cell: str) -> Callable[[], bool]:
    """Returns what reports the epochs of a run to Optuna and asks whether to give it up."""
    told = 0

    def hopeless() -> bool:
        nonlocal told
        import pandas as pd

        path = plan.run(cell) / files.HISTORY
        if not path.exists():
            return False
        try:
            rows = pd.read_csv(path)
            # Of the first training alone: other folds have other bars, and members begin anew.
            first = (rows["fold"] == 0) & (rows["member"] == 0 if "member" in rows else True)
            values = rows.loc[first, "val_nll"].to_numpy(float)
        except (OSError, ValueError, KeyError, TypeError):  # somebody wrote in it: nothing to tell
            return False
        for step in range(told, len(values)):
            trial.report(float(values[step]), step)
            told = step + 1
            if trial.should_prune():
                return True
        return False

    return hopeless


def own_modules() -> dict[str, str]:
    """Returns the environment of a process that finds these modules from any folder."""
    return place.environment()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]), os.environ.get(STORAGE, ""))
    except InputError as error:  # the journal or a file of the study was broken meanwhile
        sys.exit("\n".join(error.faults))
