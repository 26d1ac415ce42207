"""Trainings of several processes of one machine, which have one device each."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from jax_runs import LEARNING, environment, run
from tiny_run import ROOT, command, wait_for

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)


@needs_jax
def test_a_connected_process_ends_by_sigterm():
    code = "import signal; from recipe.devices import processes; "
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


def ended(processes, seconds=300):
    """Returns the exit codes of processes; ends those that take longer, or wait for each other."""
    try:
        return [each.wait(seconds) for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()


@pytest.fixture(scope="module")
def alone(bars_file, cache, tmp_path_factory):
    """Gives the run of one process with these flags, each made once."""
    made = {}

    def run_of(*flags):
        if flags not in made:
            folder = tmp_path_factory.mktemp("runs") / "alone"
            done = run(cache, *train(bars_file, folder, *flags))
            assert done.returncode == 0, done.stderr
            made[flags] = folder
        return made[flags]

    return run_of


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
def test_several_processes_train_as_one_does(
    bars_file, cache, alone, tmp_path, count, flags, store
):
    together, expected = tmp_path / "together", alone(*flags)
    flags = [*flags, f"--set=FEATURE_STORE={tmp_path / 'store'}"] if store else flags
    begun = start(cache, train(bars_file, together, *flags), together, count)
    assert ended(begun) == [0] * count
    assert_the_same(together, expected)


@needs_jax
def test_several_devices_are_used_where_they_divide_the_batch_and_predict_arrays_too(cache):
    code = """
import keras
import numpy as np
from models.prediction import predict_windows
from recipe.devices import processes
told = []
assert processes.distribute(3, told.append) == processes.Devices(slice(None))
assert keras.distribution.distribution() is None
assert "1 of 2 devices are used: SUPERVISED_BATCH_SIZE = 3 must be divided evenly" in told[0]
both = processes.distribute(4, told.append)
assert both.rows == slice(0, 4) and len(told) == 1
inputs = keras.Input((3, 2))
model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
x = np.random.default_rng(0).normal(size=(301, 3, 2)).astype("float32")
kernel, bias = model.get_weights()
answers = predict_windows(model, x, by=both.predict)
np.testing.assert_allclose(answers, x.reshape(301, 6) @ kernel + bias, rtol=1e-5, atol=1e-6)
assert keras.distribution.distribution().device_mesh.devices.size == 2
"""
    two = environment(cache, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=two, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # that all are told why one ends is also seen by test_processes.py
@needs_jax
def test_who_cannot_make_the_store_tells_the_others_why(bars_file, cache, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    asked = train(bars_file, tmp_path / "run", f"--set=FEATURE_STORE={tmp_path}")
    begun = start(cache, asked, tmp_path / "run", 2)
    assert ended(begun, 120) == [2, 1]
    told = (tmp_path / "run.1.txt").read_text()
    assert "process 0 has ended: the feature store must be a new or empty folder" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_jax
@pytest.mark.parametrize("killed", [0, 1])
def test_all_end_when_one_is_killed_and_any_number_goes_on(
    bars_file, cache, alone, tmp_path, killed
):
    folder, more = tmp_path / "together", "--set=SUPERVISED_EPOCHS=6"
    expected = alone(more)
    begun = start(cache, train(bars_file, folder, more), folder, 2)
    wait_for(folder / "checkpoint" / "fold-0" / "epoch-000001.checkpoint", begun[0])
    begun[killed].kill()
    begun[killed].wait()  # else Python warns of it, which is an error here
    assert ended([begun[1 - killed]], 120) == [1]
    told = (tmp_path / f"together.{1 - killed}.txt").read_text()
    assert f"process {killed} has ended; go on with: python train_model.py resume" in told
    count = 1 + killed
    resumed = start(cache, ["resume", folder], folder, count)
    assert ended(resumed) == [0] * count
    assert_the_same(folder, expected)
