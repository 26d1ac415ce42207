import ast
import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import config
from core.errors import InputError

ROOT = Path(config.__file__).parent
NAMES = {field.name for field in dataclasses.fields(config.Flags)}

BROKEN = {
    "SEQUENCE_LENGTH": 1,
    "FUTURE_WINDOW": 0,
    "MAX_GAP_BARS": -1,
    "TIMEFRAMES": (4, 1),
    "MARKET_FORMS": ("mean", "median"),
    "MARKET_MIN_SYMBOLS": 3,
    "LABEL_REFERENCE": "index",
    "LABEL_METHOD": "guess",
    "PRICE_CHANGE_THRESHOLD": 0.0,
    "TARGET_CLASS_RATIOS": (0.5, 0.5),
    "VALIDATION_FRACTION": 0.0,
    "TEST_FRACTION": 0.0,
    "EMBARGO_BARS": -1,
    "WALK_FORWARD_FOLDS": 0,
    "LABELS_PER_SEQUENCE": -1,
    "SUPERVISED_BATCH_SIZE": 2,
    "STEPS_PER_EPOCH": -1,
    "RECENCY_HALF_LIFE": -1,
    "AUG_NOISE_STD": -0.1,
    "AUG_TIME_SHIFT": -1,
    "AUG_MASK_PROB": 1.1,
    "AUG_MASK_MAX_T": 60,
    "XLSTM_BLOCKS": "mx",
    "XLSTM_UNITS": 0,
    "XLSTM_HEADS": 5,
    "GATE_SOFT_CAP": -1.0,
    "DROPOUT_RNN1": 1.0,
    "DROPOUT_RNN2": -0.1,
    "RECURRENT_DROPOUT": 1.0,
    "WEIGHT_DECAY_L2": -1.0,
    "LOGIT_CLIP": -1.0,
    "LOGIT_CLIP_RELEASE_EPOCH": -1,
    "SUPERVISED_EPOCHS": 0,
    "LR_MIN": 1.0,
    "LR_WARMUP_EPOCHS": 20.0,
    "WARM_EPOCHS": 0,
    "WARM_LR_BASE": 0.0,
    "WARM_LR_WARMUP_EPOCHS": 3.0,
    "GRADIENT_CLIP_NORM": -1.0,
    "AFL_WARMUP_EPOCHS": -1,
    "CE_WEIGHT_START": 0.1,
    "AFL_ALPHA": (1.0, 0.0, 1.0),
    "AFL_GAMMA": (1.0, -1.0, 1.0),
    "CLASS_SMOOTHING": (0.0, 0.0, 1.0),
    "EMA_DECAY": 1.0,
    "HNM_START_EPOCH": 16,
    "HNM_HARD_SAMPLE_START": 0.6,
    "HNM_UPDATE_PERIOD": 0,
    "HNM_TOP_K_FRACTION": 0.0,
    "HNM_TRIM_FRACTION": -0.1,
    "HNM_MAX_SCORED": -1,
    "CHECKPOINT_METRIC": "loss",
    "EARLY_STOPPING_EPOCHS": -1,
    "VALIDATION_MAX_WINDOWS": -1,
    "COST_BPS": -1.0,
    "SEED": -1,
    "ENSEMBLE_SIZE": 0,
    "BLEND": ("forest",),
}


def test_the_defaults_keep_every_rule():
    assert dataclasses.is_dataclass(config.load())


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_broken_is_named_with_the_present_value(name):
    with pytest.raises(InputError) as error:
        config.load(**{name: BROKEN[name]})
    assert any(f"{name} = {BROKEN[name]!r}" in line for line in error.value.faults)


SUMS = {
    "LABEL_REFERENCE == 'none' or LABEL_METHOD != 'triple_barrier'": {
        "LABEL_REFERENCE": "market",
        "LABEL_METHOD": "triple_barrier",
    },
    "VALIDATION_FRACTION + TEST_FRACTION < 1": {"VALIDATION_FRACTION": 0.5, "TEST_FRACTION": 0.5},
    "HNM_TOP_K_FRACTION + HNM_TRIM_FRACTION <= 1": {"HNM_TRIM_FRACTION": 0.9},
}


def test_every_rule_is_broken_by_some_case():
    broken = set()
    for values in [*({name: value} for name, value in BROKEN.items()), *SUMS.values()]:
        with pytest.raises(InputError) as error:
            config.load(**values)
        broken |= {
            re.split(r" \([A-Z_0-9]+ = ", line.removeprefix("need "))[0]
            for line in error.value.faults
        }
    assert broken == set(config.RULES)


@pytest.mark.parametrize("rule", config.RULES)
def test_a_rule_names_only_flags_and_plain_words(rule):
    words = {node.id for node in ast.walk(ast.parse(rule)) if isinstance(node, ast.Name)}
    assert words - {"len", "min", "max", "set"} <= NAMES


def test_an_empty_list_is_a_fault_and_no_crash():
    for name in ["AFL_ALPHA", "XLSTM_BLOCKS"]:
        with pytest.raises(InputError, match=name):
            config.load([f"{name}="])
    with pytest.raises(InputError, match="XLSTM_HEADS = 0"):
        config.load(["XLSTM_HEADS=0"])


