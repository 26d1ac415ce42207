import pandas as pd
import pytest
from tiny_run import TINY, settings

import config
import train_model
from data.bars.synthetic import persistent_drift
from recipe.cli import console
from recipe.run.market import read_market

# Bad input: status 2, one line for each fault, nothing written.

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
    found, _ = read_market(str(path), flags, console)
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
