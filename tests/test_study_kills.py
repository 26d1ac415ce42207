"""Workers of a study, killed at random moments: no cell is lost, none ends in other figures."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from study_workers import HERE, QUICK, begun, made, start_worker
from tiny_run import TINY, metrics_of

import config
from core import place
from recipe.study import plan as plans
from recipe.study.worker import work

pytestmark = pytest.mark.slow
MOMENTS, STUDY_SECONDS = 20, 6.0


def killed_after(worker, seconds):
    time.sleep(seconds)
    worker.send_signal(signal.SIGKILL)
    return worker.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        plan = made(tmp_path_factory.mktemp("alone") / "study", count=4)
        work(plan.folder, **QUICK)
    return {cell: plan.value(cell) for cell in plan.cells}


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_another_worker_ends_what_a_killed_one_left(seed, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    plan = made(tmp_path / "study", count=4)
    killed, other = start_worker(plan), start_worker(plan)
    moment = np.random.default_rng(seed).uniform(0, STUDY_SECONDS)
    killed_after(killed, moment)
    assert other.wait(120) == 0
    assert {cell: plan.value(cell) for cell in plan.cells} == undisturbed
    verbs = begun(plan)
    assert all(done in (["train"], ["train", "resume"]) for done in verbs.values()), verbs
    assert sum(len(done) - 1 for done in verbs.values()) <= 1  # the killed one's, at most


def real_study(folder, bars_file):
    return plans.make(folder, "seeds", str(bars_file), config.load(**TINY), 2, database=False)


def start(plan):
    command = [sys.executable, "-m", "recipe.study.worker", str(plan.folder)]
    return subprocess.Popen(command, env=place.environment(), stderr=subprocess.DEVNULL)


def figures(plan):
    found = {}
    for cell in plan.cells:
        metrics = metrics_of(plan.run(cell))
        found[cell] = json.dumps(metrics, sort_keys=True)
        found[cell] += (plan.run(cell) / "history.csv").read_text()
    return found


def test_real_trainings_that_are_killed_again_and_again_end_alike(bars_file, tmp_path):
    alone, shared = (real_study(tmp_path / name, bars_file) for name in ("alone", "shared"))
    assert start(alone).wait(900) == 0
    random, kills = np.random.default_rng(31), 0
    for _ in range(5):
        kills += killed_after(start(shared), random.uniform(1, 25))
    assert start(shared).wait(900) == 0
    assert all(shared.state(cell) == plans.DONE for cell in shared.cells)
    assert figures(shared) == figures(alone)
    assert kills >= 2
