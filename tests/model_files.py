"""Model files that were changed: parts put in the place of others, bytes mutated, zips that lie."""

import io
import json
import zipfile

import h5py
import keras

from models.calibration import RestoreProbabilities
from models.deployable import make_deployable
from models.xlstm_rl_model import build_xlstm_classifier

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
CONTRACT = {
    "class_names": ["SELL", "HOLD", "BUY"],
    "feature_names": ["return_1", "range", "volume"],
    "sequence_length": 5,
    "max_gap_bars": 5,
    "intraday": True,
    "interval_seconds": 900.0,
    "label": {"method": "volatility", "future_window_bars": 12, "threshold": 0.41},
    "priors": {"training_stream": [0.3, 0.4, 0.3], "training_period": [0.2, 0.6, 0.2]},
    "call": {"rule": "largest lift", "prior": [0.2, 0.6, 0.2]},
    "temperature": 1.25,
    "training_ranges": [[-1.0, 0.0, 0.0], [1.0, 1.0, 9.0]],
    "training_period": ["2024-01-01", "2024-05-01"],
    "versions": {"keras": "3"},
}


def make_model(contract=None):
    """Returns a deployable model that is as small as one can be."""
    keras.utils.set_random_seed(0)
    contract = CONTRACT if contract is None else contract
    classifier = build_xlstm_classifier(
        5,
        3,
        units=4,
        num_heads=2,
        class_prior=[0.3, 0.4, 0.3],
        logit_clip=5.0,
        dropout_rnn1=0.1,
        feature_mean=[0.0, 0.0, 0.0],
        feature_variance=[1.0, 1.0, 1.0],
    )
    restoration = RestoreProbabilities(
        gamma=1.0,
        training_prior=[0.3, 0.4, 0.3],
        deploy_prior=[0.2, 0.6, 0.2],
        temperature=1.25,
        name="restoration",
    )
    return make_deployable(classifier, restoration, contract)


def parts_of(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts, compression=zipfile.ZIP_STORED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, content in parts.items() if isinstance(parts, dict) else parts:
            archive.writestr(name, content)
    return raw.getvalue()


def with_config(parts, change) -> bytes:
    """Returns the file with a changed value of its config.json."""
    config = json.loads(parts[CONFIG])
    changed = change(config)
    text = json.dumps(config if changed is None else changed)
    return zipped({**parts, CONFIG: text.encode()})


def with_weights(parts, change) -> bytes:
    """Returns the file with a changed HDF5 file of weights."""
    raw = io.BytesIO(parts[WEIGHTS])
    with h5py.File(raw, "r+") as file:
        change(file)
    return zipped({**parts, WEIGHTS: raw.getvalue()})


def layer(config, name):
    """Returns the layer of a name in a config.json."""
    return next(item for item in config["config"]["layers"] if item["config"]["name"] == name)
