import gzip

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from data.bars.checks import check_bars, digest
from data.bars.read import read_bars
from data.bars.sample import load_sample
from data.bars.synthetic import persistent_drift, random_walk


def good(symbol="AAA", rows=6):
    close = 10.0 + np.arange(rows)
    return pd.DataFrame(
        {
            "timestamp": 1_700_000_000 + 900 * np.arange(rows),
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": 5.0,
            "symbol": symbol,
        }
    )


def faults_of(frame):
    with pytest.raises(InputError) as error:
        check_bars(frame, "file.csv")
    return error.value.faults


def test_all_file_forms_give_the_same_frame(tmp_path):
    both = pd.concat([good("AAA"), good("BBB")], ignore_index=True)
    both.to_csv(tmp_path / "a.csv", index=False)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        both.to_csv(file, index=False)
    both.to_parquet(tmp_path / "a.parquet")
    both.to_feather(tmp_path / "a.feather")
    folder = tmp_path / "folder"
    folder.mkdir()
    for symbol in ("AAA", "BBB"):
        good(symbol).drop(columns="symbol").to_csv(folder / f"{symbol}.csv", index=False)
    expected = check_bars(both)
    for name in ("a.csv", "a.csv.gz", "a.parquet", "a.feather", "folder"):
        pd.testing.assert_frame_equal(read_bars(tmp_path / name), expected)
        assert digest(read_bars(tmp_path / name)) == digest(expected)


@pytest.mark.parametrize("unit,factor", [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_epoch_units_are_recognised_by_size(unit, factor):
    frame = good()
    frame["timestamp"] = (frame["timestamp"] * int(factor)).astype("int64")
    expected = pd.to_datetime(good()["timestamp"], unit="s", utc=True).astype("datetime64[ns, UTC]")
    assert check_bars(frame)["timestamp"].tolist() == expected.tolist()


def test_iso_text_is_read_as_utc():
    frame = good()
    expected = check_bars(frame)
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s").dt.strftime("%Y-%m-%dT%H:%M")
    frame["timestamp"] += ":" + pd.to_datetime(good()["timestamp"], unit="s").dt.strftime("%S")
    pd.testing.assert_frame_equal(check_bars(frame), expected)


BAD = {
    "unreadable date": ("timestamp", "next week", "timestamp must be an epoch time"),
    "non-positive": ("low", -1.0, "low must be above 0"),
    "high below low": ("high", 2.0, "high must not be below low"),
    "missing": ("close", None, "close is missing"),
    "infinite": ("volume", np.inf, "volume must be finite"),
    "text": ("open", "abc", "open must be a number"),
    "negative volume": ("volume", -1.0, "volume must not be negative"),
    "outside": ("close", 99.0, "open and close must lie between low and high"),
}


@pytest.mark.parametrize("name", BAD)
def test_every_bad_value_is_named_with_file_symbol_and_row(name):
    column, value, text = BAD[name]
    frame = good().astype({column: object})
    frame.loc[3, column] = value
    lines = [line for line in faults_of(frame) if text in line]
    assert len(lines) == 1
    assert lines[0].startswith("file.csv, symbol AAA, row 4: ")


def test_duplicate_and_unsorted_timestamps_are_told_apart():
    frame = good()
    frame.loc[3, "timestamp"] = frame.loc[2, "timestamp"]
    assert "row 4" in faults_of(frame)[0] and "duplicates: 1" in faults_of(frame)[0]
    frame.loc[3, "timestamp"] = frame.loc[0, "timestamp"] - 1
    assert "out of order: 1" in faults_of(frame)[0]


def test_wrong_columns_and_no_rows_are_one_fault_each():
    assert "it lacks volume" in faults_of(good().drop(columns="volume"))[0]
    assert faults_of(good().iloc[:0]) == ["file.csv must hold bars; it has no rows"]


def test_missing_empty_and_corrupt_files_are_faults_without_a_traceback(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "bad.exe").write_text("x")
    (tmp_path / "none").mkdir()
    for name in ("absent.csv", "empty.csv", "bad.parquet", "bad.exe", "none"):
        with pytest.raises(InputError) as error:
            read_bars(tmp_path / name)
        assert len(error.value.faults) == 1 and name in error.value.faults[0]


def test_other_columns_are_ignored_with_a_note(tmp_path):
    good().assign(trades=1).to_csv(tmp_path / "a.csv", index=False)
    notes = []
    read_bars(tmp_path / "a.csv", note=notes.append)
    assert notes == ["a.csv: columns ignored: trades"]


def test_the_sample_is_adjusted_for_splits():
    bars = load_sample()
    assert (
        bars["symbol"].nunique() == 5 and len(bars) > 12_000 and bars["timestamp"].dt.tz is not None
    )
    returns = bars["close"].map(np.log).groupby(bars["symbol"], observed=True).diff().dropna()
    apple = returns[bars.loc[returns.index, "symbol"] == "AAPL"]
    jumps = apple[bars.loc[apple.index, "timestamp"].dt.date.astype(str) == "2005-02-28"]
    assert abs(jumps.iloc[0]) < 0.1  # the day of a 2:1 split, log(2) = 0.69 if unadjusted


def test_synthetic_markets_are_deterministic_and_only_the_drift_persists():
    def autocorrelation(bars):
        move = np.log(bars["close"]).groupby(bars["symbol"], observed=True).diff(12)
        ahead = move.groupby(bars["symbol"], observed=True).shift(-12)
        return move.corr(ahead)

    assert digest(random_walk(2, 500, seed=3)) == digest(random_walk(2, 500, seed=3))
    assert abs(autocorrelation(random_walk())) < 0.1
    assert autocorrelation(persistent_drift()) > 0.3


def test_the_share_that_is_read_is_told_after_each_file(tmp_path):
    for number in range(3):
        good(f"S{number}").to_csv(tmp_path / f"S{number}.csv", index=False)
    shares = []
    read_bars(tmp_path, progress=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.01)
