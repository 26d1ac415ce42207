"""One table: files laid out as each tool writes them, all holding the same bars."""

import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from layout_files import (
    DAY_ROW,
    FRAMES,
    JSONS,
    KLINE,
    OHLCV,
    PLAIN,
    ROWS,
    TEXTS,
    days,
    expected,
    frame,
    lines,
    pairs,
)

from core.errors import InputError
from data.bars.checks import check_bars
from data.bars.names import seconds
from data.bars.read import read_bars


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_each_tool_gives_the_same_bars_and_says_what_was_recognised(name, tmp_path):
    file, text, times, words = TEXTS[name]
    (tmp_path / file).write_bytes(text.encode())
    notes = []
    bars = read_bars(tmp_path / file, note=notes.append)
    pd.testing.assert_frame_equal(bars, expected(times))
    own = [text for text in notes if text.startswith("columns not used: ")]
    assert own == (["columns not used: RSI; EXTRA_COLUMNS makes features of them"]
                   if name == "tradingview" else [])  # fmt: skip
    assert len(notes) - len(own) <= 1 and words.lower() in " ".join(notes).lower()


@pytest.mark.parametrize("name", JSONS)
@pytest.mark.parametrize("packed", [False, True])
def test_json_of_each_tool_gives_the_same_bars(name, packed, tmp_path):
    file, value = JSONS[name]
    text = json.dumps(value).encode()
    path = tmp_path / (file + ".gz" * packed)
    path.write_bytes(gzip.compress(text) if packed else text)
    pd.testing.assert_frame_equal(read_bars(path), expected())


@pytest.mark.parametrize("name", FRAMES)
def test_feather_and_parquet_of_each_tool_give_the_same_bars(name, tmp_path):
    file, make, times = FRAMES[name]
    table = make()
    table.to_feather(tmp_path / file) if "feather" in file else table.to_parquet(tmp_path / file)
    pd.testing.assert_frame_equal(read_bars(tmp_path / file), expected(times))


@pytest.mark.parametrize("form", ["csv.gz", "zip", "txt.gz"])
def test_packed_texts_give_the_same_bars(form, tmp_path):
    path = tmp_path / f"BTC-5m.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("BTC-5m-2024-01.csv", lines(KLINE))
    else:
        path.write_bytes(gzip.compress(lines(KLINE).encode()))
    pd.testing.assert_frame_equal(read_bars(path), expected())


def test_an_adjusted_close_scales_all_prices_with_a_note(tmp_path):
    text = days(
        "{t:%Y-%m-%d},{o},{h},{l},{c},{i}.5,{v}", head="Date,Open,High,Low,Close,Adj Close,Volume"
    )
    (tmp_path / "A.csv").write_text(text.replace(",0.5,", ",5.25,", 1))
    notes = []
    bars = read_bars(tmp_path / "A.csv", note=notes.append)
    np.testing.assert_allclose(bars["close"], [5.25, 1.5, 2.5, 3.5, 4.5, 5.5])
    np.testing.assert_allclose(bars["open"].iloc[0], 10.0 * 5.25 / 10.5)
    assert "scaled by adjusted close / close" in notes[0]


def test_months_and_days_of_one_symbol_are_joined_and_noted_once(tmp_path):
    for i, at in enumerate((0, 2, 4)):
        text = lines(KLINE if i else KLINE.replace("{ms}", "{us}"))
        rows = text.splitlines()[at : at + 2]
        (tmp_path / f"BTC-5m-2024-01-0{3 - i}.csv").write_text("\n".join(rows))
    notes = []
    pd.testing.assert_frame_equal(read_bars(tmp_path, note=notes.append), expected())
    assert len(notes) == 1 and " and 2 more: " in notes[0]


def test_milliseconds_and_later_microseconds_in_one_file_are_read_as_they_are(tmp_path):
    rows = lines(KLINE).splitlines()[:3] + lines(KLINE.replace("{ms}", "{us}")).splitlines()[3:]
    (tmp_path / "BTC.csv").write_text("\n".join(rows))
    pd.testing.assert_frame_equal(read_bars(tmp_path / "BTC.csv"), expected())


