"""Model files of others: refused in one line before Keras builds anything, or read rightly."""

import json
import os
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from model_files import (
    CONFIG,
    CONTRACT,
    METADATA,
    WEIGHTS,
    layer,
    make_model,
    parts_of,
    with_config,
    with_weights,
    zipped,
)

from core.errors import InputError
from models.deployable import load_classifier, save_model
from models.model_file import Bounds, refused

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(make_model(), path)
    return path


@pytest.fixture
def builds_nothing(monkeypatch):
    def built(*_, **__):
        raise AssertionError("Keras was asked to build it")

    monkeypatch.setattr(keras.saving, "load_model", built)


def refusal(path, **arguments):
    """Returns the one line by which a file is refused."""
    with pytest.raises(InputError) as raised:
        load_classifier(path, **arguments)
    (fault,) = raised.value.faults
    assert str(path)[:100] in fault and fault.isprintable() and len(fault) < 700, fault
    return fault


def written(tmp_path, raw):
    path = tmp_path / "model.keras"
    path.write_bytes(raw)
    return path


def setting(name, **values):
    """Returns a change of the arguments of a layer."""
    return lambda config: layer(config, name)["config"].update(values)


def in_layer(name, **values):
    return lambda config: layer(config, name).update(values)


def in_contract(**values):
    def change(config):
        contract = layer(config, "contract")["config"]["contract"]
        contract.update(values)
        for key in [key for key, value in values.items() if value is ...]:
            del contract[key]

    return change


def extra_layer(**item):
    def change(config):
        new = {"module": "keras.layers", "registered_name": None, "config": {"name": "new"}}
        config["config"]["layers"].append(new | {"name": "new", "inbound_nodes": []} | item)

    return change


def many_layers(config):
    layers = config["config"]["layers"]
    for number in range(600):
        layers.append({**layer(config, "dropout_0"), "name": f"dropout_{number + 1}"})


def called_often(config):
    layer(config, "embedding")["inbound_nodes"] *= 600


def ends_in(file, offset, value):
    raw = bytearray(file)
    place = raw.rfind(b"PK\5\6") + offset
    raw[place : place + len(value)] = value
    return bytes(raw)


def flagged(raw, flag):
    """Returns a zip whose members have a flag or another way of packing in all headers."""
    raw = bytearray(raw)
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        found = raw.find(magic)
        while found >= 0:
            raw[found + place : found + place + len(flag)] = flag
            found = raw.find(magic, found + 4)
    return bytes(raw)


def longer(raw, size):
    """Returns a zip whose list of members says another size of the weights."""
    raw = bytearray(raw)
    name = raw.rfind(WEIGHTS.encode())
    raw[name - 22 : name - 18] = struct.pack("<I", size)
    return bytes(raw)


