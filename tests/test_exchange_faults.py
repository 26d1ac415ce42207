"""Exchanges that lie politely: no bar is lost, and none is kept that is not true."""

import gzip
import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from binance_server import START, STEP, BinanceServer, Reply, Twist, bar

import recipe.live.answers
import recipe.live.download
import recipe.live.holes
import recipe.live.pages
from core.errors import InputError
from recipe.live.answers import LONGEST_WAIT_S
from recipe.live.download import download
from recipe.live.exchange import open_exchange

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
NUM_BARS = 70
SINCE = pd.Timestamp(START, unit="ms", tz="UTC").isoformat()
TRUE = [[when, *map(float, bar(when)[1:6])] for when in range(START, START + 70 * STEP, STEP)]
DEADLINE_S = 1.0
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


@pytest.fixture
def server(monkeypatch):
    """70 bars in pages of 20; a part is written every other page."""
    monkeypatch.setattr(recipe.live.pages, "PAGE_BARS", 20)
    monkeypatch.setattr(recipe.live.pages, "EMPTY_PAGE_BARS", 8)
    monkeypatch.setattr(recipe.live.holes, "STEPS_BARS", (8, 4, 2))
    monkeypatch.setattr(recipe.live.holes, "LATE_END_BARS", 3)
    monkeypatch.setattr(recipe.live.download, "PAGES_PER_PART", 2)
    monkeypatch.setattr(recipe.live.answers, "LARGEST_ANSWER", 1 << 20)
    with BinanceServer(num_closed=NUM_BARS) as server:
        server.waits, server.notes, server.ahead_s = [], [], 0
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    def opened(name, note):
        exchange = open_exchange(
            name,
            note=note,
            sleep=server.waits.append,
            clock=lambda: server.now / 1000 + server.ahead_s,
            deadline_s=DEADLINE_S,
            max_tries=4,
        )
        return server.point(exchange)

    def fetch():
        return download(
            "binance",
            ["BTC/USDT"],
            timeframe="5m",
            since=SINCE,
            folder=tmp_path,
            note=server.notes.append,
            open_named=opened,
        )

    return fetch


def rows_of(file):
    table = pq.read_table(file).drop(["symbol"])
    table = table.set_column(0, "timestamp", table["timestamp"].cast("int64"))
    return [list(row.values()) for row in table.to_pylist()]


def body(answer):
    return Reply(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})


def cells(place, value):
    """Returns a fault: two bars of a page have another value in a place."""

    def rows(page, query):
        for number in (3, 4):
            if number < len(page):
                page[number][place] = value
        return page

    return Twist(rows)


def inverted(page, query):
    page[3][2:4] = page[3][3:1:-1]
    return page


SLOW = [Reply(b"[]" * 9, drip_s=9), Reply(b"[]" * 100, drip_s=0.05)]

