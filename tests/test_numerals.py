import pandas as pd
import pytest

from core.errors import InputError
from data.bars.formats.numerals import read_numbers


def read(points=False, **columns):
    texts = {name: pd.Series(cells, dtype=str) for name, cells in columns.items()}
    found, remarks = read_numbers(texts, "x.csv", points_are_decimal=points)
    return {name: list(numbers) for name, numbers in found.items()}, remarks


def test_a_cell_that_only_one_reading_fits_decides_for_its_column():
    assert read(v=["1.013", "987,5"])[0] == {"v": [1013, 987.5]}
    assert read(v=["1,013", "987.5"])[0] == {"v": [1013, 987.5]}
    assert read(v=["1.013", "1.234.567"])[0] == {"v": [1013, 1234567]}
    assert read(v=["0,123", "1,013"])[0] == {"v": [0.123, 1.013]}
    assert read(v=["1234,567", "1,013"])[0] == {"v": [1234.567, 1.013]}
    assert read(v=["12,34,567", "1,013"])[0] == {"v": [1234567, 1013]}  # as India groups


def test_another_column_decides_where_a_column_does_not_tell():
    assert read(open=["100,50"], v=["1.013"])[0] == {"open": [100.5], "v": [1013]}
    assert read(open=["100.50"], v=["1,013"])[0] == {"open": [100.5], "v": [1013]}
    assert read(open=["100.50"], v=["1.234.567"])[0] == {"open": [100.5], "v": [1234567]}


@pytest.mark.parametrize("cell", ["64,123", "64.123"])
def test_what_stays_ambiguous_is_refused_with_both_readings(cell):
    with pytest.raises(InputError, match=r"x.csv, row 2: open .*may be 64123 or 64\.123"):
        read(open=["500", cell], v=["7", "8"])


def test_points_are_decimals_where_all_tools_write_them_so():
    assert read(points=True, open=["64.123"])[0] == {"open": [64.123]}
    with pytest.raises(InputError, match="64123 or 64.123"):
        read(points=True, open=["64,123"])
    columns = {"open": ["100.50"], "v": ["1.234.567"], "w": ["1.013"]}
    assert read(points=True, **columns)[0]["w"] == [1.013]


@pytest.mark.parametrize("gap", [" ", "\u00a0", "\u202f", "'", "\u2019"])
def test_gaps_between_thousands_are_left_out(gap):
    assert read(v=[f"64{gap}123,5", "7"])[0] == {"v": [64123.5, 7]}
    found, _ = read(v=[f"6{gap}4", "7.5"])
    assert found["v"][0] == f"6{gap}4"  # no number: the check names it


def test_signs_exponents_and_missing_cells_are_read_as_they_are():
    found, remarks = read(v=["-1.5", "+2", "8.16e-06", "", "NaN", "\N{MINUS SIGN}3"])
    assert found["v"][:3] + found["v"][5:] == [-1.5, 2, 8.16e-06, -3]
    assert pd.isna(found["v"][3]) and pd.isna(found["v"][4]) and not remarks


def test_a_cell_that_is_no_number_stays_as_it_was():
    found, _ = read(v=["1.5", "a lot", "12,5", "2.5"])
    assert found["v"] == ["1.5", "a lot", "12,5", "2.5"]


def test_what_was_done_is_told():
    assert read(v=["1,5"])[1] == ["decimal commas"]
    assert read(v=["1,013.5"])[1] == ["thousands separators removed"]
    assert read(v=["1.013,5"])[1] == ["decimal commas", "thousands separators removed"]
