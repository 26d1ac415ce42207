import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import config
import train_model
from data.synthetic import persistent_drift
from data.windows import gather, subsample
from models.deployable import load_classifier
from models.training.callbacks.validation import validation_metrics
from recipe import console, market
from recipe.market import read_market

ROOT = Path(config.__file__).parent

# Small enough for a test, with every improvement at work in three epochs.
TINY = {
    "JIT_COMPILE": False,  # seconds of compilation
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
    assert {"test", "baselines", "verdict", "costs", "timing", "seed", "num_folds"} <= set(metrics)
    (fold,) = metrics["folds"]
    assert {"splits", "validation", "test", "baselines", "chosen", "collapse"} <= set(fold)
    history = pd.read_csv(finished / "history.csv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert {"val_mcc", "val_nll", "learning_rate", "ce_weight", "hard_share"} <= set(history)


def test_predictions_are_proper_probabilities_of_the_test_windows(finished):
    table = pd.read_parquet(finished / "predictions.parquet")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert len(table) == metrics["folds"][0]["splits"]["test"]["windows"]
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


def test_a_replayed_config_gives_the_same_numbers(finished, bars_file, tmp_path):
    again = tmp_path / "again"
    replay = ["--config", str(finished / "config.json"), "--data", str(bars_file)]
    assert train_model.main([*replay, "--out", str(again)]) == 0
    assert metrics_of(again) == metrics_of(finished)
    assert (again / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()


def test_metrics_are_those_of_the_saved_model_in_a_fresh_process(finished, bars_file):
    code = (
        "import sys, json, numpy as np\n"
        "from data.bars import read_bars\n"
        "from evaluation.metrics import evaluate\n"
        "from models.xlstm_rl_model import load_classifier\n"
        "from recipe.predict import classify\n"
        "import pandas as pd\n"
        "model, bars, predictions = sys.argv[1:]\n"
        "table = classify(load_classifier(model), read_bars(bars))\n"
        "expected = pd.read_parquet(predictions)\n"
        "both = expected.merge(table, on=['timestamp', 'symbol'], suffixes=('', '_now'))\n"
        "assert len(both) == len(expected)\n"
        "names = ['p_sell', 'p_hold', 'p_buy']\n"
        "now = both[[n + '_now' for n in names]].to_numpy()\n"
        "print(json.dumps({'distance': float(np.abs(both[names].to_numpy() - now).max()),"
        " 'nll': evaluate(both['label'].to_numpy(), now)['nll']}))\n"
    )
    paths = [finished / "model.keras", bars_file, finished / "predictions.parquet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["distance"] < 1e-6
    metrics = json.loads((finished / "metrics.json").read_text())
    assert found["nll"] == pytest.approx(metrics["test"]["nll"], abs=1e-6)


def test_predict_writes_the_table_of_classify(finished, bars_file, tmp_path, capsys):
    out = tmp_path / "table.csv"
    arguments = ["predict", str(finished / "model.keras"), "--data", str(bars_file)]
    assert train_model.main([*arguments, "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert list(table) == ["timestamp", "symbol", "p_sell", "p_hold", "p_buy"]
    assert train_model.main([*arguments, "--out", str(out)]) == 2
    assert "must not exist yet" in capsys.readouterr().err


def test_bars_of_another_interval_are_refused(finished, tmp_path, capsys):
    path = tmp_path / "hourly.parquet"
    persistent_drift(num_symbols=1, num_bars=300, interval="1h").to_parquet(path)
    assert train_model.main(["predict", str(finished / "model.keras"), "--data", str(path)]) == 2
    assert "trained on bars every 900 seconds, got bars every 3600" in capsys.readouterr().err


# --- bad input: status 2, one line for each fault, nothing written

BARS = persistent_drift(num_symbols=2, num_bars=400, seed=2)


def faulty(tmp_path, change):
    frame = BARS.astype({"symbol": str}).copy()
    path = tmp_path / "bars.csv"
    frame = change(frame)
    frame.to_csv(path, index=False)
    return path


def set_value(row, column, value):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


def refused(arguments, capsys, tmp_path):
    """Runs the command and returns the lines on standard error; nothing may be left behind."""
    out = tmp_path / "run"
    before = sorted(tmp_path.rglob("*"))
    status = train_model.main([*arguments, "--out", str(out)])
    assert status == 2
    assert sorted(tmp_path.rglob("*")) == before
    lines = capsys.readouterr().err.splitlines()
    assert lines and not any("Traceback" in line for line in lines)
    return lines


FAULTS = {
    "unreadable date": (set_value(7, "timestamp", "soon"), ["timestamp", "SYN0, row 8", "soon"]),
    "duplicate time": (lambda f: pd.concat([f.iloc[:5], f.iloc[4:]]), ["SYN0", "timestamp"]),
    "unsorted": (lambda f: f.iloc[[1, 0, *range(2, len(f))]], ["SYN0"]),
    "price of zero": (set_value(3, "close", 0.0), ["close", "SYN0"]),
    "high below low": (set_value(3, "high", 0.001), ["high", "SYN0"]),
    "missing value": (set_value(3, "volume", None), ["volume", "SYN0"]),
    "infinite value": (set_value(3, "close", "inf"), ["close", "SYN0"]),
    "text": (set_value(3, "open", "a lot"), ["open"]),
    "no close": (lambda f: f.drop(columns="close"), ["close"]),
    "too few rows": (lambda f: f.groupby("symbol").head(100), ["needs at least"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_bars_are_named_and_leave_nothing(name, tmp_path, capsys):
    change, words = FAULTS[name]
    path = faulty(tmp_path, change)
    lines = refused(["--data", str(path), *settings()], capsys, tmp_path)
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines


def test_missing_and_empty_files_are_named(tmp_path, capsys):
    assert "nothing.csv" in refused(["--data", "nothing.csv"], capsys, tmp_path)[0]
    empty = tmp_path / "empty.csv"
    empty.touch()
    assert "empty.csv" in refused(["--data", str(empty)], capsys, tmp_path)[0]


def test_a_class_missing_from_the_labels_is_named(tmp_path, capsys):
    path = faulty(tmp_path, lambda f: f)
    flags = settings(LABEL_METHOD="fixed", PRICE_CHANGE_THRESHOLD=5.0)
    lines = refused(["--data", str(path), *flags], capsys, tmp_path)
    assert "SELL" in lines[0] and "BUY" in lines[0]


def test_a_single_symbol_and_a_short_one_train_on(tmp_path, capsys):
    one = persistent_drift(num_symbols=1, num_bars=900, seed=1).astype({"symbol": str})
    path = tmp_path / "bars.parquet"
    pd.concat([one, one.head(30).assign(symbol="SHORT")]).to_parquet(path)
    flags = config.load(**TINY)
    found, _ = read_market(str(path), flags)
    assert len(found.symbol_names) == 1
    assert "is skipped" in capsys.readouterr().out


def test_faulty_flags_are_named_before_anything_is_read(tmp_path, capsys):
    arguments = ["--set", "EMA_DECY=1", "--set", "EMA_DECAY=fast", "--data", "nothing.csv"]
    lines = refused(arguments, capsys, tmp_path)
    assert sorted(lines) == [
        "EMA_DECAY must be float, got 'fast'",
        "unknown flag EMA_DECY; did you mean EMA_DECAY?",
    ]
    assert "need 0 <= EMA_DECAY < 1" in refused(["--set", "EMA_DECAY=2"], capsys, tmp_path)[0]


def test_an_existing_folder_is_never_touched(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert "must not exist yet" in refused([], capsys, tmp_path)[0]


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train_model.main(["--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be" in capsys.readouterr().err


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


# --- verbs


def test_a_misspelt_verb_is_told_the_nearest(capsys):
    assert train_model.main(["resum", "runs/one"]) == 2
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "the verb must be one of train, resume, audit, predict, download, got resum; did you mean resume?"
    ]


def test_every_verb_has_its_own_help_with_an_example(capsys):
    _, verbs = train_model._parsers()
    for verb in verbs:
        with pytest.raises(SystemExit) as done:
            train_model.main([verb, "--help"])
        assert done.value.code == 0
        told = capsys.readouterr().out
        assert f"usage: train_model.py {verb}" in told
        assert "example: python train_model.py" in told


def test_the_help_names_every_verb(capsys):
    with pytest.raises(SystemExit):
        train_model.main(["--help"])
    told = capsys.readouterr().out
    assert all(f"    {verb} " in told for verb in train_model._parsers()[1])


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
    from data.augment import augment_sequences_batched
    from data.generator import balanced_batch_generator

    assert train_model.augment_sequences_batched is augment_sequences_batched
    assert train_model.balanced_batch_generator is balanced_batch_generator
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = train_model.nothing_here


def test_the_audit_of_good_bars_is_clean(bars_file, capsys):
    assert train_model.main(["audit", "--data", str(bars_file), *settings()]) == 0
    assert "clean" in capsys.readouterr().out


# --- errors are not disguised


def test_a_value_error_inside_training_keeps_its_traceback_and_gives_1(bars_file, tmp_path):
    code = (
        "import sys, keras, train_model\n"
        "def fit(*arguments, **options): raise ValueError('from inside fit')\n"
        "keras.Model.fit = fit\n"
        "sys.exit(train_model.main(sys.argv[1:]))\n"
    )
    arguments = ["--data", str(bars_file), "--out", str(tmp_path / "run"), *settings()]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: from inside fit" in done.stderr


def chatter(capfd, text, error=None):
    """Returns what is left of a text that native code wrote while TensorFlow was imported."""
    try:
        with console.without_native_chatter():
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


# --- never lost


def wait_for(path, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    assert "is finished" in capsys.readouterr().out
    assert (finished / "metrics.json").read_bytes() == before


def test_the_saved_model_has_the_weights_that_the_history_chose(finished, bars_file):
    chosen = json.loads((finished / "metrics.json").read_text())["folds"][0]["chosen"]["epoch"]
    row = pd.read_csv(finished / "history.csv").set_index("epoch").loc[chosen]
    flags = config.load(replay=finished / "config.json")
    found, _ = read_market(str(bars_file), flags)
    fold = found.folds[0]
    ends = fold.validation[subsample(len(fold.validation), flags.VALIDATION_MAX_WINDOWS)]
    model = load_classifier(finished / "model.keras", feature_names=found.feature_names)
    logits = keras.Model(model.input, model.get_layer("classifier").output)
    predicted = logits.predict(gather(found.features, ends, flags.SEQUENCE_LENGTH), verbose=0)
    figures = validation_metrics(fold.labels[ends], predicted, ("sell", "hold", "buy"))
    for name, value in figures.items():
        assert value == pytest.approx(row[name], abs=1e-6), name
