import numpy as np
import pandas as pd
import pytest

from data.times.timestamps import complaint, is_time_of_day, read_times

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def epochs(start, unit, freq="D", rows=100):
    times = pd.date_range(start, periods=rows, freq=freq, tz="UTC")
    seconds = (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta("1s")
    return pd.Series(np.asarray(seconds, np.int64) * UNITS[unit]), times


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("start", ["1962-01-02", "1969-12-01", "1972-06-01", "1973-02-01", "2024"])
def test_the_unit_of_epochs_belongs_to_the_file(start, unit):
    raw, times = epochs(start, unit)
    assert (read_times(raw) == times).all()
    assert (read_times(raw.astype(float)) == times).all()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("rows", [30, 100])
def test_the_first_days_of_1970_are_no_years_in_a_coarser_unit(unit, rows):
    raw, times = epochs("1970-01-02", unit, rows=rows)
    assert (read_times(raw) == times).all()


@pytest.mark.parametrize("unit", UNITS)
def test_half_a_century_has_one_unit(unit):
    raw, times = epochs("1965-01-01", unit, freq="30D", rows=700)
    assert (read_times(raw) == times).all()


def test_a_file_may_change_from_milliseconds_to_microseconds():
    first, times = epochs("2024-12-25", "ms", rows=7)
    then, later = epochs("2025-01-01", "us", rows=7)
    both = pd.concat([first, then], ignore_index=True)
    assert list(read_times(both)) == [*times, *later]


def test_a_time_that_nanoseconds_cannot_hold_is_none():
    texts = pd.Series(["2024-01-01", "9999-01-01"])
    assert read_times(texts).isna().tolist() == [False, True]
    assert read_times(texts.astype("datetime64[s]")).isna().tolist() == [False, True]
    assert "between 1678 and 2261" in complaint("9999-01-01")


@pytest.mark.parametrize(
    "value", ["24-01-02", "02-Jan-24", "02/01/24", "2/1/24 09:30", 240102, "240102"]
)
def test_a_year_of_two_digits_is_named(value):
    assert "year of two digits" in complaint(value)
    assert read_times(pd.Series([value])).isna().all()


def test_a_time_of_day_may_be_one_of_twelve_hours():
    raw = pd.Series(["2024-01-02 12:05 AM", "2024-01-02 9:30 am", "2024-01-02 12:00:30 p.m."])
    expected = ["2024-01-02 00:05", "2024-01-02 09:30", "2024-01-02 12:00:30"]
    assert list(read_times(raw)) == [pd.Timestamp(text, tz="UTC") for text in expected]
    assert is_time_of_day("9:30 PM") and not is_time_of_day("21h")