ARCHIVES = {
    "nothing": (lambda parts: b"", "not a zip archive"),
    "a text": (lambda parts: b"no model", "not a zip archive"),
    "two letters": (lambda parts: b"PK", "truncated or corrupt"),
    "an end alone": (lambda parts: zipped({}), "other files"),
    "cut": (lambda parts: zipped(parts)[:-500], "truncated or corrupt"),
    "cut in its end": (lambda parts: zipped(parts)[:-1], "truncated or corrupt"),
    "cut to a page": (lambda parts: zipped(parts)[:4096], "truncated or corrupt"),
    "no beginning": (lambda parts: b"PK" + zipped(parts)[1000:], "truncated or corrupt"),
    "something behind": (lambda parts: zipped(parts) + b"\0" * 9, "truncated or corrupt"),
    "a list elsewhere": (
        lambda parts: ends_in(zipped(parts), 16, b"\xff\xff\xff\x7f"),
        "truncated or corrupt",
    ),
    "a long list": (lambda parts: ends_in(zipped(parts), 12, b"\xff\xff\xff\x7f"), "other files"),
    "the end of 4 GiB": (
        lambda parts: zipped(parts)[:-22] + b"PK\6\7" + b"\0" * 16 + zipped(parts)[-22:],
        "larger than any",
    ),
    "4,000 members": (
        lambda parts: zipped({**parts, **{f"assets/{n}": b"" for n in range(4000)}}),
        "other files",
    ),
    "an asset": (lambda parts: zipped({**parts, "assets/x": b"x"}), "other files"),
    "a way out": (lambda parts: zipped({**parts, "../x": b"x"}), "other files"),
    "no weights": (
        lambda parts: zipped({k: v for k, v in parts.items() if k != WEIGHTS}),
        "other files",
    ),
    "weights of NumPy": (
        lambda parts: zipped({CONFIG: parts[CONFIG], METADATA: b"{}", "model.weights.npz": b""}),
        "other files",
    ),
    "encrypted": (lambda parts: flagged(zipped(parts), b"\x01\x00"), "truncated or corrupt"),
    "packed in another way": (
        lambda parts: flagged(zipped(parts), b"\x00\x00\x63\x00"),
        "truncated or corrupt",
    ),
    "a size that lies": (lambda parts: longer(zipped(parts), 99), "truncated or corrupt"),
    "a size above all": (lambda parts: longer(zipped(parts), 0xF0000000), "at most"),
    "a bit flipped": (
        lambda parts: zipped(parts).replace(b"mlstm_0", b"mlstm_1", 1),
        "truncated or corrupt",
    ),
    "a config of blanks": (
        lambda parts: zipped({**parts, CONFIG: b" " * (1 << 26)}, zipfile.ZIP_DEFLATED),
        "at most",
    ),
    "metadata of blanks": (
        lambda parts: zipped({**parts, METADATA: b" " * (1 << 26)}, zipfile.ZIP_DEFLATED),
        "at most",
    ),
}
ARCHIVES["twice the config"] = (
    lambda parts: zipped([*parts.items(), (CONFIG, parts[CONFIG])]),
    "other files",
)

JSONS = {
    "no JSON": (b"{", "must be a model.keras"),
    "no text": (b"\xff\xfe\x00", "must be a model.keras"),
    "a list": (b"[]", "describes no model"),
    "a number": (b"7", "describes no model"),
    "null": (b"null", "describes no model"),
    "nothing in it": (b"{}", "describes no model"),
    "another class": (b'{"class_name": "Sequential", "config": {}}', "describes no model"),
    "a class of a list": (b'{"class_name": [], "config": {}}', "describes no model"),
    "no config": (b'{"class_name": "Functional", "module": "keras"}', "it has no contract"),
    "no layers": (
        b'{"class_name": "Functional", "module": "keras", "config": {}}',
        "it has no contract",
    ),
    "deep": (b"[" * 100_000, "deeper than 100"),
    "deep and whole": (b"[" * 300 + b"]" * 300, "deeper than 100"),
    "deep objects": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "deeper than 100"),
    "a number without end": (b"9" * 5000, "must be a model.keras"),
    "NaN": (b"[NaN]", "NaN is no number"),
    "1e999": (b"[1e999]", "1e999 is no number"),
    "half a pair": (b'["\\ud800"]', "must be a model.keras"),
}

