"""Workers of a study for tests, over a command that stands for the training."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import config
from core import place
from recipe.study import plan as plans
from recipe.study.worker import work

HERE = Path(__file__).parent
QUICK = {"module": "fake_cell", "pause": 0.05}


def made(folder, kind="seeds", count=3, data=None, database=False):
    return plans.make(folder, kind, data, config.Flags(), count, database=database)


def start_worker(plan, storage=""):
    arguments = f"pathlib.Path({str(plan.folder)!r}), {storage!r}, **{QUICK}"
    code = f"import pathlib; from recipe.study.worker import work; work({arguments})"
    return subprocess.Popen([sys.executable, "-c", code], env=place.environment())


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def cell_of(plan, worker):
    """Returns the cell whose training a worker is in the middle of."""
    for path in (plan.folder / "locks").glob("*.lock"):
        try:
            holder = json.loads(path.read_text())
        except (OSError, ValueError):  # gone, or just taken
            continue
        if holder["pid"] == worker.pid and (plan.run(path.stem) / "history.csv").exists():
            return path.stem
    return None


def begun(plan):
    return {c: (plan.run(c) / "begun.txt").read_text().split() for c in plan.cells}


def check_that_a_killed_workers_cell_is_resumed(folder, monkeypatch, storage=""):
    """Kills one of two workers in the middle of a cell; returns the study that the other ended.

    Every cell must be begun once, the killed one resumed, and the figures those of one worker.
    """
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    alone = made(folder / "alone", count=4)
    shared = made(folder / "shared", count=4, database=bool(storage))
    work(alone.folder, **QUICK)
    monkeypatch.setenv("FAKE_STEP_SECONDS", "0.25")  # long enough to be killed in the middle
    first, second = start_worker(shared, storage), start_worker(shared, storage)
    wait_for(lambda: cell_of(shared, first))
    killed = cell_of(shared, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(120) == 0
    assert begun(shared) == {
        cell: ["train", "resume"] if cell == killed else ["train"] for cell in shared.cells
    }
    values = [{c: plan.value(c) for c in plan.cells} for plan in (alone, shared)]
    assert values[0] == values[1]
    return shared
