"""A model beside the market, with own columns: exported and served without Keras."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from beside_model import make_model, random_bars
from test_export import needs_extra
from tiny_run import ROOT

import train_model
from data.bars.checks import digest
from data.bars.read import read_bars
from data.features.extra import parse_extra
from data.features.settings import FeatureSettings
from models.deployable import save_model
from recipe.serve.export import windows_to_compare
from recipe.serve.predict import classify

P = ["p_sell", "p_hold", "p_buy"]
FEATURES = FeatureSettings(
    market=("rsi", "funding_change"), extra=parse_extra("funding:change"), fill_bars=2
)


@pytest.fixture(scope="module")
def model():
    return make_model(to_save=True, features=FEATURES)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """What an export reads of a run folder."""
    folder = tmp_path_factory.mktemp("run")
    bars = random_bars(260)
    bars["funding"] = np.random.default_rng(0).normal(size=len(bars))
    bars.to_parquet(folder / "all.parquet")
    bars[bars["symbol"] == "BTCUSDT"].to_parquet(folder / "btc.parquet")
    save_model(model, folder / "model.keras")
    bars = read_bars(folder / "all.parquet", extra=["funding"])
    info = {"data": str(folder / "all.parquet"), "bars_sha256": digest(bars)}
    (folder / "run.json").write_text(json.dumps(info))
    classify(model, bars)[::7].to_parquet(folder / "predictions.parquet")
    return folder


def test_windows_compared_stand_beside_the_market(run, model):
    windows, what = windows_to_compare(
        model, run, lambda path: read_bars(path, extra=FEATURES.columns)
    )
    assert what == "windows of the run's test bars"
    expected = pd.read_parquet(run / "predictions.parquet")[P]
    assert len(expected) > 50
    np.testing.assert_allclose(model.predict(windows, verbose=0), expected, rtol=0, atol=1e-6)


@needs_extra
def test_the_example_answers_beside_the_universe(run, model, tmp_path, capsys):
    command = ["export", str(run), "--format", "onnx", "--out", str(tmp_path / "onnx")]
    assert train_model.main(command) == 0
    assert "windows of the run's test bars" in capsys.readouterr().out
    script = [sys.executable, ROOT / "examples" / "serve_onnx.py", tmp_path / "onnx/model.onnx"]

    def answer(*options):
        return subprocess.run(
            [*map(str, [*script, run / "btc.parquet", *options])],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    alone = answer()
    assert alone.returncode == 2
    assert "4 of which at least must have the bar" in alone.stderr
    beside = answer("--universe", run / "all.parquet")
    assert beside.returncode == 0, beside.stderr
    found = pd.read_csv(io.StringIO(beside.stdout), parse_dates=["timestamp"])
    bars = read_bars(run / "all.parquet", extra=["funding"])
    expected = classify(model, bars[bars["symbol"] == "BTCUSDT"], universe=bars)
    assert found["timestamp"].tolist() == expected["timestamp"].tolist()
    np.testing.assert_allclose(found[P], expected[P], rtol=0, atol=1e-5)
