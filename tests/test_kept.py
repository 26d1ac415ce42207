"""Files that already hold what cannot be true: the next call drops it and fetches it anew."""

import numpy as np
import pandas as pd
import pytest
from binance_server import START, STEP, BinanceServer, bar

import recipe.live.pages
from core.errors import InputError
from data.bars.read import read_bars
from recipe.live.download import download
from recipe.live.exchange import open_exchange

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
NUMBERS = ["open", "high", "low", "close", "volume"]
SINCE = pd.Timestamp(START, unit="ms", tz="UTC").isoformat()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(recipe.live.pages, "PAGE_BARS", 20)
    monkeypatch.setattr(recipe.live.pages, "EMPTY_PAGE_BARS", 8)
    with BinanceServer(num_closed=60) as server:
        server.notes = []
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    def opened(name, note):
        exchange = open_exchange(
            name, note=note, sleep=lambda s: None, clock=lambda: server.now / 1000, max_tries=2
        )
        return server.point(exchange)

    return lambda: download(
        "binance",
        ["BTC/USDT"],
        timeframe="5m",
        since=SINCE,
        folder=tmp_path,
        note=server.notes.append,
        open_named=opened,
    )[0]


def true_bars(num=60):
    rows = [bar(when)[:6] for when in range(START, START + num * STEP, STEP)]
    frame = pd.DataFrame(rows, columns=["timestamp", *NUMBERS])
    frame.insert(1, "symbol", "BTC/USDT")
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True).astype(
        "datetime64[ms, UTC]"
    )
    return frame.astype(dict.fromkeys(NUMBERS, "float64"))


def at(row, name, value):
    def spoil(frame):
        frame.loc[row, name] = value
        return frame

    return spoil


POISON = {
    "NaN": at(30, "close", np.nan),
    "null": at([30, 31], NUMBERS, None),
    "infinite": at(30, "high", np.inf),
    "negative": at(30, "low", -1.0),
    "zero": at(30, "low", 0.0),
    "inverted": at(30, ["high", "low"], [1.0, 9.0]),
    "close above high": at(30, "close", 1e6),
    "beyond numbers": at(30, "high", 1e300),
    "volume below 0": at(30, "volume", -1.0),
    "the first": at([0, 1, 2], "open", np.nan),
    "the last": at([38, 39], "open", np.nan),
    "here and there": at([0, 1, 5, 17, 18, 33, 39], "volume", np.nan),
    "all": at(slice(None), "open", np.nan),
    "no time": at(30, "timestamp", pd.NaT),
    "a time to come": at(39, "timestamp", pd.Timestamp("2090-01-01", tz="UTC")),
    "no symbol": at(30, "symbol", None),
    "a bar that was open": lambda frame: true_bars(61).assign(volume=lambda f: f["volume"] / 2)[
        -1:
    ],
    "twice": lambda frame: pd.concat([frame, frame[10:20]]),
    "newest first": lambda frame: frame[::-1],
}


@pytest.mark.parametrize("name", POISON)
def test_a_file_that_holds_poison_heals_on_the_next_call(server, fetch, tmp_path, name):
    file = tmp_path / "BTC_USDT-5m.parquet"
    POISON[name](true_bars(40)).to_parquet(file, index=False)
    assert fetch() == file
    pd.testing.assert_frame_equal(pd.read_parquet(file), true_bars())
    assert len(read_bars(file)) == 60
    assert file.name in server.notes[0]
    before = file.read_bytes()
    server.notes.clear()
    fetch()
    assert server.notes == [] and file.read_bytes() == before


def test_poison_stays_until_the_exchange_answers(server, fetch, tmp_path):
    file = tmp_path / "BTC_USDT-5m.parquet"
    POISON["here and there"](true_bars(40)).to_parquet(file, index=False)
    before = file.read_bytes()
    server.always = 500
    with pytest.raises(InputError, match="no answer in 2 tries"):
        fetch()
    assert file.read_bytes() == before
    server.always = None
    pd.testing.assert_frame_equal(pd.read_parquet(fetch()), true_bars())


def test_what_the_exchange_has_no_longer_is_dropped_and_told(server, fetch, tmp_path):
    file = tmp_path / "BTC_USDT-5m.parquet"
    POISON["NaN"](true_bars(40)).to_parquet(file, index=False)
    server.missing = {START + 30 * STEP}
    pd.testing.assert_frame_equal(
        pd.read_parquet(fetch()), true_bars().drop(30).reset_index(drop=True)
    )
    assert "1 impossible" in server.notes[0] and "0 fetched again" in server.notes[0]


def test_a_file_of_another_symbol_is_refused(fetch, tmp_path):
    file = tmp_path / "BTC_USDT-5m.parquet"
    true_bars(40).assign(symbol="ETH/USDT").to_parquet(file, index=False)
    before = file.read_bytes()
    with pytest.raises(InputError, match="other symbols than BTC/USDT; move it away"):
        fetch()
    assert file.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 10, 400, -9])
def test_a_file_that_is_cut_is_refused_in_a_line(fetch, tmp_path, cut):
    file = tmp_path / "BTC_USDT-5m.parquet"
    true_bars(40).to_parquet(file, index=False)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match="cannot be continued") as refused:
        fetch()
    assert len(refused.value.faults) == 1
