import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from data.bars.read import read_bars


def write(tmp_path, times, rows, reverse=False):
    table = pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume"])
    table.insert(0, "date", pd.DatetimeIndex(times).strftime("%Y-%m-%d %H:%M:%S"))
    table = table[::-1] if reverse else table
    table.to_csv(tmp_path / "A.csv", index=False)
    return tmp_path / "A.csv"


def rows(n, *last):
    return [[10.0, 12.0, 9.0, 11.0, 100.0]] * n + list(last)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("clock", ["00:00", "16:00:02"])
def test_a_day_that_yahoo_tells_twice_has_the_later_volume(clock, reverse, tmp_path):
    times = [*pd.date_range("2024-01-02", periods=8), pd.Timestamp(f"2024-01-09 {clock}")]
    notes = []
    path = write(tmp_path, times, rows(8, [10, 12, 9, 11.01, 130]), reverse)
    bars = read_bars(path, note=notes.append)
    assert len(bars) == 8 and bars["timestamp"].iloc[-1] == pd.Timestamp("2024-01-09", tz="UTC")
    assert bars.iloc[-1][["close", "volume"]].tolist() == [11.01, 130]
    assert "newest bar of A comes in two rows" in notes[0]


@pytest.mark.parametrize("freq, last", [("W-MON", "2024-02-23 20:41"), ("MS", "2024-08-30 20:41")])
def test_the_rest_of_a_week_or_a_month_belongs_to_it(freq, last, tmp_path):
    times = [*pd.date_range("2024-01-01", periods=8, freq=freq), pd.Timestamp(last)]
    bars = read_bars(write(tmp_path, times, rows(8, [11, 13, 10.5, 12, 30])))
    assert len(bars) == 8
    newest = bars.iloc[-1][["open", "high", "low", "close", "volume"]].tolist()
    assert newest == [10, 13, 9, 12, 130]
    bars = read_bars(write(tmp_path, times, rows(8, [10.5, 11.5, 10, 11, 30])))
    assert bars.iloc[-1]["volume"] == 100  # the whole week has it already


def test_other_doubles_are_refused_and_other_bars_kept(tmp_path):
    days = pd.date_range("2024-01-02", periods=8)
    with pytest.raises(InputError, match="duplicates: 1"):
        read_bars(write(tmp_path, [*days, days[-1]], rows(8, [20, 22, 19, 21, 1])))
    with pytest.raises(InputError, match="duplicates: 1"):
        read_bars(write(tmp_path, [days[0], *days], rows(9)))
    fridays = [*pd.date_range("2024-01-05", periods=8, freq="W-FRI"), pd.Timestamp("2024-02-29")]
    assert len(read_bars(write(tmp_path, fridays, rows(9)))) == 9  # a holiday: six days


def test_prices_that_miss_each_other_by_rounding_are_put_right_with_a_note(tmp_path):
    times = pd.date_range("2024-01-02", periods=4)
    off = [[10, 12, 9, 12.000004, 1], [10, 12, 10.000002, 11, 1], [9, 9 - 1e-6, 9, 9, 1]]
    notes = []
    bars = read_bars(write(tmp_path, times, rows(1, *off)), note=notes.append)
    assert bars["high"].tolist() == [12, 12.000004, 12, 9] and bars["low"].iloc[2] == 10
    assert "high or low was off by rounding in 3 rows (first: row 2)" in notes[0]
    with pytest.raises(InputError, match="must lie between"):
        read_bars(write(tmp_path, times, rows(3, [10, 12, 9, 12.0001, 1])))
    assert np.isfinite(bars["volume"]).all()
