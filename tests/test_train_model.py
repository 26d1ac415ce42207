import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import config
import train_model
from data.synthetic import persistent_drift

ROOT = Path(config.__file__).parent

# Small enough for a test, with every improvement at work in three epochs.
TINY = {
    "SEQUENCE_LENGTH": 12,
    "FUTURE_WINDOW": 3,
    "EMBARGO_BARS": 3,
    "XLSTM_UNITS": 8,
    "XLSTM_HEADS": 2,
    "SUPERVISED_EPOCHS": 3,
    "STEPS_PER_EPOCH": 6,
    "SUPERVISED_BATCH_SIZE": 16,
    "LR_WARMUP_EPOCHS": 0.5,
    "AFL_WARMUP_EPOCHS": 2,
    "LOGIT_CLIP_RELEASE_EPOCH": 2,
    "HNM_START_EPOCH": 1,
    "HNM_END_EPOCH": 2,
    "HNM_UPDATE_PERIOD": 1,
    "HNM_MAX_SCORED": 200,
    "VALIDATION_MAX_WINDOWS": 200,
    "BOOTSTRAP_RESAMPLES": 100,
}
FILES = {
    "config.json",
    "run.json",
    "history.csv",
    "model.keras",
    "metrics.json",
    "predictions.parquet",
    "report.html",
    "checkpoint",
}


def settings(**flags):
    return [f"--set={name}={_text(value)}" for name, value in (TINY | flags).items()]


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def command(*arguments):
    return [sys.executable, str(ROOT / "train_model.py"), *map(str, arguments)]


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    persistent_drift(num_symbols=3, num_bars=900, seed=1).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def finished(bars_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert train_model.main(["--data", str(bars_file), "--out", str(folder), *settings()]) == 0
    return folder


def metrics_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("timing")
    return metrics


def test_a_run_folder_is_complete(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"splits", "validation", "test", "baselines", "verdict", "collapse", "timing"} <= set(
        metrics
    )
    history = pd.read_csv(finished / "history.csv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert {"val_mcc", "val_nll", "learning_rate", "ce_weight", "hard_share"} <= set(history)


def test_predictions_are_proper_probabilities_of_the_test_windows(finished):
    table = pd.read_parquet(finished / "predictions.parquet")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert len(table) == metrics["splits"]["test"]["windows"]
    assert np.allclose(table[["p_sell", "p_hold", "p_buy"]].sum(axis=1), 1, atol=1e-5)
    assert set(table) == {
        "timestamp",
        "symbol",
        "label",
        "p_sell",
        "p_hold",
        "p_buy",
        "forward_return",
    }


def test_the_same_seed_gives_the_same_numbers(finished, bars_file, tmp_path):
    again = tmp_path / "again"
    assert train_model.main(["--data", str(bars_file), "--out", str(again), *settings()]) == 0
    assert metrics_of(again) == metrics_of(finished)
    assert (again / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()


def test_a_replayed_config_gives_the_same_numbers(finished, bars_file, tmp_path):
    again = tmp_path / "again"
    replay = ["--config", str(finished / "config.json"), "--data", str(bars_file)]
    assert train_model.main([*replay, "--out", str(again)]) == 0
    assert metrics_of(again) == metrics_of(finished)


# Every improvement's flags: the off-value, or another value.
FLIPS = {
    "[1] peak": {"LR_BASE": 1e-3},
    "[1] minimum": {"LR_MIN": 5e-4},
    "[1] warm-up": {"LR_WARMUP_EPOCHS": 0.0},
    "[1] clipping": {"GRADIENT_CLIP_NORM": 0.0},
    "[2] prior bias": {"USE_PRIOR_BIAS": False},
    "[3] blend": {"CE_WEIGHT_END": 1.0},
    "[3] start": {"CE_WEIGHT_START": 0.5},
    "[3] length": {"AFL_WARMUP_EPOCHS": 1},
    "[3] alpha": {"AFL_ALPHA": (1.0, 0.8, 1.0)},
    "[3] gamma": {"AFL_GAMMA": (0.0, 0.0, 0.0)},
    "[3] smoothing": {"CLASS_SMOOTHING": (0.0, 0.0, 0.0)},
    "[4] averages": {"USE_EMA_VALIDATION": False},
    "[4] decay": {"EMA_DECAY": 0.5},
    "[5] mining": {"USE_HARD_NEGATIVE_MINING": False},
    "[5] share": {"HNM_HARD_SAMPLE_START": 0.0, "HNM_HARD_SAMPLE_END": 0.0},
    "[5] start": {"HNM_START_EPOCH": 2},
    "[5] pool": {"HNM_TOP_K_FRACTION": 0.05},
    "[5] trim": {"HNM_TRIM_FRACTION": 0.3},
    "[5] scored": {"HNM_MAX_SCORED": 60},
    "[6] dropout 1": {"DROPOUT_RNN1": 0.0},
    "[6] dropout 2": {"DROPOUT_RNN2": 0.0},
    "[6] recurrent dropout": {"RECURRENT_DROPOUT": 0.0},
    "[6] L2": {"WEIGHT_DECAY_L2": 0.0},
    "[6] logit clip": {"LOGIT_CLIP": 0.0},
    "[6] release": {"LOGIT_CLIP_RELEASE_EPOCH": 1},
    "[7] augmentations": {"USE_AUGMENTATIONS": False},
    "[7] noise": {"AUG_NOISE_STD": 0.0},
    "[7] shift": {"AUG_TIME_SHIFT": 0},
    "[7] mask": {"AUG_MASK_PROB": 0.0},
    "[7] mask length": {"AUG_MASK_MAX_T": 2},
    "[8] classes": {"CLASS_BALANCED_BATCHING": False},
    "[8] symbols": {"SYMBOL_STRATIFIED_BATCHING": False},
    "gate cap": {"GATE_SOFT_CAP": 0.5},
    "uniqueness": {"USE_UNIQUENESS_WEIGHTS": True},
}
