import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from model_files import CONTRACT, make_model

from models.calibration import RestoreProbabilities
from models.deployable import (
    ModelContract,
    contract_of,
    load_classifier,
    make_deployable,
    save_model,
)

# Keras 3.15 saves arrays of TensorFlow in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ROOT = Path(__file__).parent.parent


def windows(num=4):
    return np.random.default_rng(0).normal(size=(num, 5, 3)).astype("float32")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.keras"
    save_model(make_model(), path)
    return path


def test_the_contract_comes_back_from_the_file(path):
    assert contract_of(load_classifier(path)) == CONTRACT


def test_loaded_model_gives_the_same_probabilities(path):
    expected = make_model().predict(windows(), verbose=0)
    loaded = load_classifier(path).predict(windows(), verbose=0)
    np.testing.assert_array_equal(loaded, expected)
    np.testing.assert_allclose(loaded.sum(axis=-1), 1, atol=1e-6)


def test_deployable_shares_the_weights_of_the_classifier():
    model = make_model()
    before = model.predict(windows(), verbose=0)
    model.get_layer("classifier").bias.assign([3.0, 0.0, 0.0])
    assert np.abs(model.predict(windows(), verbose=0) - before).max() > 0.1


@pytest.mark.slow  # `predict` in a fresh process loads one in test_train_model.py
def test_a_fresh_process_loads_it_in_safe_mode_without_custom_objects(path, tmp_path):
    np.save(tmp_path / "x.npy", windows())
    code = (
        "import numpy as np, sys\n"
        "from models.deployable import load_classifier\n"
        "model = load_classifier(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))\n"
    )
    files = [path, tmp_path / "x.npy", tmp_path / "p.npy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    expected = make_model().predict(windows(), verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-6)


def test_any_batch_size_is_served(path):
    model = load_classifier(path)
    assert model.predict(windows(7), verbose=0).shape == (7, 3)


@pytest.mark.parametrize(
    "names, message",
    [
        (
            {"feature_names": ["return_1", "volume", "range"]},
            "the features must be .* at place 1 it has range, got volume",
        ),
        (
            {"feature_names": ["return_1", "range"]},
            "at place 2 it has volume, got nothing",
        ),
        (
            {"class_names": ["BUY", "HOLD", "SELL"]},
            "the classes must be .* at place 0 it has SELL, got BUY",
        ),
    ],
)
def test_other_names_are_refused(path, names, message):
    with pytest.raises(ValueError, match=message):
        load_classifier(path, **names)


def test_the_same_names_are_accepted(path):
    names = {name: CONTRACT[name] for name in ("feature_names", "class_names")}
    assert load_classifier(path, **names).name == "deployable"


def test_files_that_are_no_model_are_refused(path, tmp_path):
    with pytest.raises(ValueError, match="no such model file: .*none.keras"):
        load_classifier(tmp_path / "none.keras")
    text = tmp_path / "text.keras"
    text.write_text("no model")
    torn = tmp_path / "torn.keras"
    torn.write_bytes(path.read_bytes()[:-500])
    for wrong, words in [(text, "must be a model.keras of this"), (torn, "is truncated or corr")]:
        with pytest.raises(ValueError, match=f"{wrong.name} {words}") as got:
            load_classifier(wrong)
        assert "\n" not in str(got.value)


def test_a_model_without_a_contract_is_refused(tmp_path):
    path = tmp_path / "plain.keras"
    save_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]), path)
    with pytest.raises(ValueError, match="must be a model.keras of this project"):
        load_classifier(path)


def test_a_lambda_layer_is_refused_by_the_safe_mode(tmp_path):
    path = tmp_path / "lambda.keras"
    inputs = keras.Input((3,))
    harmful = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    save_model(make_deployable(harmful, RestoreProbabilities(), CONTRACT), path)
    with pytest.raises(ValueError, match="must be a model.keras of this project.*Lambda"):
        load_classifier(path)


def test_a_failed_save_leaves_the_older_file_whole(path, tmp_path, monkeypatch):
    place = tmp_path / "model.keras"
    place.write_bytes(path.read_bytes())
    before = place.read_bytes()

    def disk_full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_model(make_model(), place)
    assert place.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.keras"]


def test_contract_layer_passes_its_input_on_and_survives_its_config():
    layer = ModelContract(CONTRACT, name="contract")
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(layer(x), x)
    again = ModelContract.from_config(layer.get_config())
    assert again.contract == CONTRACT and again.name == "contract"
