"""Retraining with bars of an exchange: by command, and beside answers."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drift_server import DriftServer
from test_retrain import better_by

import recipe.cli.retrain
import recipe.live.download
import recipe.live.exchange
import recipe.retrain.retrain as retraining
import train_model
from data.bars.synthetic import persistent_drift
from models.deployable import load_classifier, save_model
from recipe.run.folder import current_model
from recipe.serve.predict import classify

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
NUM_BARS, STEP = 1500, 900_000
START = int(pd.Timestamp("2024-01-01", tz="UTC").timestamp() * 1000)


@pytest.fixture
def server(monkeypatch):
    """Time goes on by what is slept, and by nothing else."""
    real = recipe.live.exchange.open_exchange
    with DriftServer(START, STEP, NUM_BARS + 50) as server:
        server.now, server.until = START + NUM_BARS * STEP + 1000, None
        server.slept = lambda: None

        def opened(name, note):
            def sleep(seconds):
                server.now += max(1, round(seconds * 1000))
                server.slept()
                if server.until and server.now > server.until:
                    raise KeyboardInterrupt

            clock = lambda: server.now / 1000  # noqa: E731
            return server.point(real(name, note=note, sleep=sleep, clock=clock))

        monkeypatch.setattr(recipe.live.exchange, "open_exchange", opened)
        monkeypatch.setattr(recipe.live.download, "open_exchange", opened)
        yield server


@pytest.fixture
def run_folder(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def without_training(monkeypatch, finished):
    """Has a retraining take the files of another run for those of a training."""

    def trained(_, market, folder, **more):
        shutil.copytree(finished, folder)
        return {}

    monkeypatch.setattr(retraining, "run", trained)
    monkeypatch.setattr(retraining, "compared", lambda *_: better_by(0.1))


def download(server, folder):
    asked = ["download", "binance", "SYN/0", "SYN/1", "SYN/2", "--timeframe", "15m"]
    assert train_model.main([*asked, "--since", server.moment(0), "--to", str(folder)]) == 0


def test_a_retraining_fetches_the_bars_that_came_since_and_starts_at_the_newest_model(
    server, run_folder, tmp_path, without_training
):
    server.now -= 400 * STEP
    download(server, tmp_path / "bars")
    asked = ["retrain", str(run_folder), "--exchange", "binance", "--data", str(tmp_path / "bars")]
    against = []
    for _ in range(2):
        server.now += 200 * STEP
        assert train_model.main(asked) == 0
        newest = current_model(run_folder)
        decision = json.loads((newest.parent / "decision.json").read_text())
        against.append(decision["against"])
        times = pd.read_parquet(tmp_path / "bars")["timestamp"]
        assert times.max() == pd.Timestamp(server.now - 1000 - STEP, unit="ms", tz="UTC")
        time.sleep(1.1)  # a folder is named by the second
    assert against[0] == "model.keras" and against[1].startswith("retrained/")
    assert newest.parent.parent.name == "retrained" and str(newest.parent.name) not in against[1]


@pytest.fixture
def beside(run_folder, server, monkeypatch):
    """Makes a process beside end a retraining after five closes; the first model is long made."""
    model = load_classifier(run_folder / "model.keras")
    bias = model.trainable_variables[-1]  # of the head; temperatures make less of it
    bias.assign(bias + np.array([100.0, 0.0, -100.0], "float32"))
    save_model(model, run_folder / "other.keras")
    for path in run_folder.iterdir():
        os.utime(path, (0, 0))
    monkeypatch.setattr(recipe.cli.retrain.place, "module", lambda name: "instant_retrain")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    real, processes, end = subprocess.Popen, [], server.now + 5 * STEP

    def started(*arguments, **options):
        processes.append(real(*arguments, **options))
        return processes[-1]

    def slept():
        if server.now > end:
            (run_folder / "go").touch()
            processes[0].wait(60)

    monkeypatch.setattr(subprocess, "Popen", started)

    server.slept = slept
    return run_folder


def follow(run, bars, *more):
    asked = ["predict", str(run), "--exchange", "binance", "--follow", "--data", str(bars)]
    return train_model.main([*asked, "--retrain-every", "1d", *more])


def test_answers_go_on_while_a_retraining_is_beside_and_come_from_the_new_model_then(
    server, beside, tmp_path, capsys
):
    server.until, table = server.now + 12 * STEP, tmp_path / "table.csv"
    asked = "--symbols", "SYN/1", "--out", str(table), "--lang", "ru"
    assert follow(beside, tmp_path, *asked) == 130
    begins, ends = capsys.readouterr().err.splitlines()[-4:-2]
    assert str(beside / "retrain.log") in begins and ends == "retrained  The new model answers"
    given = json.loads((beside / "arguments.json").read_text())
    assert given[:2] == ["retrain", str(beside)] and given[-2:] == ["--lang", "ru"]
    assert "--symbols" not in given  # it trains on all that the model knows
    answered = pd.read_csv(table, parse_dates=["timestamp"]).set_index("timestamp")
    assert (answered.index.diff()[1:] == pd.Timedelta("15min")).all() and len(answered) > 10
    bars = persistent_drift(num_symbols=3, num_bars=NUM_BARS + 50, seed=1)
    off = []
    for file in ("model.keras", "other.keras"):
        known = classify(load_classifier(beside / file), bars[bars["symbol"] == "SYN1"])
        off.append((answered["p_buy"] - known.set_index("timestamp")["p_buy"]).dropna().abs())
    is_new = (off[1] < off[0]).tolist()
    assert is_new == sorted(is_new) and is_new.count(False) >= 5 and is_new.count(True) >= 5
    assert np.minimum(*off).max() < 1e-3 < np.maximum(*off).min()


def test_a_model_that_is_gone_is_told_and_answers_go_on(server, beside, tmp_path, capsys):
    server.until = server.now + 6 * STEP
    (beside / "current.json").write_text(json.dumps({"model": "retrained/gone/model.keras"}))
    os.utime(beside / "current.json", (0, 0))
    model = str(beside / "model.keras")
    assert follow(model, tmp_path, "--symbols", "SYN/1") == 130
    told = capsys.readouterr()
    assert "has no retrained/gone/model.keras" in told.err
    assert len(told.out.splitlines()) > 4


def test_a_model_in_no_run_folder_is_not_retrained(server, run_folder, tmp_path, capsys):
    (run_folder / "run.json").unlink()
    assert follow(run_folder, tmp_path) == 2
    assert "need a run folder with run.json" in capsys.readouterr().err
