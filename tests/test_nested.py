import json

import numpy as np
import pandas as pd
import pytest

from data.bars.read import read_bars

DAYS = pd.date_range("2024-01-02", periods=6)


def table(**more):
    price = 10.0 + np.arange(6)
    prices = {"Open": price, "High": price + 1, "Low": price - 1, "Close": price + 0.5}
    return pd.DataFrame({**prices, "Volume": 100.0, **more}, index=DAYS.rename("Date"))


def wide(tickers, swap=False, **more):
    parts = {t: table(**more) * (1 + place) for place, t in enumerate(tickers)}
    both = pd.concat(parts, axis=1)
    return both if swap else both.swaplevel(axis=1).sort_index(axis=1)


def write(frame, tmp_path, form="csv"):
    path = tmp_path / f"x.{form}"
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path)
    return path


MORE = [{}, {"Dividends": 0.0, "Stock Splits": 0.0}, {"Repaired?": 0.0}]
MORE += [{"Adj Close": 1.0, "Capital Gains": 0.0}]


@pytest.mark.parametrize("more", MORE, ids=str)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_other_fields_under_two_headers_are_left_out_and_told(more, swap, form, tmp_path):
    notes = []
    more = {name: value for name, value in more.items() if name != "Adj Close"}
    path = write(wide(["AAPL", "600519.SS", "^GSPC"], swap, **more), tmp_path, form)
    bars = read_bars(path, note=notes.append)
    assert bars["symbol"].value_counts().to_dict() == {"600519.SS": 6, "AAPL": 6, "^GSPC": 6}
    assert bars.loc[bars["symbol"] == "AAPL", "close"].tolist() == table()["Close"].tolist()
    assert all(name in notes[0] for name in more)


def test_tickers_that_are_numbers_need_the_name_of_the_index(tmp_path):
    path = write(wide(["600519", "000001"]), tmp_path)
    assert set(read_bars(path)["symbol"]) == {"600519", "000001"}


@pytest.mark.parametrize(
    "row",
    ["8e-06,8.1e-06,7.9e-06,8e-06,2.5e+16", '"1,230.50","1,240","1,220","1,230","12,345"',
     "1.5,2.5,1,2,0"],
)  # fmt: skip
def test_a_first_row_of_numbers_is_no_header(row, tmp_path):
    rows = "".join(f"2024-01-0{i + 2},{row}\n" for i in range(6))
    (tmp_path / "PEPE.csv").write_text("Date,Open,High,Low,Close,Volume\n" + rows)
    bars = read_bars(tmp_path / "PEPE.csv")
    assert len(bars) == 6 and list(bars["symbol"].cat.categories) == ["PEPE"]


def values():
    return [
        {"datetime": f"{day:%Y-%m-%d}", **{str(k).lower(): str(v) for k, v in row.items()}}
        for day, row in table().iterrows()
    ]


ANSWERS = {
    "twelve data": {"meta": {"symbol": "AAPL", "interval": "1day"}, "values": values()},
    "twelve data of several": {
        name: {"meta": {"symbol": name}, "values": values()} for name in ("AAPL", "MSFT")
    },
    "alpha vantage": {
        "Meta Data": {"1. Information": "Daily", "2. Symbol": "AAPL"},
        "Time Series (Daily)": {
            row["datetime"]: {
                f"{i + 1}. {name}": row[name]
                for i, name in enumerate(("open", "high", "low", "close", "volume"))
            }
            for row in values()
        },
    },
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_s_symbol_is_taken_from_where_it_tells_it(name, tmp_path):
    (tmp_path / "answer.json").write_text(json.dumps(ANSWERS[name]))
    bars = read_bars(tmp_path / "answer.json")
    expected = ["AAPL", "MSFT"] if "several" in name else ["AAPL"]
    assert list(bars["symbol"].cat.categories) == expected
    assert bars["close"].tolist()[:6] == table()["Close"].tolist()


def test_columns_beside_a_word_are_read(tmp_path):
    own = {"t": [int(day.timestamp()) for day in DAYS], "s": "ok"}
    own |= {str(name)[0].lower(): column.tolist() for name, column in table().items()}
    (tmp_path / "AAPL.json").write_text(json.dumps(own))
    assert len(read_bars(tmp_path / "AAPL.json")) == 6


def test_lines_of_json_are_read(tmp_path):
    text = "\n".join(json.dumps(row) for row in values())
    (tmp_path / "AAPL.ndjson").write_text(text)
    assert len(read_bars(tmp_path / "AAPL.ndjson")) == 6
