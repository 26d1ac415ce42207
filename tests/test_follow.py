import json
from types import GeneratorType

import pandas as pd
import pytest
from binance_server import START, STEP, BinanceServer, Reply

from core.errors import InputError
from data.bars.checks import check_bars
from recipe.live.exchange import Exchange, open_exchange
from recipe.live.follow import follow, newest_bars

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
BOTH = ["BTC/USDT", "ETH/USDT"]


@pytest.fixture
def server():
    with BinanceServer(num_closed=300) as server:
        yield server


@pytest.fixture
def notes():
    return []


@pytest.fixture
def binance(server, notes):
    """The exchange's time goes on by what is slept, and by nothing else."""

    def sleep(seconds):
        server.now += max(1, round(seconds * 1000))

    exchange = open_exchange(
        "binance", note=notes.append, sleep=sleep, clock=lambda: server.now / 1000
    )
    return server.point(exchange)


def opens(frame, symbol="BTC/USDT"):
    times = frame.loc[frame["symbol"] == symbol, "timestamp"]
    return ((times - pd.Timestamp(START, unit="ms", tz="UTC")) // pd.Timedelta("5min")).tolist()


def test_the_newest_bars_are_the_closed_ones_in_the_form_of_checked_bars(binance):
    frame = newest_bars(binance, BOTH[::-1], "5m", 20)
    assert opens(frame) == opens(frame, "ETH/USDT") == list(range(280, 300))
    pd.testing.assert_frame_equal(frame, check_bars(frame)[list(frame)])
    assert frame["open"].iloc[20] - frame["open"].iloc[0] == 1000


def test_more_bars_than_a_page_come_whole(server, binance):
    server.now = START + 2600 * STEP
    assert opens(newest_bars(binance, ["BTC/USDT"], "5m", 2400)) == list(range(200, 2600))


def test_holes_in_a_market_are_made_up_for_from_further_back(server, binance):
    server.missing = {START + n * STEP for n in range(250, 290)}
    frame = newest_bars(binance, ["BTC/USDT"], "5m", 20)
    assert opens(frame) == [*range(240, 250), *range(290, 300)]


def test_a_symbol_with_too_few_bars_is_told(binance, notes):
    assert opens(newest_bars(binance, ["BTC/USDT"], "5m", 400)) == list(range(300))
    assert "needs 400 closed bars of 5m, has 300" in notes[-1]


def test_an_unknown_symbol_is_told_at_once(binance):
    for answer in (newest_bars, lambda *args: next(follow(*args))):
        with pytest.raises(InputError, match="no symbol XRP/USDT"):
            answer(binance, ["XRP/USDT"], "5m", 5)


def test_every_next_close_is_answered_once_and_never_the_forming_bar(server, binance, notes):
    answers = follow(binance, BOTH, "5m", 5)
    for newest in range(299, 305):
        frame = next(answers)
        assert opens(frame) == opens(frame, "ETH/USDT") == list(range(newest - 4, newest + 1))
        # The answer comes with the close: the bar after it is still forming.
        assert START + (newest + 1) * STEP <= server.now < START + (newest + 1) * STEP + 2000
    assert notes == []


def test_a_pause_is_filled_from_history_and_told(server, binance, notes):
    answers = follow(binance, ["BTC/USDT"], "5m", 5)
    next(answers)
    server.now += 3 * STEP + 1000
    assert opens(next(answers)) == [298, 299, 300, 301, 302]
    assert notes == ["BTC/USDT: 2 closes went by without an answer"]
    assert opens(next(answers)) == [299, 300, 301, 302, 303]


def test_a_pause_longer_than_the_window_leaves_no_hole(server, binance):
    answers = follow(binance, ["BTC/USDT"], "5m", 5)
    next(answers)
    server.now += 2000 * STEP
    assert opens(next(answers)) == list(range(2295, 2300))


@pytest.mark.parametrize("fault", [500, 429, "cut"])
def test_faults_are_waited_out_beyond_any_number_of_tries_and_told(server, binance, notes, fault):
    answers = follow(binance, BOTH, "5m", 5)
    next(answers)
    server.faults = [None] + [fault] * 20  # more than a bar's time of back-off
    frame = next(answers)
    newest = (server.now - START) // STEP - 1
    assert newest > 300
    assert opens(frame) == opens(frame, "ETH/USDT") == list(range(newest - 4, newest + 1))
    assert len([note for note in notes if "next try" in note]) == 20


def test_a_bar_that_appears_late_is_waited_for(server, binance):
    answers = follow(binance, ["BTC/USDT"], "5m", 5)
    next(answers)
    late = START + 300 * STEP
    server.missing = {late}
    server.faults = [None, None, None, lambda: server.missing.discard(late)]
    assert opens(next(answers))[-1] == 300
    assert START + 301 * STEP < server.now < START + 301 * STEP + 10_000


def test_a_symbol_without_a_trade_is_left_out_and_told_and_holds_up_no_other(
    server, binance, notes
):
    answers = follow(binance, BOTH, "5m", 5)
    next(answers)
    whole = server.klines

    def without_eth(query):
        rows = whole(query)
        eth = query["symbol"] == ["ETHUSDT"]
        return [row for row in rows if not (eth and row[0] == START + 300 * STEP)]

    server.klines = without_eth
    frame = next(answers)
    assert opens(frame)[-1] == 300 and opens(frame, "ETH/USDT") == []
    assert "ETH/USDT" in notes[0] and "no bar for the close" in notes[0]
    frame = next(answers)
    assert opens(frame, "ETH/USDT") == [296, 297, 298, 299, 301]


def test_the_first_of_many_symbols_is_asked_once_more_after_a_long_round(server, binance, notes):
    answers = follow(binance, BOTH, "5m", 5, together=True)
    next(answers)
    close, whole = START + 301 * STEP, server.klines

    def slow(query):
        rows = whole(query)
        if query["symbol"] == ["ETHUSDT"]:
            server.now += 100_000  # the other's bar has come by now
            return rows
        return [row for row in rows if row[0] < close - STEP or server.now > close + 5000]

    server.klines = slow
    frame = next(answers)
    assert opens(frame) == opens(frame, "ETH/USDT") == list(range(296, 301)) and notes == []


def test_together_a_symbol_without_a_bar_is_waited_for_and_comes_along_as_it_is(
    server, binance, notes
):
    answers = follow(binance, BOTH, "5m", {"BTC/USDT": 5, "ETH/USDT": 3}, together=True)
    next(answers)
    server.klines = lambda query, whole=server.klines: [
        row for row in whole(query) if query["symbol"] == ["BTCUSDT"] or row[0] < START + 300 * STEP
    ]
    frame = next(answers)
    assert opens(frame) == list(range(296, 301)) and opens(frame, "ETH/USDT") == [297, 298, 299]
    assert 60_000 < server.now - (START + 301 * STEP) < 75_000 and notes == []


def test_a_clock_of_this_machine_that_is_off_moves_no_answer(server, binance):
    binance.clock = lambda: server.now / 1000 + 86_400
    answers = follow(binance, ["BTC/USDT"], "5m", 3)
    assert [opens(next(answers))[-1] for _ in range(3)] == [299, 300, 301]


def test_a_clock_of_the_exchange_that_was_wrong_once_is_not_waited_for(server, binance):
    wrong = json.dumps({"serverTime": server.now + 20 * 3_600_000}).encode()
    server.time_faults = [Reply(wrong)]
    answers = follow(binance, ["BTC/USDT"], "5m", 3)
    assert [opens(next(answers))[-1] for _ in range(3)] == [299, 300, 301]
    assert server.now < START + 302 * STEP + 2000


def test_weekly_bars_are_answered_when_their_week_ends():
    """Binance's weeks begin on Mondays; whole weeks since 1970 begin on Thursdays."""
    week = 7 * 86_400_000
    monday = int(pd.Timestamp("2024-01-01", tz="UTC").timestamp() * 1000)

    class Weekly:
        id, has, timeframes = "made-up", {"fetchOHLCV": True, "fetchTime": True}, {"1w": "W"}
        now = monday + 20 * week + 3_600_000

        def load_markets(self):
            return {"BTC/USD": {}}

        def fetch_time(self):
            return self.now

        def iso8601(self, when):
            return str(when)

        def fetch_ohlcv(self, symbol, timeframe, since, limit):
            opens = [monday + n * week for n in range(200)]
            there = [when for when in opens if since <= when <= self.now][:limit]
            return [[when, 10.0, 12.0, 9.0, 11.0, 1.0] for when in there]

    client, notes = Weekly(), []

    def sleep(seconds):
        client.now += round(seconds * 1000)

    exchange = Exchange(client, notes.append, sleep, lambda: client.now / 1000)
    answers = follow(exchange, ["BTC/USD"], "7d", 4)
    for number in range(19, 23):
        newest = next(answers)["timestamp"].iloc[-1]
        assert newest == pd.Timestamp(monday + number * week, unit="ms", tz="UTC")
        assert client.now < monday + (number + 1) * week + 3_700_000
    assert notes == []


def test_ctrl_c_while_it_waits_ends_it(binance):
    answers = follow(binance, ["BTC/USDT"], "5m", 3)
    next(answers)

    def interrupted(seconds):
        raise KeyboardInterrupt

    assert isinstance(answers, GeneratorType)
    answers.gi_frame.f_locals["exchange"].sleep = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(answers)
    assert next(answers, None) is None