CONFIGS = {
    "a lambda": (extra_layer(class_name="Lambda"), "it has a Lambda"),
    "a graph of TensorFlow": (extra_layer(class_name="TFSMLayer"), "it has a TFSMLayer"),
    "a file's lines": (extra_layer(class_name="StringLookup"), "it has a StringLookup"),
    "a command": (extra_layer(class_name="system", module="os"), "it has a system"),
    "Dense of another module": (extra_layer(class_name="Dense", module="evil"), "it has a Dense"),
    "Dense of nobody": (extra_layer(class_name="Dense", module=None), "it has a Dense"),
    "Dense registered by another": (
        extra_layer(class_name="Dense", registered_name="evil>Dense"),
        "it has a Dense",
    ),
    "a block of another package": (
        in_layer("mlstm_0", registered_name="evil>MLSTMBlock"),
        "it has a MLSTMBlock",
    ),
    "code": (setting("classifier", activation={"class_name": "__lambda__", "config": {}}), "__lam"),
    "an array": (
        setting("scaling", mean={"class_name": "__numpy__", "config": {"value": [], "dtype": "f"}}),
        "__numpy__",
    ),
    "a class in the contract": (
        in_contract(label={"class_name": "Lambda", "config": {}}),
        "Lambda",
    ),
    "a class without a text": (extra_layer(class_name={"a": 1}), "no model of this project"),
    "a config of a list": (in_layer("embedding", config=[]), "it has a Dense"),
    "many units": (setting("embedding", units=1 << 20), "weights, at most"),
    "too many units": (setting("embedding", units=10**9), "Dense.units cannot be 1000000000"),
    "no units": (setting("embedding", units=0), "Dense.units cannot be 0"),
    "units of a text": (setting("embedding", units="4"), "Dense.units cannot be '4'"),
    "units of true": (setting("embedding", units=True), "Dense.units cannot be True"),
    "a wide block": (setting("mlstm_0", inner_units=1 << 18), "weights, at most"),
    "a wide memory": (setting("mlstm_0", inner_units=4096, num_heads=1), "window_values, at most"),
    "a factor": (setting("mlstm_0", proj_factor=1e9), "MLSTMBlock.proj_factor cannot be"),
    "a factor of a text": (setting("slstm_1", ff_factor="x"), "SLSTMBlock.ff_factor cannot be 'x'"),
    "a wide feed-forward part": (setting("slstm_1", ff_units=1 << 20), "window_values, at most"),
    "no block": (setting("mlstm_0", qkv_block_size=0), "qkv_block_size cannot be 0"),
    "heads that do not divide": (setting("mlstm_0", num_heads=7), "must divide"),
    "no heads": (setting("slstm_1", num_heads=0), "num_heads cannot be 0"),
    "many taps": (setting("mlstm_0", conv_kernel_size=10**6), "conv_kernel_size cannot be"),
    "a wide input": (setting("window", batch_shape=[None, 5, 10**9]), "batch_shape cannot be"),
    "a long input": (setting("window", batch_shape=[None, 1 << 20, 3]), "window_values, at most"),
    "another input": (setting("window", batch_shape=[None, 6, 3]), "its input must have the shape"),
    "a batch": (setting("window", batch_shape=[4, 5, 3]), "its input must have the shape"),
    "no shape": (setting("window", batch_shape=None), "its input must have the shape"),
    "a shape of texts": (setting("window", batch_shape=["5", 3]), "batch_shape cannot be"),
    "a built shape": (
        in_layer("embedding", build_config={"input_shape": [None, 5, 10**12]}),
        "input_shape cannot be",
    ),
    "shapes by name": (
        in_layer("embedding", build_config={"shapes_dict": {"a": [1]}}),
        "shapes_dict cannot be",
    ),
    "600 layers": (many_layers, "layers, at most"),
    "a layer called 600 times": (called_often, "layers, at most"),
    "two contracts": (
        lambda config: config["config"]["layers"].append(layer(config, "contract")),
        "one ModelContract, it has 2",
    ),
    "no contract": (
        lambda config: config["config"]["layers"].remove(layer(config, "contract")),
        "it has no contract",
    ),
    "a node to nowhere": (
        lambda config: config["config"].update(output_layers=[["nothing", 0, 0]]),
        "must be a model.keras",
    ),
    "an argument that is none": (setting("mlstm_0", more=1), "must be a model.keras"),
    "an activation that is none": (setting("embedding", activation="x"), "must be a model.keras"),
    "a type that is none": (setting("embedding", dtype="x"), "must be a model.keras"),
    "a dropout above 1": (setting("mlstm_0", recurrent_dropout=2.0), "recurrent_dropout must be"),
    "no prior": (setting("restoration", training_prior=None), "must be given together"),
    "a prior of 0": (setting("restoration", deploy_prior=[0, 1, 1]), "must be positive"),
    "a temperature of 0": (setting("restoration", temperature=0), "temperature must be above 0"),
    "no temperature": (setting("restoration", temperature="x"), "must be a model.keras"),
    "a mean of one feature less": (setting("scaling", mean=[0.0]), "must be a model.keras"),
}

