import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from tiny_run import ROOT

import train_model
from data.bars.read import read_bars
from data.market.windows import subsample
from models.calibration import RestoreProbabilities
from models.deployable import contract_of, load_classifier, make_deployable
from models.xlstm_rl_model import build_xlstm_classifier
from recipe.serve import export
from recipe.serve.predict import classify

P = ["p_sell", "p_hold", "p_buy"]
needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tf2onnx", "onnxruntime")),
    reason="needs the extra `export` (tf2onnx, onnxruntime)",
)


@pytest.fixture(scope="module")
def model(finished):
    return load_classifier(finished / "model.keras")


@pytest.fixture(scope="module")
def onnx_folder(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "shipped"
    command = ["export", str(finished), "--format", "onnx", "--out", str(folder)]
    assert train_model.main(command) == 0
    return folder


def session(path):
    import onnxruntime  # pyright: ignore[reportMissingImports]

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@needs_extra
def test_the_contract_goes_along_in_the_file_and_beside_it(onnx_folder, model):
    inside = session(onnx_folder / "model.onnx").get_modelmeta().custom_metadata_map["contract"]
    assert json.loads(inside) == contract_of(model)
    assert json.loads((onnx_folder / "contract.json").read_text()) == contract_of(model)
    assert sorted(path.name for path in onnx_folder.iterdir()) == ["contract.json", "model.onnx"]


@needs_extra
def test_the_example_gives_the_table_of_predict_without_keras(onnx_folder, model, bars_file):
    script = str(ROOT / "examples" / "serve_onnx.py")
    code = (
        "import runpy, sys\n"
        "others = 'keras', 'tensorflow', 'scipy', 'sklearn'\n"
        "sys.modules.update(dict.fromkeys(others))\n"  # an import of them fails
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, script, onnx_folder / "model.onnx", bars_file]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    expected = classify(model, read_bars(bars_file))
    newest = expected.groupby("symbol").tail(1).reset_index(drop=True)
    for options, table in [([], expected), (["--newest"], newest)]:
        done = subprocess.run(
            [*map(str, command), *options], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = pd.read_csv(io.StringIO(done.stdout), parse_dates=["timestamp"])
        assert found["timestamp"].tolist() == table["timestamp"].tolist()
        assert found["symbol"].tolist() == table["symbol"].tolist()
        np.testing.assert_allclose(found[P], table[P], rtol=0, atol=1e-5)
        assert list(found) == list(table)
        # Nearly equal lifts may change places by the last digits.
        assert (found["call"] == table["call"]).mean() > 0.99


@pytest.mark.slow
@needs_extra
@pytest.mark.parametrize(("blocks", "length"), [("m", 70), ("s", 9), ("msmm", 9)])
def test_every_block_pattern_gives_the_same_probabilities(blocks, length, tmp_path):
    from recipe.serve.onnx_file import write_onnx

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    classifier = build_xlstm_classifier(
        length, 4, units=8, num_heads=2, blocks=blocks, feature_mean=mean, feature_variance=variance
    )
    restoration = RestoreProbabilities(gamma=[1.0, 2.0, 1.0], smoothing=0.05, ce_weight=0.3)
    model = make_deployable(classifier, restoration, {})
    scaling = classifier.get_layer("scaling")
    before = scaling.mean
    write_onnx(model, {}, tmp_path / "model.onnx")
    assert scaling.mean is before
    written = session(tmp_path / "model.onnx")
    (taken,), (given,) = written.get_inputs(), written.get_outputs()
    assert (taken.name, taken.shape) == ("window", ["batch", length, 4])
    assert (given.name, given.shape) == ("probabilities", ["batch", 3])
    for num in (1, 5):
        windows = 3 * rng.normal(size=(num, length, 4)).astype("float32")
        found = written.run(None, {"window": windows})[0]
        np.testing.assert_allclose(found, model.predict(windows, verbose=0), rtol=0, atol=1e-6)


def test_a_saved_model_is_exact_and_has_its_contract(finished, model, tmp_path, capsys):
    folder = tmp_path / "shipped"
    file = str(finished / "model.keras")
    command = ["export", file, "--format", "saved_model", "--out", str(folder)]
    assert train_model.main(command) == 0
    assert "windows of the run's test bars" in capsys.readouterr().out
    assert json.loads((folder / "contract.json").read_text()) == contract_of(model)
    assert (folder / "saved_model.pb").exists()


@needs_extra
def test_other_answers_than_those_of_keras_leave_nothing(
    finished, onnx_folder, tmp_path, monkeypatch, capsys
):
    def written(model, contract, path):
        shutil.copy(onnx_folder / "model.onnx", path)

    answers = export._answers
    monkeypatch.setattr(export, "write_onnx", written)
    monkeypatch.setattr(export, "_answers", lambda *given: answers(*given) + 2e-5)
    folder = tmp_path / "shipped"
    command = ["export", str(finished), "--format", "onnx", "--out", str(folder)]
    assert train_model.main(command) == 1
    assert "must give the probabilities of Keras within 1e-05" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@needs_extra
def test_a_file_that_no_runtime_loads_is_no_export(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(export.ExportFailed, match="the onnx model cannot be loaded: .*nothing is"):
        export._answers("onnx", tmp_path / "model.onnx", np.zeros((1, 2, 3), "float32"))


@pytest.mark.parametrize("found", [np.zeros((2, 3)), np.full((1, 3), np.nan)])
def test_answers_of_another_shape_or_without_a_number_differ(found):
    assert export._difference(np.zeros((1, 3)), found) == np.inf


def test_windows_compared_are_those_of_the_test_bars(finished, model):
    windows, what = export.windows_to_compare(model, finished, read_bars)
    assert what == "windows of the run's test bars"
    predictions = pd.read_parquet(finished / "predictions.parquet")
    expected = predictions[P].iloc[subsample(len(predictions), 256)]
    np.testing.assert_allclose(model.predict(windows, verbose=0), expected, rtol=0, atol=1e-6)


def test_without_the_bars_windows_are_drawn_in_the_training_range(finished, model, tmp_path):
    for name in ("run.json", "predictions.parquet"):
        shutil.copy(finished / name, tmp_path)
    run_info = json.loads((tmp_path / "run.json").read_text())
    drawn = []
    for change, reason in [
        ({"bars_sha256": "0"}, "the bars are not those of the run any more"),
        ({"data": str(tmp_path / "gone.csv")}, "no file or folder of bars"),
    ]:
        (tmp_path / "run.json").write_text(json.dumps(run_info | change))
        windows, what = export.windows_to_compare(model, tmp_path, read_bars)
        assert (
            what.startswith("random windows in the range of the training bars") and reason in what
        )
        drawn.append(windows)
    np.testing.assert_array_equal(*drawn)
    scaling = next(layer for layer in model.layers if layer.name == "scaling")
    mean, deviation = (
        np.ravel(v)[: drawn[0].shape[-1]] for v in (scaling.mean, scaling.variance**0.5)
    )
    scaled = (drawn[0] - mean) / deviation  # the features, which come before their deviations
    np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=0.1)
    np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--format", "tflite"], "--format must be onnx or saved_model, got tflite"),
        (["{empty}", "--format", "saved_model"], "has no model.keras: is it a finished run?"),
        (["{text}", "--format", "saved_model"], "must be a model.keras of this project"),
        (
            ["{run}", "--format", "saved_model", "--out", "{empty}"],
            "the folder of the export must not exist yet",
        ),
    ],
)
def test_faulty_input_is_refused_in_one_line(arguments, message, finished, tmp_path, capsys):
    places = {"run": finished, "empty": tmp_path, "text": tmp_path / "model.txt"}
    places["text"].write_text("no model")
    assert train_model.main(["export", *(word.format(**places) for word in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_missing_extra_is_named(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command = ["export", str(finished), "--format", "onnx", "--out", str(tmp_path / "new")]
    assert train_model.main(command) == 2
    assert capsys.readouterr().err == (
        "--format onnx needs tf2onnx and onnxruntime: pip install -e '.[export]'\n"
    )
