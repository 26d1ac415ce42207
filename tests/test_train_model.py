import json
import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from tiny_run import ROOT, command, metrics_of, settings

import config
import train_model
from core.i18n import speaking
from core.native_chatter import without_native_chatter
from core.priors import fit_temperature, tempered
from data.bars.synthetic import persistent_drift, random_walk
from data.market.market import training_prior
from data.market.windows import gather, subsample
from evaluation.judge import blocks_of
from evaluation.metrics import evaluate
from evaluation.report.formats import words
from evaluation.report.report import MACHINE
from models.deployable import contract_of, load_classifier
from models.training.callbacks.validation import validation_metrics
from recipe.cli.options import parsers
from recipe.run.market import read_market

FILES = {
    "config.json",
    "run.json",
    "history.csv",
    "model.keras",
    "metrics.json",
    "predictions.parquet",
    "validation.parquet",
    "report.html",
    "checkpoint",
}


def test_a_run_folder_is_complete(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"test", "baselines", "verdict", "costs", "timing", "seed", "num_folds"} <= set(metrics)
    (fold,) = metrics["folds"]
    assert {"splits", "validation", "test", "baselines", "chosen", "collapse"} <= set(fold)
    assert len(fold["importance"]["features"]) == len(fold["drift"]) > 0
    page = (finished / "report.html").read_text(encoding="utf-8")
    for part in (
        "Does it hold",
        "What it would have done",
        "The last test bars",
        "Why",
        "All flags",
    ):
        assert part in page
    history = pd.read_csv(finished / "history.csv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert {"val_mcc", "val_nll", "learning_rate", "ce_weight", "hard_share"} <= set(history)


def test_every_key_that_the_report_shows_has_its_russian(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    (fold,) = metrics["folds"]
    run_info = json.loads((finished / "run.json").read_text())
    shown = {*metrics["timing"], *fold["baselines"], *fold["splits"], *set(MACHINE) & set(run_info)}
    shown |= {
        name for part in ("calibration", "label", "dropped", "repeats") for name in fold[part]
    }
    with speaking("ru"):
        same = {name for name in shown if words(name).isascii()}
    assert same == {"alpha", "gamma", "symbols"}  # the last is not shown


@pytest.mark.parametrize(
    "split, name", [("test", "predictions.parquet"), ("validation", "validation.parquet")]
)
def test_predictions_are_proper_probabilities_of_the_windows_of_a_split(finished, split, name):
    table = pd.read_parquet(finished / name)
    fold = json.loads((finished / "metrics.json").read_text())["folds"][0]
    assert len(table) == fold["splits"][split]["windows"]
    own = table[["p_sell", "p_hold", "p_buy"]].to_numpy()[np.arange(len(table)), table["label"]]
    assert -np.log(own).mean() == pytest.approx(fold[split]["nll"], abs=1e-6)
    assert np.allclose(table[["p_sell", "p_hold", "p_buy"]].sum(axis=1), 1, atol=1e-5)
    lifts = table[["p_sell", "p_hold", "p_buy"]].to_numpy() / fold["prior"]
    assert (table["call"] == lifts.argmax(axis=1)).all()
    called = np.bincount(table["call"], minlength=3) / len(table)
    assert fold[split]["class_rates"]["predicted"] == pytest.approx(called.tolist())
    assert set(table) == {
        "timestamp",
        "symbol",
        "label",
        "call",
        "side",
        "p_sell",
        "p_hold",
        "p_buy",
        "forward_return",
    }


def test_a_replayed_config_gives_the_same_numbers_and_a_brief_run_no_others(
    finished, bars_file, tmp_path
):
    again = tmp_path / "again"
    replay = ["--config", str(finished / "config.json"), "--data", str(bars_file), "--brief"]
    assert train_model.main([*replay, "--out", str(again)]) == 0
    for name in ("history.csv", "predictions.parquet", "validation.parquet"):
        assert (again / name).read_bytes() == (finished / name).read_bytes()
    brief, whole = metrics_of(again), metrics_of(finished)
    assert brief["test"] == whole["test"] and brief["costs"].keys() == whole["costs"].keys()
    assert brief["verdict"]["sentence"].startswith("No verdict")
    assert set(brief["baselines"]) == {"constant prior", "persistence"}
    assert not (again / "report.html").exists() and "importance" not in brief["folds"][0]


def test_predict_in_a_fresh_process_gives_the_figures_of_the_run(finished, bars_file, tmp_path):
    out = tmp_path / "table.csv"
    arguments = ["predict", finished / "model.keras", "--data", bars_file, "--out", out]
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out, parse_dates=["timestamp"])
    assert list(table) == ["timestamp", "symbol", "call", "p_sell", "p_hold", "p_buy", "unfamiliar"]
    expected = pd.read_parquet(finished / "predictions.parquet")
    both = expected.merge(table, on=["timestamp", "symbol"], suffixes=("", "_now"))
    assert len(both) == len(expected)
    names = ["p_sell", "p_hold", "p_buy"]
    now = both[[f"{name}_now" for name in names]].to_numpy()
    assert np.abs(both[names].to_numpy() - now).max() < 1e-6
    metrics = json.loads((finished / "metrics.json").read_text())
    nll = evaluate(both["label"].to_numpy(), now).nll
    assert nll == pytest.approx(metrics["test"]["nll"], abs=1e-6)
    counts = metrics["folds"][0]["splits"]["train"]["class_counts"]
    lifts = table[names].to_numpy() / list(counts.values())
    assert table["call"].tolist() == np.array(list(counts))[lifts.argmax(axis=1)].tolist()
    call = contract_of(load_classifier(finished / "model.keras"))["call"]
    assert call["rule"] == "largest lift"
    assert np.allclose(np.array(call["prior"]) * sum(counts.values()), list(counts.values()))


def test_symbols_that_move_together_are_told_and_judged_against_each_other(tmp_path, capsys):
    bars = random_walk(10, 500, interval="1h")
    common = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 500)))
    for price in ("open", "high", "low", "close"):
        bars[price] *= np.tile(common, 10)
    bars.to_parquet(tmp_path / "bars.parquet", index=False)
    asked = ["--data", str(tmp_path / "bars.parquet"), "--brief", "--out", str(tmp_path / "run")]
    assert train_model.main([*asked, *settings(SUPERVISED_EPOCHS=2, XLSTM_BLOCKS="m")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "of the variance of 3-bar moves is common to all symbols" in told
    found = metrics_of(tmp_path / "run")["cross_section"]
    assert found["symbols"] == 10 and found["baselines"] == {}
    assert -1 < found["model"]["timing"]["value"] < 1  # validation windows are the past
    predictions = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert found["bars"] == predictions["timestamp"].nunique()


def test_predict_writes_over_no_file(tmp_path, capsys):
    out = tmp_path / "table.csv"
    out.write_text("mine")
    assert train_model.main(["predict", "model.keras", "--data", "bars", "--out", str(out)]) == 2
    assert "must not exist yet" in capsys.readouterr().err and out.read_text() == "mine"


def test_bars_of_another_interval_are_refused(finished, tmp_path, capsys):
    path = tmp_path / "hourly.parquet"
    persistent_drift(num_symbols=1, num_bars=300, interval="1h").to_parquet(path)
    assert train_model.main(["predict", str(finished / "model.keras"), "--data", str(path)]) == 2
    assert "trained on bars every 15 minutes, got bars every hour" in capsys.readouterr().err


# --- commands


def test_a_misspelt_command_is_told_the_nearest(capsys):
    assert train_model.main(["resum", "runs/one"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("the command must be one of train, resume, audit, ")
    assert told.endswith(", got resum; did you mean resume?\n") and told.count("\n") == 1


def test_every_command_has_its_own_help_with_an_example(capsys):
    _, commands = parsers()
    for name in commands:
        with pytest.raises(SystemExit) as done:
            train_model.main([name, "--help"])
        assert done.value.code == 0
        told = capsys.readouterr().out
        assert f"usage: train_model.py {name}" in told
        assert "example: python train_model.py" in told


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        train_model.main(["--help"])
    told = capsys.readouterr().out
    assert all(f"    {name} " in told for name in parsers()[1])


@pytest.mark.parametrize("arguments", [["resume", "--help"], ["--set", "EMA_DECY=1"], ["resum"]])
def test_help_and_flag_errors_import_nothing_that_takes_long(arguments):
    code = (
        "import sys, train_model\n"
        "try: train_model.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'scipy', 'sklearn', 'keras', 'tensorflow'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_names_that_notebooks_import_are_there():
    from data.batches.augment import augment_sequences_batched
    from data.batches.generator import balanced_batch_generator

    assert train_model.augment_sequences_batched is augment_sequences_batched
    assert train_model.balanced_batch_generator is balanced_batch_generator
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = train_model.nothing_here


def test_the_audit_of_good_bars_is_clean(bars_file, capsys):
    assert train_model.main(["audit", "--data", str(bars_file), *settings()]) == 0
    assert "clean" in capsys.readouterr().out


# --- errors are not disguised


def test_a_value_error_inside_training_passes_as_it_is(bars_file, tmp_path, monkeypatch):
    def fit(*arguments, **options):
        raise ValueError("from inside fit")

    monkeypatch.setattr(keras.Model, "fit", fit)
    arguments = ["--data", str(bars_file), "--out", str(tmp_path / "run"), *settings()]
    with pytest.raises(ValueError, match="^from inside fit$"):
        train_model.main(arguments)


@pytest.mark.slow  # that errors pass is also seen above
def test_an_error_that_passes_keeps_its_traceback_and_gives_1():
    code = (
        "import sys, train_model, recipe.run.market\n"
        "def read_market(*arguments, **more): raise ValueError('from inside')\n"
        "recipe.run.market.read_market = read_market\n"
        "sys.exit(train_model.main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: from inside" in done.stderr


def chatter(capfd, text, error=None):
    """Returns what is left of a text that native code wrote while TensorFlow was imported."""
    try:
        with without_native_chatter():
            os.write(2, text.encode())
            if error is not None:
                raise error
    except ImportError:
        pass
    return capfd.readouterr().err


def test_native_chatter_is_hidden_as_long_as_nothing_failed(capfd):
    assert chatter(capfd, "oneDNN custom operations are on\n") == ""
    no_gpu = "failed call to cuInit: UNKNOWN ERROR (303)\n"
    assert chatter(capfd, no_gpu) == ""


def test_native_chatter_is_shown_where_something_failed(capfd):
    assert chatter(capfd, "undefined symbol\n", ImportError()) == "undefined symbol\n"
    for text in [
        "Cannot dlopen some GPU libraries.\n",
        "Could not load dynamic library 'libcudart.so.12'\n",
        "failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\n",
    ]:
        assert chatter(capfd, text) == text


def test_the_saved_model_has_the_weights_that_the_history_chose(finished, bars_file):
    metrics = json.loads((finished / "metrics.json").read_text())["folds"][0]
    chosen, shipped = metrics["chosen"]["epoch"], metrics["calibration"]["temperature"]
    row = pd.read_csv(finished / "history.csv").set_index("epoch").loc[chosen]
    flags = config.load(replay=finished / "config.json")
    found, _ = read_market(str(bars_file), flags)
    fold = found.folds[0]
    ends = fold.validation[subsample(len(fold.validation), flags.VALIDATION_MAX_WINDOWS)]
    model = load_classifier(finished / "model.keras", feature_names=found.feature_names)
    p = model.predict(gather(found.features, ends, flags.SEQUENCE_LENGTH), verbose=0)
    log_p = np.log(p.astype(np.float64))
    # Each epoch has its temperature from the windows that were validated; what is shipped, of all.
    prior, blocks = training_prior(fold), blocks_of(found, ends)
    log_p = tempered(log_p, prior, 1 / shipped)
    log_p = tempered(log_p, prior, fit_temperature(log_p, fold.labels[ends], prior, blocks))
    figures = validation_metrics(fold.labels[ends], log_p, ("sell", "hold", "buy"), prior)
    for name, value in figures.items():
        assert value == pytest.approx(row[name], abs=1e-6), name