CONTRACTS = {
    **{f"no {name}": ({name: ...}, f"lacks {name}") for name in list(CONTRACT)[:6]},
    "classes of numbers": ({"class_names": [1, 2, 3]}, "class_names"),
    "no classes": ({"class_names": []}, "class_names"),
    "features of a text": ({"feature_names": "abc"}, "feature_names"),
    "a feature that steers": ({"feature_names": ["\x1b[2J", "b", "c"]}, "feature_names"),
    "half a bar": ({"sequence_length": 5.5}, "sequence_length"),
    "no bars": ({"sequence_length": 0}, "sequence_length"),
    "bars of true": ({"sequence_length": True}, "sequence_length"),
    "no interval": ({"interval_seconds": 0}, "interval_seconds"),
    "an interval below 0": ({"interval_seconds": -900.0}, "interval_seconds"),
    "an interval of a text": ({"interval_seconds": "900"}, "interval_seconds"),
    "an interval of ages": ({"interval_seconds": 1e30}, "interval_seconds"),
    "gaps below 0": ({"max_gap_bars": -1}, "max_gap_bars"),
    "an intraday of a number": ({"intraday": 1}, "intraday"),
    "a temperature of 0 there": ({"temperature": 0.0}, "temperature"),
    "a temperature below all": ({"temperature": 1e-300}, "temperature"),
    "a temperature of null": ({"temperature": None}, "temperature"),
    "priors of a list": ({"priors": [1, 2]}, "priors"),
    "two priors": ({"priors": {"training_period": [0.5, 0.5]}}, "training_period"),
    "a prior below 0": ({"priors": {"training_period": [0.5, -0.5, 1]}}, "training_period"),
    "a prior next to 0": ({"call": {"rule": "x", "prior": [5e-324, 1, 1]}}, "call.prior"),
    "calls without a rule": ({"call": {"prior": [1, 1, 1]}}, "call"),
    "ranges of one side": ({"training_ranges": [[0, 0, 0]]}, "training_ranges"),
    "ranges of two features": ({"training_ranges": [[0, 0], [1, 1]]}, "training_ranges"),
    "ranges of texts": ({"training_ranges": [["a"] * 3, ["b"] * 3]}, "training_ranges"),
    "a period of one day": ({"training_period": ["2024-01-01"]}, "training_period"),
    "a period of words": ({"training_period": ["soon", "later"]}, "training_period"),
    "a period of NaT": ({"training_period": ["NaT", "NaT"]}, "training_period"),
    "a period that ends first": ({"training_period": ["2025-01-01", "2024-01-01"]}, "period"),
    "a period of another age": ({"training_period": ["0001-01-01", "9999-01-01"]}, "period"),
    "a period of two zones": (
        {"training_period": ["2024-01-01T00:00:00+00:00", "2025-01-01"]},
        "training_period",
    ),
    "versions of a text": ({"versions": "3"}, "versions"),
    "symbols of a text": ({"symbols": "BTC"}, "symbols"),
}  # fmt: skip


KERNEL = "layers/dense/vars/0"  # of the embedding, (3, 4)


def replaced(make):
    def change(file):
        del file[KERNEL]
        make(file, KERNEL)

    return change


def filled(value):
    def change(file):
        file[KERNEL][...] = value

    return change


def lie(file, name):
    file.create_dataset(name, (1 << 20, 1 << 12), "f4", chunks=(1024, 1024), compression="gzip")


def elsewhere(file, name):
    file.create_dataset(name, (3, 4), "f4", external=[("/etc/hostname", 0, 48)])


def virtual(file, name):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 4))
    file.create_virtual_dataset(name, layout)


def many(file):
    for number in range(12_000):
        file.create_group(f"more/{number}")


WEIGHT_FILES = {
    "NaN": (filled(np.nan), "hold NaN or infinity"),
    "infinity": (filled(np.inf), "hold NaN or infinity"),
    "an array that lies": (replaced(lie), "bytes of arrays"),
    "an array of texts": (replaced(lambda f, n: f.create_dataset(n, data=["a"])), "not numbers"),
    "an array without a shape": (
        replaced(lambda f, n: f.create_dataset(n, data=h5py.Empty("f4"))),
        "not numbers",
    ),
    "an array of another file": (replaced(elsewhere), "not numbers"),
    "a virtual array": (replaced(virtual), "not numbers"),
    "a link to a file": (
        replaced(lambda f, n: f.__setitem__(n, h5py.ExternalLink("/etc/hostname", "/x"))),
        "not where they belong",
    ),
    "a link inside": (
        replaced(lambda f, n: f.__setitem__(n, h5py.SoftLink("/nothing"))),
        "not where they belong",
    ),
    "a group in itself": (
        lambda f: f.__setitem__("layers/again", f["layers"]),
        "not where they belong",
    ),
    "many groups": (many, "not where they belong"),
    "another shape": (
        replaced(lambda f, n: f.create_dataset(n, data=np.zeros((4, 4), "f4"))),
        "must be a model.keras",
    ),
    "an array less": (replaced(lambda f, n: None), "must be a model.keras"),
    "no layers": (lambda f: f.__delitem__("layers"), "must be a model.keras"),
}

