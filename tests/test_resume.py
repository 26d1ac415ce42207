import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from tiny_run import command, metrics_of, settings, wait_for

import train_model
from data.bars.synthetic import persistent_drift
from recipe.run import market


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(market, "read_market", interrupted)
    assert train_model.main(["--out", str(tmp_path / "run")]) == 130
    assert "nothing was written yet" in capsys.readouterr().err
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text('{"data": null}')
    (tmp_path / "old" / "config.json").write_text("{}")
    assert train_model.main(["resume", str(tmp_path / "old")]) == 130
    assert f"resume {tmp_path / 'old'}" in capsys.readouterr().err


def killed_run(folder, bars_file, epoch, delay, kill):
    """Starts a run and kills it some time after the checkpoint of an epoch was written."""
    process = subprocess.Popen(
        command("--data", bars_file, "--out", folder, *settings()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder / "checkpoint" / "fold-0" / f"epoch-{epoch:06d}.checkpoint", process)
    time.sleep(delay)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_a_killed_run_that_goes_on_ends_as_if_never_killed(finished, bars_file, tmp_path):
    folder = tmp_path / "one"
    delay = np.random.default_rng().uniform(0, 0.5)
    status, _ = killed_run(folder, bars_file, 0, delay, signal.SIGKILL)
    assert status == -signal.SIGKILL and not (folder / "metrics.json").exists()
    assert train_model.main(["resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(finished)
    assert (folder / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    tables = [pd.read_parquet(f / "predictions.parquet") for f in (folder, finished)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    last = "checkpoint/fold-0/epoch-000002.checkpoint"
    assert (folder / last).exists()


@pytest.fixture(scope="module")
def uninterrupted(bars_file, tmp_path_factory):
    """A run in a process of its own: in that of the tests the last digits may differ."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    subprocess.run(command("--data", bars_file, "--out", folder, *settings()), check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1, 1, 2])
def test_a_run_killed_at_a_random_point_goes_on(epoch, uninterrupted, bars_file, tmp_path):
    folder = tmp_path / "one"
    delay = np.random.default_rng().uniform(0, 3)
    killed_run(folder, bars_file, epoch, delay, signal.SIGKILL)
    done = subprocess.run(command("resume", folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics_of(folder) == metrics_of(uninterrupted)
    for name in ("history.csv", "predictions.parquet", "checkpoint/fold-0/epoch-000002.checkpoint"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name


@pytest.mark.slow
def test_ctrl_c_ends_a_training_cleanly(bars_file, tmp_path):
    folder = tmp_path / "one"
    status, errors = killed_run(folder, bars_file, 0, 0.1, signal.SIGINT)
    assert status == 130
    assert errors.strip() == f"interrupted; go on with: python train_model.py resume {folder}"


def test_a_changed_flag_or_file_is_refused_with_its_name(finished, tmp_path, capsys):
    folder = tmp_path / "one"
    shutil.copytree(finished, folder)
    (folder / "metrics.json").unlink()
    assert train_model.main(["resume", str(folder), "--set", "EMA_DECAY=0.5"]) == 2
    assert "EMA_DECAY" in capsys.readouterr().err
    other = tmp_path / "other.parquet"
    persistent_drift(num_symbols=3, num_bars=900, seed=2).to_parquet(other)
    assert train_model.main(["resume", str(folder), "--data", str(other)]) == 2
    assert "bars_sha256" in capsys.readouterr().err


def test_a_finished_run_is_not_run_again(finished, capsys):
    before = (finished / "metrics.json").read_bytes()
    assert train_model.main(["resume", str(finished)]) == 0
    assert f"is finished; its report is {finished / 'report.html'}" in capsys.readouterr().out
    assert (finished / "metrics.json").read_bytes() == before


def test_a_finished_run_without_a_report_names_its_figures(tmp_path, capsys):
    for name in ("config.json", "run.json", "metrics.json"):
        (tmp_path / name).write_text("{}")
    assert train_model.main(["resume", str(tmp_path)]) == 0
    found = capsys.readouterr().out
    assert f"is finished; its figures are in {tmp_path / 'metrics.json'}" in found
