"""Kinds of exchanges: which bars each gives for a time and a number, and what becomes of it."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.errors import InputError
from recipe.live.download import download
from recipe.live.exchange import Exchange

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
MINUTE = 60_000


def ms(text):
    return int(pd.Timestamp(text, tz="UTC").timestamp() * 1000)


FIRST = ms("2024-03-01")


class Client:
    """An exchange with a bar each minute; `give(opens, since, limit)` says which it answers."""

    id, has = "made-up", {"fetchOHLCV": True, "fetchTime": True}
    timeframes = {"1m": "1", "1h": "60", "1w": "W", "1M": "M"}

    def __init__(self, opens, now, give=lambda opens, since, limit: []):
        self.opens, self.now, self.give, self.asked = list(opens), now, give, []

    def load_markets(self):
        return {"BTC/USD": {}}

    def fetch_time(self):
        return self.now

    def iso8601(self, when):
        return str(pd.Timestamp(when, unit="ms"))

    def fetch_ohlcv(self, symbol, timeframe, since=None, limit=None):
        return self.answer([when for when in self.opens if when <= self.now], since, limit)

    def answer(self, opens, since, limit):
        self.asked.append((since, limit))
        return [[when, 10.0, 12.0, 9.0, 11.0, 1.0] for when in self.give(opens, since, limit)]


class WithAnEnd(Client):
    """The same, and it takes an end."""

    def fetch_ohlcv(self, symbol, timeframe, since=None, limit=None, params=None):
        """:param int [params.until]: the latest time in ms"""
        until = (params or {}).get("until", self.now)
        return self.answer([o for o in self.opens if o <= min(until, self.now)], since, limit)


def usual(opens, since, limit):
    return [when for when in opens if when >= since][:limit]


def after(opens, since, limit):
    return [when for when in opens if when > since][:limit]


def window(opens, since, limit):
    return [when for when in opens if since <= when < since + limit * MINUTE]


def newest_of_window(most):
    return lambda opens, since, limit: window(opens, since, limit)[-most:]


def newest(number, cut=True):
    return lambda opens, since, limit: [o for o in opens[-number:] if not cut or o >= since][
        -limit:
    ]


def oldest_always(opens, since, limit):
    return opens[:limit]


def get(client, folder, since="2024-03-01", timeframe="1m"):
    notes = []

    def opened(name, note):
        waited = []
        return Exchange(client, note, sleep=waited.append, clock=lambda: client.now / 1000)

    found = download(
        "made-up",
        ["BTC/USD"],
        timeframe=timeframe,
        since=since,
        folder=folder,
        note=notes.append,
        open_named=opened,
    )
    return [opens(file) for file in found], notes


def opens(file):
    return pq.read_table(file)["timestamp"].cast("int64").to_pylist()


def minutes(number, first=FIRST):
    return [first + n * MINUTE for n in range(number)]


KINDS = {
    "from the time on": (Client, usual),
    "after the time": (Client, after),
    "in a window": (Client, window),
    "the newest 60 of a window": (Client, newest_of_window(60)),
    "the newest 1000 up to an end": (WithAnEnd, newest(1000)),
    "the newest 20 up to an end": (WithAnEnd, newest(20)),
    "newest, whatever the time": (WithAnEnd, newest(1000, cut=False)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_exchange_gives_all_bars(kind, tmp_path):
    make, give = KINDS[kind]
    client = make(minutes(2345), FIRST + 2345 * MINUTE + 500, give)
    [found], notes = get(client, tmp_path)
    # The bar that opens at the time asked for cannot be had of an exchange that begins after it.
    assert found == minutes(2345)[kind == "after the time" :]
    client.now += 1500 * MINUTE
    client.opens = minutes(3845)
    [found], notes = get(client, tmp_path)
    assert found == minutes(3845)[kind == "after the time" :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_market_that_was_listed_later_is_told(kind, tmp_path):
    make, give = KINDS[kind]
    listed = FIRST + 5000 * MINUTE
    client = make(minutes(1500, listed), listed + 1500 * MINUTE, give)
    [found], notes = get(client, tmp_path)
    assert found == minutes(1500, listed)
    assert "made-up has them only from 2024-03-04 11:20 UTC on" in "".join(notes)


@pytest.mark.parametrize("kind", ["from the time on", "after the time", "in a window"])
def test_minutes_without_a_trade_are_no_fault(kind, tmp_path):
    traded = [when for n, when in enumerate(minutes(2000)) if n % 7 < 3 or 900 < n < 1000]
    client = KINDS[kind][0](traded, FIRST + 2000 * MINUTE, KINDS[kind][1])
    [found], notes = get(client, tmp_path)
    assert found == traded[kind == "after the time" :]
    assert "has no bars for" in notes[-1]


def test_history_that_is_short_is_told_and_a_hole_is_refused_with_its_span(tmp_path):
    always = [FIRST + n * MINUTE for n in range(20_000)]
    client = Client(always, FIRST + 5000 * MINUTE, newest(720))
    [first], notes = get(client, tmp_path)
    assert first == always[4281:5000]  # the newest of the 720 is still open
    assert "made-up has them only from 2024-03-03 23:21 UTC on" in notes[-1]
    client.now += 500 * MINUTE
    [grown], notes = get(client, tmp_path)
    assert grown == always[4281:5500]
    client.now += 3000 * MINUTE
    with pytest.raises(InputError, match="bars between 2024-03-04 19:39 and 2024-03-06 09:41 UTC"):
        get(client, tmp_path)
    assert opens(tmp_path / "BTC_USD-1m.parquet") == grown


def test_an_exchange_that_answers_with_its_oldest_bars_alone_ends_in_a_line(tmp_path):
    client = Client(minutes(5000), FIRST + 5000 * MINUTE, oldest_always)
    with pytest.raises(InputError, match="no longer gives"):
        get(client, tmp_path)
    assert opens(tmp_path / "BTC_USD-1m.parquet") == minutes(1000)


MONTHS = [int(t.timestamp() * 1000) for t in pd.date_range("2022-01-01", "2025-01-01", freq="MS")]


@pytest.mark.parametrize("day", ["2024-01-30", "2024-01-31 23:59:59", "2024-02-29 12:00"])
def test_an_open_month_is_never_kept(day, tmp_path):
    [found], notes = get(Client(MONTHS, ms(day), usual), tmp_path, "2023-06-01", "1M")
    this = pd.Timestamp(day).replace(day=1).normalize()
    assert pd.Timestamp(found[-1], unit="ms") == this - pd.DateOffset(months=1)
    [later], notes = get(Client(MONTHS, ms("2024-04-01"), usual), tmp_path, "2023-06-01", "1M")
    assert later == [when for when in MONTHS if ms("2023-06-01") <= when < ms("2024-04-01")]
    assert notes == []


def test_a_month_that_is_missing_is_a_hole(tmp_path):
    there = [when for when in MONTHS if when != ms("2023-09-01")]
    [found], notes = get(Client(there, ms("2024-01-31"), usual), tmp_path, "2023-06-01", "1M")
    assert ms("2023-09-01") not in found and "no bars for 1 gap (1 missing)" in notes[-1]


def test_a_week_is_found_by_its_days_and_has_one_name(tmp_path):
    mondays = [ms("2024-01-01") + n * 7 * 86_400_000 for n in range(20)]
    client = Client(mondays, ms("2024-03-01"), usual)
    [found], notes = get(client, tmp_path, "2024-01-01", "7d")
    assert found == mondays[:8] and notes == []  # that of 26 February is open
    assert [path.name for path in tmp_path.glob("*")] == ["BTC_USD-1w.parquet"]


def test_holes_inside_what_came_when_asked_again_are_told_too(tmp_path):
    """Pages hold every tenth bar, and of a hole the exchange shows all but the fifth of ten."""
    all_ = minutes(300)

    def give(opens, since, limit):
        step = 10 if limit == 1000 else 1
        return [o for n, o in enumerate(opens) if o >= since and n % step == 0 and n % 10 != 5][
            :limit
        ]

    [found], notes = get(Client(all_, FIRST + 300 * MINUTE, give), tmp_path)
    assert found == [when for n, when in enumerate(all_) if n % 10 != 5]
    assert "no bars for 30 gaps (30 missing)" in notes[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_hours_without_a_trade_hide_no_bar_after_them(kind, tmp_path):
    """Some exchanges answer for so many minutes, and then with nothing inside of a long hole."""
    traded = [when for n, when in enumerate(minutes(900)) if not 300 <= n < 600]
    client = KINDS[kind][0](traded, FIRST + 900 * MINUTE, KINDS[kind][1])
    [found], notes = get(client, tmp_path)
    assert found == traded[kind == "after the time" :]
    assert "no bars for 1 gap (300 missing)" in notes[-1]
