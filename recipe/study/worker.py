"""A worker: takes open cells of a study one after another and trains each in a child process.

A killed worker cannot end its child. The child therefore watches the pipe from its worker, which
the system then closes, and kills itself at once: another worker may resume the run, and two must
not write to one folder.
"""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from config import Flags, as_dict
from config import load as load_flags
from core import place
from core.errors import InputError
from core.i18n import N_
from core.lock import Lock
from recipe.run import folder as files
from recipe.study.plan import DONE, FAILED, OPEN, PRUNED, Plan, load

INTERRUPTED = 130
LOCKS = "locks"
WORSE = N_("its validation NLL was worse than the median of the others")
NO_OUTPUT = N_("it printed nothing")
CHILD = "--child"  # this module is run as the process of a cell
STORAGE = "XLSTM_STUDY_STORAGE"  # a command shows passwords to others


def work(
    folder: Path,
    storage: str = "",
    *,
    module: str = place.module("train_model"),
    pause: float = 2.0,
) -> None:
    """Works until every cell of the study has ended.

    A worker holds the lock of its cell. The system releases it however the worker ends, and another
    worker then resumes the cell.

    Args:
        folder: of the study.
        storage: URL of the database to copy the trials to; "" for none.
        module: the command line with `train` and `resume`.
        pause: seconds between looks at a child, or at the other workers.

    Raises:
        InputError: if a file of the study was changed, or the folder is on a disk without file
            locks.
    """
    plan = load(folder)
    (folder / LOCKS).mkdir(exist_ok=True)
    while any(plan.state(cell) == OPEN for cell in plan.cells):
        taken = take(plan)
        if taken is None:
            time.sleep(pause)
            continue
        cell, lock = taken
        try:
            _work_on(plan, cell, module, pause)
        finally:
            lock.let_go()
        if storage:
            from recipe.study.trials import copy_to

            copy_to(plan, storage)


def take(plan: Plan) -> tuple[str, Lock] | None:
    """Returns an open cell that nobody works on, with its lock held; None if there is none."""
    for cell in plan.cells:
        lock = lock_of(plan, cell)
        if plan.state(cell) != OPEN or not lock.take():
            continue
        if not lock.sure:
            lock.let_go()
            raise InputError(
                "the folder of a study must be on a disk that knows file locks: {folder}",
                folder=plan.folder,
            )
        if plan.state(cell) == OPEN:  # its last worker may have just ended it
            return cell, lock
        lock.let_go()
    return None


def is_worked_on(plan: Plan, cell: str) -> bool:
    """Returns whether a worker, here or elsewhere, holds the lock of a cell."""
    lock = lock_of(plan, cell)
    if not lock.path.exists():
        return False
    if lock.take():  # left by a killed worker
        lock.let_go()
        return False
    return True


def lock_of(plan: Plan, cell: str) -> Lock:
    """Returns the lock of a cell."""
    return Lock(plan.folder / LOCKS / f"{cell}.lock", cell)


def _work_on(plan: Plan, cell: str, module: str, pause: float) -> None:
    flags, hopeless = as_dict(plan.cells[cell].flags), lambda: False
    if plan.kind == "sweep":
        from recipe.study.trials import draw, pruner

        flags, hopeless = draw(plan, cell), pruner(plan, cell)
    try:
        run_cell(plan, cell, load_flags(**flags), hopeless, module, pause)
    except InputError as error:  # the drawn flags break a rule
        plan.end(cell, FAILED, str(error))


def run_cell(
    plan: Plan, cell: str, flags: Flags, hopeless: Callable[[], bool], module: str, pause: float
) -> None:
    """Trains a cell, or resumes it, and records in its folder how that ended."""
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
        open(log, "ab") as output,
        subprocess.Popen(
            [sys.executable, "-m", place.module("recipe.study.worker"), CHILD, module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=place.environment(),
        ) as child,
    ):
        try:
            pruned = _wait(child, hopeless, pause)
        finally:
            child.kill()
    if child.returncode == INTERRUPTED:
        raise KeyboardInterrupt  # the cell stays open
    if pruned:
        plan.end(cell, PRUNED, WORSE)
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


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else NO_OUTPUT


def _be_child(module: str, *arguments: str) -> None:
    """Runs a module as a command, as long as the worker that started this process lives."""

    def end_with_the_worker() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_the_worker, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1] == CHILD:
        _be_child(*sys.argv[2:])
    else:
        try:
            work(Path(sys.argv[1]), os.environ.get(STORAGE, ""))
        except InputError as error:  # a file of the study was broken meanwhile
            sys.exit("\n".join(error.faults))