def test_a_freqtrade_folder_passes_over_what_is_no_bars(tmp_path):
    frame(timestamp="date").to_feather(tmp_path / "BTC-5m.feather")
    for name in ("BTC-trades.feather", "BTC-8h-funding_rate.feather", "BTC-8h-mark.feather"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "pairs.json").write_text("[]")
    notes = []
    pd.testing.assert_frame_equal(read_bars(tmp_path, note=notes.append), expected())
    assert "and 3 more: skipped, not bars" in notes[0]


def test_two_tickers_under_two_headers_become_two_symbols(tmp_path):
    both = pairs(0).join(pairs(0).rename(columns={"BTC": "ETH"}))
    both.to_csv(tmp_path / "x.csv")
    bars = read_bars(tmp_path / "x.csv")
    assert bars["symbol"].value_counts().to_dict() == {"BTC": ROWS, "ETH": ROWS}


FINE = lines("{s}," + PLAIN, head="time,open,high,low,close,volume")
HOURLY = "\n".join([FINE.splitlines()[0], *(
    f"{1_704_182_400 + 3600 * i},10,11,9,10.5,1" for i in range(ROWS))])  # fmt: skip
REFUSED = {
    "several timeframes": ({"A-5m.csv": FINE, "A-1h.csv": HOURLY}, ["5m (A-5m.csv)", "folder of"]),
    "different intervals": (
        {"A.csv": FINE, "B.csv": HOURLY}, ["one timeframe", "00:05:00", "01:00:00", "by itself"]),
    "files of one symbol that differ": (
        {"BTC_a.csv": FINE,
         "BTC_b.csv": HOURLY}, ["one timeframe", "BTC_a.csv has a bar every", "BTC_b.csv every"]),
    "us dates": ({"A.csv": days("{t:%m/%d/%Y}," + PLAIN, head=f"Date,{OHLCV}")},
                 ["A.csv, symbol A, row 1", "month first", "YYYY-MM-DD", "01/02/2024"]),
    "a missing price": ({"A.csv": FINE.replace("11.0", "", 1)},
                        ["symbol A, row 1: high is missing"]),
    "dollars": ({"A.csv": FINE.replace(",12.0,", ",$12.0,", 1)}, ["row 2", "currency", "'$12.0'"]),
    "missing column": ({"A.csv": FINE.replace("close,volume", "Schluss,volume", 1)},
                       ["lacks close", "it has time, open, high, low, Schluss, volume"]),
    "ambiguous columns": ({"A.csv": FINE.replace("close,volume", "Volume,volume", 1)},
                          ["one column for volume", "lacks close"]),
    "two volumes": ({"A.csv": FINE.replace("low,close,volume", "Volume X,close,Volume Y", 1)},
                    ["it lacks low, volume", "Volume X"]),
    "seven columns without a header": ({"A.csv": lines("{s},{v}," + PLAIN)},
                                       ["no header and 7 columns", "first line"]),
    "overlap": ({"A-5m-2024-01.csv": FINE, "A-5m-2024-02.csv": FINE}, ["A is in", "remove one"]),
    "rows as times": ({"A.csv": lines("{i}," + PLAIN, head=f"date,{OHLCV}")}, ["epoch time"]),
    "a nested folder": ({"A.csv": FINE, "inner/B.csv": FINE}, ["holds the folder inner", "give"]),
    "a word in a price": ({"A.csv": FINE + "1704190000,1,x,1,1,1\n"},
                          ["symbol A, row 7: high must be a number, got 'x'"]),
    "no json of bars": ({"A.json": '{"a": 1}'}, ["A.json must hold a list of bars"]),
    "no json at all": ({"A.json": "no"}, ["A.json cannot be read"]),
    "a zip that is none": ({"A.zip": "PK"}, ["A.zip cannot be read"]),
    "a header alone": ({"A.csv": FINE.splitlines()[0]}, ["must hold bars; it has no rows"]),
    "adjusted to nothing": (
        {"A.csv": days(DAY_ROW + ",0", head=f"Date,{OHLCV},Adj Close")},
        ["A.csv, row 1", "above 0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_what_to_do(name, tmp_path):
    files, words = REFUSED[name]
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError) as error:
        read_bars(tmp_path)
    told = "; ".join(error.value.faults)
    assert all(word in told for word in words), told
    assert all("\n" not in fault for fault in error.value.faults)


@pytest.mark.parametrize("name", ["README.txt", "readme.TXT", "LICENSE.txt"])
def test_a_text_about_the_files_is_passed_over_with_a_note(name, tmp_path):
    (tmp_path / "A.csv").write_text(FINE)
    (tmp_path / name).write_text("Bars of the tool, bought in May.\n\nNot for resale; see below.")
    notes = []
    assert set(read_bars(tmp_path, note=notes.append)["symbol"]) == {"A"}
    assert f"{name}: skipped, not bars" in notes


def test_two_ways_to_write_a_timeframe_are_one(tmp_path):
    for name in ("A-5m.csv", "B_M5.csv", "C-5min.csv", "D, 5.csv"):
        (tmp_path / name).write_text(FINE)
    assert list(read_bars(tmp_path)["symbol"].cat.categories) == list("ABCD")


@pytest.mark.parametrize(
    ("frame", "length"),
    [("30s", 30), ("60", 3600), ("60m", 3600), ("1h", 3600), ("H1", 3600), ("2hour", 7200),
     ("1D", 86400), ("Daily", 86400), ("W1", 604800), ("1M", 2629746), ("1m", 60), ("M1", 60),
     ("100R", "100R")],
)  # fmt: skip
def test_a_timeframe_has_its_length(frame, length):
    assert seconds(frame) == length


def test_a_zip_of_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", FINE)
        archive.writestr("b.csv", FINE)
    with pytest.raises(InputError, match="must hold one file, it holds 2.*unpack"):
        read_bars(tmp_path / "x.zip")


def test_a_later_block_may_hold_fractions_new_symbols_and_a_fault_with_its_row(tmp_path):
    rows = 300_000  # more than one block
    seconds = 1_600_000_000 + 60 * np.arange(rows)
    table = pd.DataFrame({"time": seconds, "open": 10, "high": 11, "low": 9, "close": 10})
    table["volume"], table["symbol"] = 1, np.where(np.arange(rows) < rows - 5, "AAA", "BBB")
    table = table.astype({"close": object})
    table.loc[rows - 1, "close"] = 10.25
    table.to_csv(tmp_path / "x.csv", index=False)
    bars = read_bars(tmp_path / "x.csv")
    assert bars["close"].iloc[-1] == 10.25
    assert bars["symbol"].value_counts().to_dict() == {"AAA": rows - 5, "BBB": 5}
    table.loc[rows - 2, "close"] = "x"
    table.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=f"symbol BBB, row {rows - 1}: close must be a number"):
        read_bars(tmp_path / "x.csv")


def test_symbols_of_one_file_that_differ_in_their_interval_are_refused(tmp_path):
    hours = pd.date_range("2024-02-02", periods=ROWS, freq="h", tz="UTC")
    both = pd.concat([frame().assign(symbol="A"), frame(hours).assign(symbol="B")])
    both.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="A has a bar every 0 days 00:05:00, B every 0 days 01"):
        read_bars(tmp_path / "x.parquet")