# A fault of one answer, or of a few that follow each other; after it the exchange is well.
PASSING = {
    "408": [408],
    "418": [418],
    "429": [429],
    "500": [500, 500],
    "502": [502],
    "503": [503],
    "504": [504],
    "cut": ["cut"],
    "connection shut": ["shut"],
    "html": [Reply(HTML), Reply(HTML, headers={"Content-Type": "text/html"})],
    "html of 503": [Reply(HTML, status=503)],
    "nothing": [Reply(b"")],
    "garbage": [Reply(bytes(range(128, 256)) * 4)],
    "utf-16": [Reply(json.dumps([bar(START)]).encode("utf-16"))],
    "half of the JSON": [Reply(json.dumps([bar(START)] * 9).encode()[:-30])],
    "gzip that is none": [Reply(b"[]", headers={"Content-Encoding": "gzip"})],
    "gzip bomb": [Reply(gzip.compress(b" " * (1 << 21)), headers={"Content-Encoding": "gzip"})],
    "without an end": [Reply(b"[" + b"1," * (1 << 20))],
    "deep JSON": [Reply(b"[" * 100_000)],
    "null": [body(None)],
    "a text": [body("try later")],
    "a number": [body(7)],
    "an empty table": [body({})],
    "a table": [body({"result": []})],
    "numbers for bars": [body([1, 2, 3])],
    "texts for bars": [body(["a", "b"])],
    "empty bars": [body([[]])],
    "tables for bars": [body([{}, {}])],
    "nulls for bars": [body([None])],
    "a time of null": [cells(0, None)],
    "a time of text": [cells(0, "today")],
    "a time of NaN": [cells(0, float("nan"))],
    "a time in ns": [cells(0, START * 1_000_000)],
    "4,000 digits": [Reply(b"[[" + b"9" * 4000 + b",1,1,1,1,1]]")],
    "times in s": [Twist(lambda page, query: [[row[0] // 1000, *row[1:]] for row in page])],
    "NaN": [cells(4, float("nan"))],
    "infinity": [cells(2, float("inf"))],
    "a price of null": [cells(1, None)],
    "a price of text": [cells(1, "abc")],
    "no price": [cells(1, "")],
    "a price of 0": [cells(3, "0")],
    "a negative price": [cells(3, "-1")],
    "a price of 1e300": [cells(2, "1e300")],
    "a negative volume": [cells(5, "-1")],
    "a volume of NaN": [cells(5, "NaN")],
    "inverted": [Twist(inverted)],
    "newest first": [Twist(lambda page, query: page[::-1])],
    "each bar twice": [Twist(lambda page, query: page + page)],
    "a hole": [Twist(lambda page, query: page[:5] + page[9:])],
    "many holes": [Twist(lambda page, query: page[::2])],
    "a late begin": [Twist(lambda page, query: page[7:])],
    "the newest bar alone": [Twist(lambda page, query: page[-1:])],
    "an empty page": ["empty"],
    "two empty pages": ["empty", "empty"],
    "silence": [SLOW[0]],
    "a byte now and then": [SLOW[1]],
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_loses_no_bar_and_keeps_no_false_one(server, fetch, name):
    server.faults = list(PASSING[name])  # of the first page
    server.faults_at[START + 40 * STEP] = list(PASSING[name])  # of the third
    [file] = fetch()
    assert rows_of(file) == TRUE
    assert max(server.waits, default=0) <= LONGEST_WAIT_S
    if PASSING[name][0] in SLOW:
        assert any("no complete answer within 1 s" in note for note in server.notes)
    told = {"newest first", "each bar twice", "an empty page", "times in s"}
    assert server.notes or name in told


# What a fault that does not end leads to: a refusal after the tries, or a line of what is missing.
LASTING = {
    "500": "no answer in 4 tries",
    "429": "no answer in 4 tries",
    "cut": "no answer in 4 tries",
    "connection shut": "no answer in 4 tries",
    "html": "no answer in 4 tries",
    "garbage": "no answer in 4 tries",
    "a number": "no answer in 4 tries",
    "an empty table": "no answer in 4 tries",
    "texts for bars": "no answer in 4 tries",
    "a time of null": "no answer in 4 tries",
    "silence": "no answer in 4 tries",
    "an empty page": "no longer gives",
    "times in s": "no longer gives",
    "a late begin": "no longer gives",
    "the newest bar alone": "no longer gives",
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_ends_in_a_refusal_and_the_next_call_has_all(server, fetch, tmp_path, name):
    server.faults, server.always = [None] * 2, PASSING[name][0]
    with pytest.raises(InputError, match=LASTING[name]) as refused:
        fetch()
    assert len(refused.value.faults) == 1
    [file] = tmp_path.glob("*.parquet")
    assert rows_of(file) == TRUE[: len(rows_of(file))]
    server.always = None
    assert rows_of(*fetch()) == TRUE


NEVER_RIGHT = {
    "NaN": lambda row: [row[0], *["NaN"] * 5],
    "inverted": lambda row: [row[0], row[1], row[3], row[2], *row[4:]],
    "negative": lambda row: [row[0], "-1", *row[2:]],
    "null": lambda row: [row[0], None, *row[2:]],
}


@pytest.mark.parametrize("name", NEVER_RIGHT)
def test_bars_that_are_never_right_are_told_and_not_kept(server, fetch, name):
    bad = {row[0] for row in TRUE[18:23] + TRUE[50:51] + TRUE[69:]}

    def rows(page, query):
        return [NEVER_RIGHT[name](row) if row[0] in bad else row for row in page]

    server.always = Twist(rows)
    assert rows_of(*fetch()) == [row for row in TRUE if row[0] not in bad]
    assert any(
        "5 impossible bars" in note and "2023-11-14 23:45 UTC" in note for note in server.notes
    )
    assert any("no bars for 2 gaps (6 missing)" in note for note in server.notes)


def test_a_market_that_begins_later_is_told_with_both_times(server, fetch):
    server.missing = {row[0] for row in TRUE[:30]}
    assert rows_of(*fetch()) == TRUE[30:]
    assert (
        "since 2023-11-14 22:15 UTC, but binance has them only from 2023-11-15 00:45"
        in (server.notes[-1])
    )
    server.notes.clear()
    server.now += STEP
    fetch()
    assert [note for note in server.notes if "begins" not in note] == []


def test_bars_that_were_never_traded_are_told_and_asked_for_only_once_more(server, fetch):
    server.missing = {row[0] for row in TRUE[24:27] + TRUE[29:30]}
    assert rows_of(*fetch()) == TRUE[:24] + TRUE[27:29] + TRUE[30:]
    [note] = server.notes
    assert "no bars for 2 gaps (4 missing)" in note and "2023-11-15 00:10" in note
    assert len(server.asked) == 4 + 1  # one answer shows both holes


def test_a_market_that_ends_is_told(server, fetch):
    server.missing = {START + number * STEP for number in range(40, 71)}
    assert rows_of(*fetch()) == TRUE[:40]
    assert "the bars of binance end at" in server.notes[-1]


RETRY_AFTER = ["999999999", "9" * 400, "inf", "nan", "-5", "1e9", "soon", "\u00b2"]
RETRY_AFTER += ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 Foo 2020 00:00:00 GMT"]


@pytest.mark.parametrize("asked", RETRY_AFTER)
def test_what_retry_after_asks_for_is_bounded(server, fetch, asked):
    asked = asked.encode().decode("latin-1")
    server.faults, server.headers = [429, 503], {"Retry-After": asked}
    assert rows_of(*fetch()) == TRUE
    assert len(server.waits) == 2
    assert all(1 <= wait <= LONGEST_WAIT_S for wait in server.waits)


TIMES = [None, "abc", float("nan"), float("inf"), 1e30, -5, "9" * 400, {}, [], True, 1.7e9]


@pytest.mark.parametrize("told", [*TIMES, "html"], ids=str)
def test_a_time_that_is_none_is_asked_for_again(server, fetch, told):
    reply = Reply(HTML) if told == "html" else body({"serverTime": told})
    server.time_faults = [reply, reply]
    assert rows_of(*fetch()) == TRUE
    assert len(server.waits) == 2
    server.time_faults = [reply] * 9
    with pytest.raises(InputError, match="no answer in 4 tries") as refused:
        fetch()
    assert len(refused.value.faults) == 1


@pytest.mark.parametrize("days", [-20_000, -400, -2, 2, 400, 20_000])
def test_clocks_that_are_far_apart_are_told_and_no_open_bar_is_kept(server, fetch, days):
    server.now += STEP // 2
    if days < 0:  # the exchange's clock is in the future
        real = server.now / 1000
        replies = [body({"serverTime": int((real - days * 86_400) * 1000)}) for _ in range(99)]
        server.time_faults = replies
    else:
        server.ahead_s = days * 86_400
    assert rows_of(*fetch()) == TRUE
    [note] = [note for note in server.notes if "clock" in note]
    assert f"{abs(days):,.1f} days apart" in note


@pytest.mark.parametrize(
    "answer", [Reply(HTML), Reply(b""), 500, body([]), body({}), body({"symbols": "none"}), "shut"]
)
def test_markets_that_are_none_are_asked_for_again(server, fetch, answer):
    server.market_faults = [answer, answer]
    assert rows_of(*fetch()) == TRUE
    server.market_faults = [answer] * 99
    with pytest.raises(InputError) as refused:
        fetch()
    assert len(refused.value.faults) == 1
