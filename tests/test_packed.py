import bz2
import gzip
import io
import json
import lzma
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layout_files import DAY_ROW, DAYS, OHLCV, days, expected, frame

from core.errors import InputError, printable
from data.bars import checks, read
from data.bars.formats.packed import Source
from data.bars.read import read_bars

TEXT = days(DAY_ROW, head=f"Date,{OHLCV}").encode()
PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: pa.compress(raw, codec="zstd", asbytes=True),
}


def refusal(path, **options):
    with pytest.raises(InputError) as error:
        read_bars(path, **options)
    (fault,) = error.value.faults
    assert len(fault) < 700 and fault.isprintable()
    return fault


@pytest.mark.parametrize("packing", PACKED)
def test_packed_texts_are_read_under_any_name(packing, tmp_path):
    for name in (f"BTC.csv.{packing}", f"BTC.CSV.{packing.upper()}", "BTC.csv"):
        (tmp_path / name).write_bytes(PACKED[packing](TEXT))
        pd.testing.assert_frame_equal(read_bars(tmp_path / name), expected(DAYS))
        os.remove(tmp_path / name)


def test_arrow_files_and_streams_are_read(tmp_path):
    table = pa.Table.from_pandas(frame(DAYS))
    for name, new in (("BTC.arrow", pa.ipc.new_file), ("BTC.feather", pa.ipc.new_stream)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        pd.testing.assert_frame_equal(read_bars(tmp_path / name), expected(DAYS))


@pytest.mark.parametrize("packing", PACKED)
def test_what_grows_beyond_the_bound_is_refused(packing, tmp_path):
    path = tmp_path / f"A.csv.{packing}"
    path.write_bytes(PACKED[packing](TEXT + TEXT.splitlines(True)[1] * 100_000))
    assert "A.csv" in refusal(path, unpacked_bytes=10_000)
    rows = frame(pd.date_range("2000", periods=6)).loc[np.zeros(9000, int)]
    rows.to_parquet(tmp_path / "A.parquet")
    rows.to_feather(tmp_path / "A.feather")
    for name in ("A.parquet", "A.feather"):
        assert "must not grow beyond" in refusal(tmp_path / name, unpacked_bytes=10_000)


def test_the_bound_is_a_multiple_of_the_size_that_no_bars_reach(tmp_path):
    (tmp_path / "A.json.gz").write_bytes(gzip.compress(b"[" + b"0," * 80_000_000 + b"0]", 1))
    assert "must not grow beyond 64 MiB" in refusal(tmp_path / "A.json.gz")
    (tmp_path / "A.json").write_bytes(b"[" * 200_000)
    assert "mostly brackets" in refusal(tmp_path / "A.json")


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "A.csv").write_bytes(TEXT)
    for name, target in (("B.csv", "/nowhere/B.csv"), ("C.csv", "C.csv"), ("D.csv", "/dev/zero")):
        (tmp_path / name).symlink_to(target)
        assert name in refusal(tmp_path / name)
    os.mkfifo(tmp_path / "E.csv")
    assert "named pipe" in refusal(tmp_path / "E.csv")
    with pytest.raises(InputError) as error:
        read_bars(tmp_path)
    assert [fault[:5] for fault in error.value.faults] == ["B.csv", "C.csv", "D.csv", "E.csv"]


def encrypted():
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("A.csv", TEXT)
    data = bytearray(raw.getvalue())
    data[6] |= 1  # the bit of encryption, in the file's own header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def written(columns):
    raw = io.BytesIO()
    table = pa.table(columns)
    pq.write_table(table, raw)
    return raw.getvalue()


