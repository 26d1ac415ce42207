"""Studies by real worker processes, over a command that stands for the training."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import config
from data.errors import InputError

optuna = pytest.importorskip("optuna", reason="needs the extra `study` (Optuna)")

from recipe.study import plan as plans  # noqa: E402
from recipe.study.launch import progress  # noqa: E402
from recipe.study.queue import JOURNAL, Queue  # noqa: E402
from recipe.study.worker import own_modules, work  # noqa: E402

HERE = Path(__file__).parent
QUICK = {"module": "fake_cell", "pause": 0.05}


@pytest.fixture(autouse=True)
def fake_command_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def made(folder, kind="seeds", count=3, data=None, database=False):
    return plans.make(folder, kind, data, config.Flags(), count, database=database)


def start_worker(plan, storage="", grace=60.0):
    arguments = f"pathlib.Path({str(plan.folder)!r}), {storage!r}, grace={grace}, **{QUICK}"
    code = f"import pathlib; from recipe.study.worker import work; work({arguments})"
    return subprocess.Popen([sys.executable, "-c", code], env=own_modules())


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def cell_of(plan, worker):
    """Returns the cell whose training a worker is in the middle of."""
    for path in (plan.folder / "beats").glob("*.json"):
        try:
            beat = json.loads(path.read_text())
        except OSError:
            continue
        if beat["pid"] == worker.pid and (plan.run(beat["cell"]) / "history.csv").exists():
            return beat["cell"]
    return None


def begun(plan):
    return {c: (plan.run(c) / "begun.txt").read_text().split() for c in plan.cells}


def values(plan):
    return {cell: plan.value(cell) for cell in plan.cells}


def kill_one_of_two(plan, storage=""):
    """Kills a worker in the middle of a cell, has another end the study; returns that cell."""
    Queue(plan, storage).refill()
    first, second = start_worker(plan, storage), start_worker(plan, storage)
    wait_for(lambda: cell_of(plan, first))
    cell = cell_of(plan, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(120) == 0
    return cell


def test_a_killed_workers_cell_is_resumed_and_every_cell_done_once(tmp_path):
    alone, shared = made(tmp_path / "alone", count=4), made(tmp_path / "shared", count=4)
    work(alone.folder, **QUICK)
    killed = kill_one_of_two(shared)
    assert begun(shared) == {
        cell: ["train", "resume"] if cell == killed else ["train"] for cell in shared.cells
    }
    assert values(shared) == values(alone)
    assert not list((shared.folder / "beats").iterdir())
    assert progress(shared) == "4 of 4 done, 0 running, 0 failed"


def test_the_process_of_a_cell_ends_with_its_killed_worker(tmp_path):
    plan = made(tmp_path / "study", count=1)
    worker = start_worker(plan)
    wait_for(lambda: cell_of(plan, worker))
    worker.kill()
    worker.wait()
    rows = plan.run("as-flagged-seed0") / "history.csv"
    time.sleep(0.3)
    then = rows.read_text()
    time.sleep(1.0)  # four steps' time
    assert rows.read_text() == then and plan.state("as-flagged-seed0") == plans.OPEN


def test_a_cell_that_fails_is_told_with_its_reason_and_tried_again_where_that_is_removed(tmp_path):
    plan = made(tmp_path / "study", data="broken at seed 1")
    work(plan.folder, **QUICK)
    assert [plan.state(cell) for cell in plan.cells] == ["done", "failed", "done"]
    assert plan.reason("as-flagged-seed1") == "status 1: the bars are broken"
    assert progress(plan) == "2 of 3 done, 0 running, 1 failed"
    (plan.folder / "ended" / "as-flagged-seed1.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]


def test_a_lost_storage_is_filled_again_from_the_run_folders(tmp_path):
    plan = made(tmp_path / "study")
    work(plan.folder, **QUICK)
    (plan.folder / JOURNAL).unlink()
    (plan.run("as-flagged-seed1") / "metrics.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed0"] == ["train"]
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]
    assert plan.state("as-flagged-seed1") == plans.DONE


def test_a_cell_that_waits_twice_is_taken_once(tmp_path):
    plan = made(tmp_path / "study", count=1)
    one, two = Queue(plan), Queue(plan)
    one.refill()
    one._study.enqueue_trial({}, user_attrs={"cell": "as-flagged-seed0"})
    assert one.take()[1] == "as-flagged-seed0"
    assert two.take() is None


def test_a_worker_elsewhere_without_a_sign_is_taken_for_dead(tmp_path):
    plan = made(tmp_path / "study", count=1)
    there, here = Queue(plan), Queue(plan, grace=0.2)
    there.refill()
    trial, cell = there.take()
    beat = plan.folder / "beats" / f"{trial.number:05d}.json"
    beat.write_text(json.dumps({"cell": cell, "host": "elsewhere", "pid": os.getpid()}))
    here.refill()
    assert here.take() is None
    time.sleep(0.15)
    os.utime(beat)
    here.refill()
    time.sleep(0.15)
    here.refill()
    assert here.take() is None, "it gave a sign"
    time.sleep(0.3)
    here.refill()
    assert here.take()[1] == cell


def test_a_sweep_draws_within_its_space_repeats_itself_and_prunes(tmp_path):
    drawn = []
    for name in ("one", "two"):
        plan = made(tmp_path / name, kind="sweep", count=9)
        work(plan.folder, **QUICK)
        states = [plan.state(cell) for cell in plan.cells]
        assert set(states) == {"done", "pruned"} and states[:5] == ["done"] * 5
        drawn.append([plan.flags_file(cell).read_text() for cell in plan.cells])
    assert len(set(drawn[0])) == 9
    assert drawn[0][:5] == drawn[1][:5]


def test_a_storage_that_is_not_the_studys_is_refused(tmp_path):
    plan = made(tmp_path / "study")
    with pytest.raises(InputError, match="needs no --storage"):
        Queue(plan, "sqlite://")
    with pytest.raises(InputError, match="--storage URL"):
        Queue(made(tmp_path / "other", database=True))