def test_every_section_names_the_files_that_implement_it():
    lines = (ROOT / "config.py").read_text().splitlines()
    sections = [i for i, line in enumerate(lines) if line.startswith("    # --- ")]
    assert len(sections) > 10
    for start in sections:
        comment = itertools.takewhile(lambda line: line.startswith("    #"), lines[start:])
        named = re.findall(r"\w+/[\w/]+\.py", " ".join(comment))
        assert named, lines[start]
        assert all((ROOT / path).is_file() for path in named), lines[start]


def test_all_faults_are_reported_together():
    with pytest.raises(InputError) as error:
        config.load(["EMA_DECY=0.9", "EMA_DECAY=fast", "LR_BASE"])
    assert sorted(error.value.faults) == [
        "--set needs NAME=VALUE, got 'LR_BASE'",
        "EMA_DECAY must be float, got 'fast'",
        "unknown flag EMA_DECY; did you mean EMA_DECAY?",
    ]


def test_a_broken_rule_names_all_values_it_compares():
    with pytest.raises(InputError) as error:
        config.load(["CE_WEIGHT_END=0.9", "CE_WEIGHT_START=0.8"])
    assert error.value.faults == [
        "need 0 <= CE_WEIGHT_END <= CE_WEIGHT_START <= 1"
        " (CE_WEIGHT_START = 0.8, CE_WEIGHT_END = 0.9)"
    ]


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        (["SUPERVISED_EPOCHS=1"], "; change LR_WARMUP_EPOCHS as well"),
        (["XLSTM_HEADS=3"], "; change XLSTM_UNITS as well"),
        (["LABELS_PER_SEQUENCE=1000"], "; change SEQUENCE_LENGTH as well"),
        (["LR_WARMUP_EPOCHS=-1"], ""),  # which no other flag mends
        (["LR_WARMUP_EPOCHS=1", "SUPERVISED_EPOCHS=1"], ""),
    ],
)
def test_a_rule_that_a_change_breaks_names_the_flag_to_change_with_it(changes, hint):
    with pytest.raises(InputError) as error:
        config.load(changes)
    (line,) = error.value.faults
    assert line.partition(")")[2] == hint


def test_texts_become_the_annotated_types():
    flags = config.load(
        ["SEED=7", "USE_AUGMENTATIONS=false", "AFL_ALPHA=1,2,3", "LR_WARMUP_EPOCHS=1"]
    )
    assert (flags.SEED, flags.USE_AUGMENTATIONS, flags.AFL_ALPHA) == (7, False, (1.0, 2.0, 3.0))
    assert isinstance(flags.LR_WARMUP_EPOCHS, float)


@pytest.mark.parametrize("text", ["SEED=1.5", "SEED=true", "USE_AUGMENTATIONS=2", "EMA_DECAY=nan"])
def test_values_of_the_wrong_type_are_refused(text):
    with pytest.raises(InputError, match=text.partition("=")[0] + " must be"):
        config.load([text])


def test_a_notebook_changes_flags_by_name():
    assert config.load(SEED=99) == dataclasses.replace(config.load(), SEED=99)


def test_numbers_of_numpy_and_paths_are_taken_as_what_json_can_hold():
    path = Path("own") / "my_features.py"
    flags = config.load(SEED=np.int64(99), LR_BASE=np.float32(0.5), OWN_FEATURES=path)
    assert flags == config.load(SEED=99, LR_BASE=0.5, OWN_FEATURES=str(path))
    json.dumps(config.as_dict(flags))
    with pytest.raises(InputError, match="SEED must be int"):
        config.load(SEED=np.float64(1.5))


def test_flags_written_to_json_are_replayed_and_set_wins(tmp_path):
    flags = config.load(["EMA_DECAY=0.9", "SEED=3"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.as_dict(flags)))
    assert config.load(replay=path) == flags
    assert config.load(["SEED=4"], replay=path).SEED == 4


def test_a_replay_without_the_flag_is_of_a_version_without_deviations(tmp_path):
    path = tmp_path / "config.json"
    before = config.as_dict(config.load(SEED=3))
    assert before.pop("ROLLING_DEVIATIONS") is True
    path.write_text(json.dumps(before))
    assert config.load(replay=path) == config.load(SEED=3, ROLLING_DEVIATIONS=False)
    assert config.load(["ROLLING_DEVIATIONS=true"], replay=path) == config.load(SEED=3)
    path.write_text('{"SEED": 3}')  # by hand
    assert config.load(replay=path) == config.load(SEED=3)


def test_an_unreadable_replay_is_one_clear_fault(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    for name, text in [("none.json", "cannot read the flags"), ("bad.json", "must be a config")]:
        with pytest.raises(InputError, match=text):
            config.load(replay=tmp_path / name)


def test_every_improvement_is_marked():
    source = (ROOT / "config.py").read_text()
    assert all(f"[{number}]" in source for number in range(1, 9))


def test_every_flag_is_read_and_every_read_is_a_flag():
    read = set()
    for path in [ROOT / "train_model.py", *(ROOT / "recipe").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        read |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "flags"
        }
    read = {name for name in read if name.isupper()}
    assert read == NAMES