BUILT = {
    "heads that do not divide",
    "a node to nowhere",
    *(name for name in CONFIGS if name.startswith(("an arg", "an act", "a type", "a dropout"))),
    *("no prior", "a prior of 0", "a temperature of 0", "no temperature"),
    "a mean of one feature less",
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_is_none_is_refused_unread(name, good, tmp_path, builds_nothing):
    make, words = ARCHIVES[name]
    assert words in refusal(written(tmp_path, make(parts_of(good))))


@pytest.mark.parametrize("name", JSONS)
def test_a_config_that_is_none_is_refused_unread(name, good, tmp_path, builds_nothing):
    raw, words = JSONS[name]
    assert words in refusal(written(tmp_path, zipped({**parts_of(good), CONFIG: raw})))


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - BUILT))
def test_a_network_of_others_is_refused_unbuilt(name, good, tmp_path, builds_nothing):
    change, words = CONFIGS[name]
    assert words in refusal(written(tmp_path, with_config(parts_of(good), change)))


@pytest.mark.parametrize("name", sorted(BUILT))
def test_what_keras_or_a_layer_refuses_is_told_in_a_line(name, good, tmp_path):
    change, words = CONFIGS[name]
    assert words in refusal(written(tmp_path, with_config(parts_of(good), change)))


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_checked_before_the_network_is_built(name, good, tmp_path, builds_nothing):
    values, words = CONTRACTS[name]
    fault = refusal(written(tmp_path, with_config(parts_of(good), in_contract(**values))))
    assert words in fault and "contract" in fault


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_weights_that_are_none_are_refused(name, good, tmp_path):
    change, words = WEIGHT_FILES[name]
    assert words in refusal(written(tmp_path, with_weights(parts_of(good), change)))


@pytest.mark.parametrize("raw", [b"", b"\x89HDF\r\n\x1a\n", b"no HDF5" * 99, None])
def test_weights_that_are_no_hdf5_are_corrupt(raw, good, tmp_path, builds_nothing):
    parts = parts_of(good)
    parts[WEIGHTS] = parts[WEIGHTS][:5000] if raw is None else raw
    assert "is truncated or corrupt" in refusal(written(tmp_path, zipped(parts)))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "dangling.keras").symlink_to(tmp_path / "nothing")
    (tmp_path / "device.keras").symlink_to("/dev/zero")
    (tmp_path / "round.keras").symlink_to(tmp_path / "round.keras")
    for name, words in [
        ("folder.keras", "it is a folder"),
        ("pipe.keras", "it is a named pipe"),
        ("dangling.keras", "is a link to a file that does not exist"),
        ("device.keras", "it is a device"),
        ("round.keras", "is a link to a file that does not exist"),
    ]:
        assert words in refusal(tmp_path / name)
    with pytest.raises(InputError, match="no such model file"):
        load_classifier("a\0b.keras")


def test_a_good_file_is_read_and_bounds_are_options(good, tmp_path):
    assert load_classifier(good).output_shape == (None, 3)
    packed = written(tmp_path, zipped(parts_of(good), zipfile.ZIP_DEFLATED))
    assert load_classifier(packed).output_shape == (None, 3)
    assert "window_values, at most 100" in refusal(good, bounds=Bounds(window_values=100))
    assert "weights, at most 2,000" in refusal(good, bounds=Bounds(weights=2000))


def test_faults_of_the_program_keep_their_traceback(good, monkeypatch):
    def broken(*_, **__):
        raise KeyError("own")

    monkeypatch.setattr("models.model_file.declared", broken)
    monkeypatch.setattr("core.foreign._ROOMS", (__import__("pathlib").Path(__file__).parent,))
    with pytest.raises(KeyError, match="own"):
        load_classifier(good)
    with pytest.raises(InputError, match="x must be a model.keras of this project: 'library'"):
        monkeypatch.setattr("core.foreign._ROOMS", ())
        with refused("x"):
            raise KeyError("library")


def test_the_contract_of_a_file_is_that_of_its_model(good):
    parts = parts_of(good)
    assert layer(json.loads(parts[CONFIG]), "contract")["config"]["contract"] == CONTRACT