def test_bars_that_are_often_missing_are_no_other_timeframe(tmp_path):
    minutes = np.r_[0:4, 10:13, 20:60:3]
    times = pd.Timestamp("2024-01-02", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    thin = pd.DataFrame({"timestamp": times, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})
    thick = thin.iloc[:1].assign(symbol="A")
    thick = pd.concat(
        [thick.assign(timestamp=times[0] + pd.Timedelta(minutes=i)) for i in range(9)]
    )
    both = pd.concat([thin.iloc[:11].assign(symbol="B"), thick]).assign(volume=1.0)
    both.to_parquet(tmp_path / "x.parquet")
    assert read_bars(tmp_path / "x.parquet")["symbol"].nunique() == 2


def test_a_file_of_sixteen_bits_a_letter_is_read(tmp_path):
    (tmp_path / "BTC.csv").write_bytes(lines("{s}," + PLAIN, head=f"time,{OHLCV}").encode("utf-16"))
    pd.testing.assert_frame_equal(read_bars(tmp_path / "BTC.csv"), expected())


CLOCKS = {
    "of twelve hours": ("date,time", ["9:30 AM", "10:30 AM", "12:30 PM", "1:30 p.m."]),
    "of 24 hours": ("date,time", ["09:30", "10:30", "12:30", "13:30"]),
    "in metastock's words": ("<DTYYYYMMDD>,<TIME>", ["093000", "103000", "123000", "133000"]),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_day_and_a_time_of_day_give_the_time(name, tmp_path):
    head, clocks = CLOCKS[name]
    day = "20240102" if "DT" in head else "2024-01-02"
    rows = [f"{day},{clock},10,11,9,10,5" for clock in clocks]
    (tmp_path / "A.csv").write_text("\n".join([f"{head},open,high,low,close,volume", *rows]))
    times = read_bars(tmp_path / "A.csv")["timestamp"].dt.strftime("%H:%M").tolist()
    assert times == ["09:30", "10:30", "12:30", "13:30"]


def test_a_time_of_day_that_is_none_is_refused_and_a_whole_time_taken(tmp_path):
    head = "date,time,open,high,low,close,volume"
    rows = [f"2024-01-02,{hour} o'clock,10,11,9,10,5" for hour in (9, 10)]
    (tmp_path / "A.csv").write_text("\n".join([head, *rows]))
    with pytest.raises(InputError, match="A.csv, row 1: the time of day must be HH:MM, got"):
        read_bars(tmp_path / "A.csv")
    rows = [f"2024-01-02,2024-01-02T{hour}:30,10,11,9,10,5" for hour in (10, 11)]
    (tmp_path / "A.csv").write_text("\n".join([head, *rows]))
    assert read_bars(tmp_path / "A.csv")["timestamp"].dt.hour.tolist() == [10, 11]


@pytest.mark.parametrize("separator", ";\t,")
def test_signs_of_thousands_are_left_out_whatever_stands_between_the_columns(separator, tmp_path):
    rows = [["date", "open", "high", "low", "close", "volume", "name"]]
    rows += [[f"2024-01-0{i + 2}", "1,000.5", "1,003", "998", "1,001", v, "Berkshire, Inc"]
             for i, v in enumerate(["987", "1,013", "1,204,500"])]  # fmt: skip
    quoted = [separator.join(f'"{cell}"' for cell in row) for row in rows]
    (tmp_path / "x.csv").write_text("\n".join(quoted))
    bars = read_bars(tmp_path / "x.csv")
    assert bars["volume"].tolist() == [987, 1013, 1204500]
    assert bars["open"].tolist() == [1000.5] * 3
    assert list(bars["symbol"].cat.categories) == ["Berkshire, Inc"]


def test_a_frame_in_memory_with_a_column_twice_or_lists_is_refused():
    good = frame().assign(symbol="A")
    with pytest.raises(InputError, match="bars must have one column for close, it has 2"):
        check_bars(pd.concat([good, good[["close"]]], axis=1))
    with pytest.raises(InputError, match="column volume must hold numbers"):
        check_bars(good.assign(volume=[[1.0]] * ROWS))


def test_headers_in_cyrillic_are_named_whole_in_one_line(tmp_path):
    names = "Дата,Тикер,Открытие,Максимум,Минимум,Закрытие,Объём"
    (tmp_path / "сбер.csv").write_text(f"{names}\n2024-01-01,SBER,1,2,1,1,5\n")
    with pytest.raises(InputError) as error:
        read_bars(tmp_path / "сбер.csv")
    (line,) = error.value.faults
    assert line.startswith("сбер.csv must have the columns timestamp, open")
    assert f"(it has {names.replace(',', ', ')})" in line


def test_a_column_twice_is_named_as_it_is_written(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Date,Open,High,Low,Close,Volume,Объём,Объём,Adj Close, date \n"
    )
    with pytest.raises(InputError, match="one column for timestamp, it has 2 named Date; rename"):
        read_bars(tmp_path / "a.csv")
