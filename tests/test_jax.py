import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from jax_runs import LEARNING, environment, run
from tiny_run import ROOT, command, metrics_of, wait_for

from data.bars.read import read_bars
from models.deployable import load_classifier
from recipe.serve.predict import classify

if importlib.util.find_spec("jax") is None:
    pytest.skip("needs jax: pip install -e '.[jax]'", allow_module_level=True)

PROBABILITIES = ["p_sell", "p_hold", "p_buy"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def trained(bars_file, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "jax"
    done = run(cache, "--data", bars_file, "--out", folder, *LEARNING)
    assert done.returncode == 0, done.stderr
    return folder


def assert_alike(ours, expected):
    """Asserts that two tables answer alike for all windows of the second."""
    both = expected.merge(ours, on=["timestamp", "symbol"], suffixes=("", "_ours"))
    assert len(both) == len(expected) > 0
    values = both[[f"{name}_ours" for name in PROBABILITIES]].to_numpy()
    np.testing.assert_allclose(values, both[PROBABILITIES].to_numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_model_of_jax_answers_alike_on_tensorflow(trained, bars_file):
    model = load_classifier(trained / "model.keras")
    answers = classify(model, read_bars(bars_file))
    assert answers[PROBABILITIES].to_numpy().std(axis=0).min() > 0.01
    assert_alike(answers, pd.read_parquet(trained / "predictions.parquet"))


@pytest.mark.slow  # that both backends answer alike is also seen by the test above
def test_a_model_of_tensorflow_answers_alike_on_jax(finished, bars_file, cache, tmp_path):
    out = tmp_path / "table.csv"
    model = finished / "model.keras"
    done = run(cache, "predict", model, "--data", bars_file, "--out", out)
    assert done.returncode == 0, done.stderr
    answers = pd.read_csv(out, parse_dates=["timestamp"])
    assert_alike(answers, pd.read_parquet(finished / "predictions.parquet"))


def test_what_changes_reaches_the_compiled_step_and_broken_weights_are_found():
    tests = ["test_losses.py::test_a_change_of_the_weight_takes_effect_after_compile"]
    tests += ["test_nan_guard.py::test_a_gradient_that_is_not_finite_is_found_in_the_next_batch"]
    tests += ["test_epoch_tracker.py::test_tracker_sets_epoch_weight_and_cap_and_logs_them"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", *(f"{ROOT}/tests/{t}" for t in tests)],
        env=environment("", JAX_ENABLE_COMPILATION_CACHE="false"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_backend_that_is_not_there_is_said_in_one_line(finished, bars_file, cache):
    asked = ["predict", finished / "model.keras", "--data", bars_file]
    done = run(cache, *asked, KERAS_BACKEND="torch")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "KERAS_BACKEND must be tensorflow" in done.stderr


@pytest.mark.slow
def test_a_killed_run_on_jax_goes_on(trained, bars_file, cache, tmp_path):
    folder = tmp_path / "jax"
    process = subprocess.Popen(
        command("--data", bars_file, "--out", folder, *LEARNING), env=environment(cache), cwd=ROOT
    )
    wait_for(folder / "checkpoint" / "fold-0" / "epoch-000000.checkpoint", process)
    process.kill()
    process.wait()
    assert run(cache, "resume", folder).returncode == 0
    assert metrics_of(folder) == metrics_of(trained)


@pytest.mark.slow
def test_a_study_runs_on_jax(bars_file, cache, tmp_path):
    asked = ["study", "seeds", "--seeds", 2, "--data", bars_file, "--out", tmp_path / "study"]
    done = run(cache, *asked, *LEARNING)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "study").rglob("metrics.json"))) == 2
