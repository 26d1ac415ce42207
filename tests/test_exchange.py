import builtins
import email.utils

import pytest
from binance_server import START, STEP, BinanceServer

from core.errors import InputError
from recipe.live.exchange import check_symbols, open_exchange, timeframe_of
from recipe.live.pages import fetch_closed_bars

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")


@pytest.fixture
def server():
    with BinanceServer() as server:
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def notes():
    return []


@pytest.fixture
def binance(server, waits, notes):
    exchange = open_exchange(
        "binance", note=notes.append, sleep=waits.append, clock=lambda: server.now / 1000
    )
    return server.point(exchange)


def times(exchange, since=START):
    pages = fetch_closed_bars(exchange, "BTC/USDT", "5m", since)
    return [row[0] for page in pages for row in page]


def test_an_exchange_opens_with_its_rate_limit_and_without_a_key():
    client = open_exchange("binance").client
    assert client.enableRateLimit
    assert not client.apiKey and not client.secret


def test_without_ccxt_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name == "ccxt":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="extra `live`"):
        open_exchange("binance")


def test_an_unknown_exchange_is_told_with_the_nearest_names():
    with pytest.raises(InputError, match="got binanse; near: .*binance"):
        open_exchange("binanse")


def test_a_timeframe_that_the_exchange_lacks_is_told(binance):
    assert timeframe_of(binance, "5m").step_ms == STEP
    with pytest.raises(InputError, match="1m, 3m, 5m.*got 7m"):
        timeframe_of(binance, "7m")


def test_a_symbol_that_does_not_exist_is_told_with_the_nearest_names(binance):
    with pytest.raises(InputError) as error:
        check_symbols(binance, ["BTC/USDT", "BTCUSDT", "ETH/USD"])
    assert len(error.value.faults) == 2
    assert "no symbol BTCUSDT; near: BTC/USDT" in error.value.faults[0]
    assert "no symbol ETH/USD; near: ETH/USDT" in error.value.faults[1]


def test_pages_hold_every_closed_bar_once_and_never_the_forming_one(binance, server):
    pages = list(fetch_closed_bars(binance, "BTC/USDT", "5m", START))
    assert [len(page) for page in pages] == [1000, 1000, 500]
    got = [row[0] for page in pages for row in page]
    assert got == [START + n * STEP for n in range(2500)]
    assert int(server.klines({"limit": ["5"], "startTime": [str(got[-1])]})[-1][0]) > got[-1]


def test_a_bar_is_closed_exactly_when_the_exchange_says_so(binance, server):
    server.now = START + 3 * STEP - 1
    assert len(times(binance)) == 2
    server.now += 1
    assert len(times(binance)) == 3


def test_a_bar_that_closes_while_the_page_travels_is_not_taken(binance, server):
    def time_passes():
        server.now += STEP

    server.now = START + 3 * STEP - 1
    server.faults = [time_passes]
    pages = fetch_closed_bars(binance, "BTC/USDT", "5m", START)
    assert [row[0] for row in next(pages)] == [START, START + STEP]


@pytest.mark.parametrize("fault", [500, 502, 503, 429, 418, "cut"])
def test_a_passing_fault_is_waited_out_and_told_and_loses_no_bar(
    binance, server, waits, notes, fault
):
    server.faults = [None, fault, fault, fault]
    assert times(binance) == [START + n * STEP for n in range(2500)]
    assert waits == [1, 2, 4]
    assert len(notes) == 3 and "next try in 4 s" in notes[-1]


def test_retry_after_is_obeyed_in_seconds_and_as_a_date(binance, server, waits):
    server.faults, server.headers = [429], {"Retry-After": "17"}
    times(binance)
    later = email.utils.formatdate(server.now // 1000 + 40, usegmt=True)
    server.faults, server.headers = [429], {"Retry-After": later}
    times(binance)
    assert waits[0] == 17
    assert waits[1] == pytest.approx(40, abs=1)


def test_it_gives_up_after_the_tries_that_are_allowed(binance, server, waits):
    binance.max_tries, server.faults = 3, [500] * 3
    with pytest.raises(InputError, match="no answer in 3 tries"):
        times(binance)
    assert waits == [1, 2]


def test_a_refusal_is_not_tried_again(binance, server, waits):
    server.faults = [451]
    with pytest.raises(InputError, match="binance refuses"):
        times(binance)
    assert waits == []


def test_one_empty_page_is_asked_for_again(binance, server):
    server.faults = [None, "empty"]
    assert times(binance) == [START + n * STEP for n in range(2500)]


def test_empty_pages_before_the_listing_are_stepped_over(binance, server, notes):
    server.faults = ["empty", "empty"]
    assert times(binance, START - 200 * STEP)[0] == START
    assert "an empty page" in notes[0]


def test_empty_pages_to_the_end_end(binance, server):
    server.faults = ["empty"] * 100
    assert times(binance) == []


@pytest.mark.parametrize(("off", "side"), [(7200, "ahead of"), (-7200, "behind")])
def test_a_clock_that_is_off_changes_no_bar_and_is_told_once(server, notes, off, side):
    exchange = open_exchange("binance", note=notes.append, clock=lambda: server.now / 1000 + off)
    assert len(times(server.point(exchange))) == 2500
    assert [f"7200 s {side} binance's" in note for note in notes] == [True]
