import importlib.util
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from jax_runs import LEARNING, environment, run
from tiny_run import ROOT, command, wait_for

import train_model
from data.errors import InputError
from recipe import lifeline, processes

WAIT = 20  # seconds
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("host:1", 2, None), "must be given together"),
        ((None, None, 1), "must be given together"),
        (("host:1", 2, 2), "--process must be 0 to 1, got 2"),
        (("host", 2, 0), "must be HOST:PORT"),
        (("host:port", 2, 0), "must be HOST:PORT"),
        (("slurm", 2, None), "needs no --processes"),
        (("slurm", None, None), "started by srun"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, told, monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    with pytest.raises(InputError, match=told):
        processes.check(*options)


def test_several_processes_are_refused_on_tensorflow(bars_file, capsys):
    asked = ["--data", str(bars_file), "--coordinator", "localhost:1"]
    assert train_model.main([*asked, "--processes", "2", "--process", "0"]) == 2
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err


@pytest.fixture
def line():
    """The ends of processes 0 and 1, and what each was told of others that ended."""
    lost = queue.Queue(), queue.Queue()
    first = lifeline.First(1, lambda *told: lost[0].put(told))
    accepted = threading.Thread(target=first.accept)
    accepted.start()
    other = lifeline.Other("localhost", first.port, 1, lambda *told: lost[1].put(told))
    accepted.join(WAIT)
    yield first, other, lost
    first.close()
    other.close()


def test_processes_meet_and_end_together(line):
    first, other, lost = line
    met = queue.Queue()

    def take_part():
        met.put(other.meet("fold 0"))
        other.end()
        other.close()

    beside = threading.Thread(target=take_part)
    beside.start()
    with pytest.raises(queue.Empty):
        met.get(timeout=0.2)
    assert first.meet("fold 0", '{"a value": 1}') == '{"a value": 1}'
    assert met.get(timeout=WAIT) == '{"a value": 1}'
    first.end()
    beside.join(WAIT)
    assert not beside.is_alive() and lost[0].empty() and lost[1].empty()


@pytest.mark.parametrize("ended", [0, 1])
def test_a_process_that_ends_before_its_time_is_told_to_the_other(line, ended):
    first, other, lost = line
    connection = other._connection if ended else first._others[1]
    connection.shutdown(socket.SHUT_RDWR)
    assert lost[1 - ended].get(timeout=WAIT) == (ended, "")


@pytest.mark.parametrize("ended", [0, 1])
def test_the_reason_of_an_end_is_told_to_the_other(line, ended):
    first, other, lost = line
    (first, other)[ended].leave("a disk is full")
    (first, other)[ended].close()
    assert lost[1 - ended].get(timeout=WAIT) == (ended, "a disk is full")


# With real processes


@needs_jax
def test_a_connected_process_ends_by_sigterm():
    code = "import signal; from recipe import processes; "
    code += f"processes._connect('{free_port()}', 1, 0, print); signal.raise_signal(signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return f"localhost:{found.getsockname()[1]}"


def start(cache, verb, folder, count):
    where = free_port()
    return [
        subprocess.Popen(
            command(*verb, "--coordinator", where, "--processes", count, "--process", number),
            env=environment(cache),
            cwd=ROOT,
            stderr=os.open(f"{folder}.{number}.txt", os.O_CREAT | os.O_WRONLY),
        )
        for number in range(count)
    ]


def train(bars_file, folder, *flags):
    return ["train", "--brief", "--data", bars_file, "--out", folder, *LEARNING, *flags]


def assert_the_same(folder, expected):
    """Asserts that two runs have the same history and figures within 1e-4."""
    ours, theirs = (pd.read_csv(each / "history.csv").to_numpy() for each in (folder, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    told = [json.loads((each / "metrics.json").read_text()) for each in (folder, expected)]
    assert told[0]["folds"][0]["chosen"] == told[1]["folds"][0]["chosen"]
    for name in ("nll", "mcc", "macro_f1"):
        assert told[0]["test"][name] == pytest.approx(told[1]["test"][name], abs=1e-4)


@pytest.mark.slow
@needs_jax
@pytest.mark.parametrize(
    ("count", "flags", "store"),
    [(2, [], False), (2, ["--set=LABELS_PER_SEQUENCE=1"], False), (4, [], True)],
)
def test_several_processes_train_as_one_does(bars_file, cache, tmp_path, count, flags, store):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(cache, *train(bars_file, alone, *flags)).returncode == 0
    flags = [*flags, f"--set=FEATURE_STORE={tmp_path / 'store'}"] if store else flags
    begun = start(cache, train(bars_file, together, *flags), together, count)
    assert [each.wait() for each in begun] == [0] * count
    assert_the_same(together, alone)


@needs_jax
def test_who_cannot_make_the_store_tells_the_others_why(bars_file, cache, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    asked = train(bars_file, tmp_path / "run", f"--set=FEATURE_STORE={tmp_path}")
    begun = start(cache, asked, tmp_path / "run", 2)
    assert [each.wait(60) for each in begun] == [2, 1]
    told = (tmp_path / "run.1.txt").read_text()
    assert "process 0 has ended: the feature store must be a new or empty folder" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_jax
@pytest.mark.parametrize("killed", [0, 1])
def test_all_end_when_one_is_killed_and_any_number_goes_on(bars_file, cache, tmp_path, killed):
    alone, folder = tmp_path / "alone", tmp_path / "together"
    more = "--set=SUPERVISED_EPOCHS=6"
    assert run(cache, *train(bars_file, alone, more)).returncode == 0
    begun = start(cache, train(bars_file, folder, more), folder, 2)
    wait_for(folder / "checkpoint" / "fold-0" / "epoch-000001.checkpoint", begun[0])
    begun[killed].kill()
    begun[killed].wait()  # else Python warns of it, which is an error here
    assert begun[1 - killed].wait(60) == 1
    told = (tmp_path / f"together.{1 - killed}.txt").read_text()
    assert f"process {killed} has ended; go on with: python train_model.py resume" in told
    count = 1 + killed
    resumed = start(cache, ["resume", folder], folder, count)
    assert [each.wait() for each in resumed] == [0] * count
    assert_the_same(folder, alone)