ONE = {"timestamp": [1_700_000_000], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}
HOSTILE = {
    "cut gzip": ("A.csv.gz", gzip.compress(TEXT)[:-12], ""),
    "flipped gzip": ("A.csv.gz", gzip.compress(TEXT)[:30] + b"\xff" * 40, ""),
    "encrypted zip": ("A.zip", encrypted(), "encrypted"),
    "deep json": ("A.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ""),
    "deep lists": ("A.json", b"[" * 100_000 + b" " * 1_500_000 + b"]" * 100_000, ""),
    "mixed json": ("A.json", b'[{"t":1}, [1,2,3,4,5,6], 3, null]', "list of bars"),
    "ragged json": ("A.json", b"[[1,2,3,4,5,6],[1]]", "list of bars"),
    "long integers": ("A.json", b"[[" + b"9" * 4000 + b",1,1,1,1,1]]", "timestamp"),
    "longer integers": ("A.json", b"[[" + b"9" * 5000 + b",1,1,1,1,1]]", ""),
    "lists in json": ("A.json", json.dumps([{**{k: v[0] for k, v in ONE.items()}, "volume": [1]}])
                      .encode(), "volume must hold numbers"),
    "a struct column": ("A.parquet", written({**ONE, "volume": [{"a": 1}]}), "volume must hold"),
    "a list column": ("A.parquet", written({**ONE, "volume": [[1.0]]}), "volume must hold"),
    "a span of time": (
        "A.parquet", written({**ONE, "volume": pa.array([1], pa.duration("s"))}), "volume must"),
    "a time as a price": (
        "A.parquet", written({**ONE, "volume": pa.array([1], pa.timestamp("s"))}), "a number"),
    "a far time": ("A.csv", TEXT.replace(b"2024-01-05", b"9999-01-01"), "row 4: the timestamp"),
    "a far time in parquet": (
        "A.parquet",
        written({**ONE, "timestamp": pa.array([253370764800], pa.timestamp("s")), "volume": [1]}),
        "row 1: the timestamp"),
    "one long line": ("A.csv", b"a," * 20_000_000, "first line"),
    "a long line": ("A.csv", TEXT + b"1" * 9_000_000 + b"\n", "line longer than 1 MiB"),
    "many columns": ("A.csv", b"a," * 30_000 + b"\n" + b"1," * 30_000, "at most 20,000 columns"),
    "more values": ("A.csv", TEXT + b"2024-01-09,1,2,1,1,1,234\n", "row 7: a row must have 6"),
    "noughts": ("A.csv", b"\x00" * 1000, ""),
    "a symbol of controls": (
        "A.csv", b"symbol,date,open,high,low,close,volume\n\x1b[31mA,2024-01-02,1,1,1,1,1\n",
        "no control characters"),
    "a symbol that turns": (
        "A.csv", "symbol,date,open,high,low,close,volume\nA\u202eB,2024-01-02,1,1,1,1,1\n".encode(),
        "no control characters"),
    "a long symbol": (
        "A.csv", b"symbol,date,open,high,low,close,volume\n" + b"A" * 99_000
        + b",2024-01-02,1,1,1,1,1\n", "at most 200 letters"),
    "no symbol": (
        "A.csv", b"symbol,date,open,high,low,close,volume\nA,2024-01-02,1,1,1,1,1\n"
        b" ,2024-01-03,1,1,1,1,1\n", "row 2: the symbol is missing"),
    "a long value": ("A.csv", TEXT.replace(b",11.0,", b"," + b"x" * 98_000 + b",", 1), "high must"),
    "latin letters": ("A.csv", b"\xff\xfe\xff" + TEXT, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_or_hostile_file_is_refused_in_one_line_with_its_name(name, tmp_path):
    file, raw, words = HOSTILE[name]
    (tmp_path / file).write_bytes(raw)
    fault = refusal(tmp_path / file)
    assert file in fault and words in fault, fault


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError, AttributeError, RuntimeError])
def test_a_fault_of_the_program_keeps_its_traceback(error, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise error("own")

    (tmp_path / "A.csv").write_bytes(TEXT)
    monkeypatch.setattr(checks, "_numbers", broken)
    with pytest.raises(error, match="own") as raised:
        read_bars(tmp_path / "A.csv")
    assert not isinstance(raised.value, InputError)
    monkeypatch.undo()
    monkeypatch.setattr("data.bars.formats.texts.two_headers", broken)
    monkeypatch.setattr("core.foreign._ROOMS", (read.Path(__file__).parent,))
    with pytest.raises(error, match="own") as raised:
        read_bars(tmp_path / "A.csv")
    assert not isinstance(raised.value, InputError)


def test_a_name_in_a_message_is_one_line(tmp_path):
    (tmp_path / "A\x1b[2J\n.csv").write_text("x")
    assert "A\\x1b[2J\\n.csv" in refusal(tmp_path / "A\x1b[2J\n.csv")
    assert printable("x" * 99) == "x" * 57 + "..."
    assert Source(tmp_path / "\u202e.csv").name == "\\u202e.csv"


def test_blanks_around_a_symbol_are_no_part_of_it(tmp_path):
    rows = [f"{name},2024-01-0{i + 2},1,1,1,1,1" for i, name in enumerate(["A", "A ", " A", "A\t"])]
    text = "\n".join(["symbol,date,open,high,low,close,volume", *rows])
    (tmp_path / "x.csv").write_text(text)
    assert list(read_bars(tmp_path / "x.csv")["symbol"]) == ["A"] * 4


def test_a_row_that_is_too_short_or_an_epoch_that_is_too_large_is_named(tmp_path):
    short = "ticker,date,time,open,high,low,close,vol\nA,20240102\n"
    (tmp_path / "A.csv").write_text(short)
    refusal_lines = pytest.raises(InputError, read_bars, tmp_path / "A.csv").value.faults
    assert all("A.csv" in line for line in refusal_lines)
    (tmp_path / "A.json").write_text("[[1e300,1,1,1,1,1],[1,1,1,1,1,1]]")
    assert "the timestamp must be" in refusal(tmp_path / "A.json")
