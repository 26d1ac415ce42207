import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from binance_server import START, STEP, BinanceServer

import recipe.live.download
import recipe.live.kept
from core.errors import InputError
from core.lock import Lock
from data.bars.read import read_bars
from recipe.live.download import bars_file_name, download
from recipe.live.exchange import open_exchange

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
SINCE = pd.Timestamp(START, unit="ms", tz="UTC").isoformat()
ROOT = Path(__file__).parent.parent


@pytest.fixture
def server():
    with BinanceServer() as server:
        yield server


@pytest.fixture
def get(server, tmp_path):
    def opened(name, note):
        exchange = open_exchange(
            name, note=note, sleep=lambda s: None, clock=lambda: server.now / 1000
        )
        return server.point(exchange)

    def get(*symbols, **options):
        options = {"timeframe": "5m", "since": SINCE, "folder": tmp_path / "bars"} | options
        return download("binance", symbols or ["BTC/USDT"], open_named=opened, **options)

    return get


def opens(file):
    return (pq.read_table(file)["timestamp"].cast("int64")).to_pylist()


def expected(num):
    return [START + n * STEP for n in range(num)]


def test_each_symbol_gets_a_file_that_read_bars_reads(get, tmp_path):
    files = get("BTC/USDT", "ETH/USDT")
    assert [file.name for file in files] == ["BTC_USDT-5m.parquet", "ETH_USDT-5m.parquet"]
    assert sorted(os.listdir(tmp_path / "bars")) == [file.name for file in files]
    bars = read_bars(tmp_path / "bars")
    assert list(bars["symbol"].cat.categories) == ["BTC/USDT", "ETH/USDT"]
    assert len(bars) == 5000
    names = ["open", "high", "low", "close", "volume"]
    base = 100 + (START // STEP) % 50
    assert bars[names].iloc[0].tolist() == [base, base + 2, base - 1, base + 1, 7.5]
    assert opens(files[0]) == expected(2500)


def test_a_contract_gets_a_name_without_a_colon():
    assert bars_file_name("BTC/USDT:USDT", "1h") == "BTC_USDT_USDT-1h.parquet"


def test_it_goes_on_after_the_last_bar_and_asks_for_nothing_else(get, server):
    get()
    server.now, server.asked = server.now + 3 * STEP, []
    [file] = get()
    assert opens(file) == expected(2503)
    assert [int(query["startTime"][0]) for query in server.asked] == [START + 2500 * STEP]


def test_nothing_new_leaves_the_file_as_it_is(get):
    [file] = get()
    before = file.stat().st_mtime_ns, file.read_bytes()
    get()
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_progress_tells_symbol_bars_and_time_of_each_page(get):
    told = []
    get(progress=lambda *news: told.append(news))
    assert [news[:2] for news in told] == [("BTC/USDT", n) for n in (1000, 2000, 2500)]
    assert told[-1][2] == pd.Timestamp(expected(2500)[-1], unit="ms", tz="UTC")


def test_an_exchange_that_stays_away_keeps_what_has_come(get, server):
    server.faults = [None] + [500] * 10
    with pytest.raises(InputError, match="no answer in 10 tries"):
        get()
    [file] = get()
    assert [int(query["startTime"][0]) for query in server.asked[:1]] == [START]
    assert int(server.asked[11]["startTime"][0]) == START + 1000 * STEP
    assert opens(file) == expected(2500)


KILLED = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import recipe.live.download as d
from binance_server import BinanceServer
from recipe.live.exchange import open_exchange
d.PAGES_PER_PART = 1
url, folder, place, since = sys.argv[1:]
def opened(name, note):
    exchange = open_exchange(name, note=note)
    exchange.client.urls["api"] = {{n: f"{{url}}/{{n}}" for n in exchange.client.urls["api"]}}
    return exchange
replace, calls = os.replace, []
def replace_or_die(source, target):
    calls.append(target)
    if place == f"before {{len(calls)}}": os._exit(9)
    replace(source, target)
    if place == f"after {{len(calls)}}": os._exit(9)
os.replace = replace_or_die
d.download("binance", ["BTC/USDT"], timeframe="5m", since=since, folder=folder, open_named=opened)
"""


# Three parts are put in place, then the joined file.
@pytest.mark.parametrize(
    "place",
    [
        *("after 1", "before 4", "after 4"),
        *(pytest.param(place, marks=pytest.mark.slow) for place in ("before 1", "after 2")),
    ],
)
def test_a_kill_at_any_moment_harms_nothing(get, server, tmp_path, place):
    code = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"))
    folder = tmp_path / "bars"
    run = subprocess.run([sys.executable, "-c", code, server.url, str(folder), place, SINCE])
    assert run.returncode == 9
    if (folder / "BTC_USDT-5m.parquet").exists():
        assert len(read_bars(folder)) == 2500
    server.asked.clear()
    [file] = get()
    assert opens(file) == expected(2500)
    assert os.listdir(folder) == [file.name]
    kept = {"before 1": 0, "after 1": 1000, "after 2": 2000}.get(place, 2500)
    assert [int(query["startTime"][0]) for query in server.asked[:1]] == (
        [] if kept == 2500 else [START + kept * STEP]
    )


def test_joining_holds_few_rows_at_once(get, monkeypatch):
    monkeypatch.setattr(recipe.live.kept, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(recipe.live.download, "PAGES_PER_PART", 1)
    [file] = get()
    assert opens(file) == expected(2500)
    groups = pq.ParquetFile(file).metadata
    assert max(groups.row_group(n).num_rows for n in range(groups.num_row_groups)) == 100


def test_no_symbol_is_fetched_when_one_is_unknown(get, server, tmp_path):
    with pytest.raises(InputError, match="no symbol XRP/USDT"):
        get("BTC/USDT", "XRP/USDT")
    assert server.asked == [] and not (tmp_path / "bars").exists()


def test_a_wrong_date_is_told(get):
    with pytest.raises(InputError, match="such as 2024-01-01, got yesteryear"):
        get(since="yesteryear")


def test_a_file_of_another_kind_is_never_overwritten(get, tmp_path):
    (tmp_path / "bars").mkdir()
    file = tmp_path / "bars" / "BTC_USDT-5m.parquet"
    pd.DataFrame({"date": [1]}).to_parquet(file)
    before = file.read_bytes()
    with pytest.raises(InputError, match="has date; move it away"):
        get()
    file.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be continued"):
        get()
    assert before and file.read_bytes() == b"no parquet"


def test_bars_before_the_file_are_told_not_fetched(get, server):
    notes = []
    get(since=pd.Timestamp(START + 100 * STEP, unit="ms", tz="UTC").isoformat())
    [file] = get(note=notes.append)
    assert opens(file) == expected(2500)[100:]
    assert "earlier bars are not fetched" in notes[0]


def test_two_downloads_into_one_folder_exclude_each_other(get, tmp_path, monkeypatch):
    monkeypatch.setattr("recipe.live.download._PATIENCE", 0)
    folder = tmp_path / "bars"
    folder.mkdir()
    with Lock(folder / ".download.lock", "it"):
        with pytest.raises(InputError, match=f"downloads .* in use by process {os.getpid()} on"):
            get()
    torn = folder / f".A-5m.{'0' * 16}.tmp.parquet"
    torn.write_bytes(b"torn")
    assert get() and not torn.exists()
    assert not (folder / ".download.lock").exists()


def test_a_folder_that_cannot_be_made_is_told(get, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be made"):
        get(folder=tmp_path / "file")
