import numpy as np
import pandas as pd
import pytest

from data.bars.names import named, symbol_of
from data.bars.read import read_bars


def bars(start, rows=40, freq="D", price=10.0):
    price = price + np.arange(rows) % 7
    times = pd.date_range(start, periods=rows, freq=freq)
    prices = {"open": price, "high": price + 1, "low": price - 1, "close": price + 0.5}
    return pd.DataFrame({"date": times, **prices, "volume": 5.0})


def symbols(folder, note=None):
    return list(read_bars(folder, note=note)["symbol"].cat.categories)


PARTS = ["A_2020 A_2021", "A-2020 A-2021", "A.2020 A.2021", "A 2020 A 2021", "A_2020-01 A_2021-01"]
PARTS += ["A_Q1_2020 A_Q1_2021", "A_2020-W01 A_2021-W01"]
PARTS += ["A_202001 A_202101", "A_20200101 A_20210101", "A_2020Q1 A_2021Q1", "A_2020-2020 A_2021"]


@pytest.mark.parametrize("names", PARTS)
def test_years_and_months_of_one_symbol_are_one_symbol(names, tmp_path):
    first, second = names.rsplit(" A", 1)
    bars("2020-01-02").to_csv(tmp_path / f"{first}.csv", index=False)
    bars("2021-01-02").to_csv(tmp_path / f"A{second}.csv", index=False)
    assert symbols(tmp_path) == ["A"]


def test_a_number_that_the_bars_do_not_confirm_belongs_to_the_symbol(tmp_path):
    for name, price in (("RUSSELL_2000", 10), ("RUSSELL_1000", 20), ("JP_1925", 30)):
        bars("2020-01-02", price=price).to_csv(tmp_path / f"{name}.csv", index=False)
    assert symbols(tmp_path) == ["JP_1925", "RUSSELL_1000", "RUSSELL_2000"]


def test_years_in_a_folder_of_the_symbol_take_its_name(tmp_path):
    folder = tmp_path / "AAPL"
    folder.mkdir()
    for year in (2020, 2021):
        bars(f"{year}-01-02").to_csv(folder / f"{year}.csv", index=False)
    assert symbols(folder) == ["AAPL"]


def test_contracts_of_a_future_are_symbols_of_their_own(tmp_path):
    for name, start in (
        ("ES_H24", "2024-01-02"),
        ("ES_M24", "2024-03-18"),
        ("ES_U4", "2024-06-18"),
    ):
        bars(start).to_csv(tmp_path / f"{name}.csv", index=False)
    assert symbols(tmp_path) == ["ES_H24", "ES_M24", "ES_U4"]
    assert symbols(tmp_path / "ES_H24.csv") == ["ES_H24"]


def test_a_letter_and_a_digit_are_a_timeframe_where_the_bars_agree(tmp_path):
    minutes = bars("2024-01-02", freq="5min")["date"].to_numpy("datetime64[ns]")
    days = bars("2024-01-02")["date"].to_numpy("datetime64[ns]")
    assert symbol_of(tmp_path / "ES_M5.csv", minutes) == "ES"
    assert symbol_of(tmp_path / "ES_M5.csv", days) == "ES_M5"
    assert symbol_of(tmp_path / "ES_H4.csv", days) == "ES_H4"
    assert named(tmp_path / "BTC-5m-2024-01.csv").symbol == "BTC"


def test_a_second_download_is_told(tmp_path):
    for name, rows in (("AAPL", 40), ("AAPL (1)", 45), ("MSFT", 40)):
        bars("2024-01-02", rows, price=10.0 + 9 * (name == "MSFT")).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    notes = []
    symbols(tmp_path, notes.append)
    assert [n for n in notes if "same bars" in n] == [
        "AAPL, AAPL (1) have the same bars; if one is a second download, remove it"
    ]


def test_a_suffix_in_capitals_is_the_same(tmp_path):
    import gzip

    raw = bars("2024-01-02").assign(date=lambda f: f["date"].astype(str)).to_json(orient="records")
    (tmp_path / "A.JSON.GZ").write_bytes(gzip.compress(raw.encode()))
    bars("2024-01-02").to_parquet(tmp_path / "B.PQ")
    assert symbols(tmp_path) == ["A", "B"]


def test_what_is_not_read_is_named(tmp_path):
    bars("2024-01-02").to_csv(tmp_path / "A.csv", index=False)
    for name in ("B.xlsx", "C.7z", "D"):
        (tmp_path / name).write_bytes(b"x")
    notes = []
    assert symbols(tmp_path, notes.append) == ["A"]
    assert any(note.startswith("B.xlsx, C.7z, D: skipped") for note in notes)


def test_a_year_may_stand_before_the_symbol(tmp_path):
    for year in (2020, 2021):
        bars(f"{year}-01-02").to_csv(tmp_path / f"{year}_A.csv", index=False)
    assert symbols(tmp_path) == ["A"]
