import numpy as np
import pandas as pd
import pytest

from data.bars.peers import learn_peers
from data.bars.sessions import missed_bars
from data.times.grid import bar_interval_ns

MINUTE = np.timedelta64(60, "s").astype("timedelta64[ns]")


def times(steps, start="2024-01-03T00:00"):
    """Returns times at these multiples of 15 minutes."""
    return np.datetime64(start, "ns") + 15 * MINUTE * np.asarray(steps, np.int64)


def exchange(weeks, freq="15min", zone="America/New_York"):
    """Returns UTC times of bars from 9:30 to 16:00 local time on working days."""
    days = pd.date_range("2024-01-01", periods=7 * weeks, freq="D", tz=zone)
    open_days = days[days.day_of_week < 5]
    bars = [
        pd.date_range(d + pd.Timedelta("9h30min"), d + pd.Timedelta("15h45min"), freq=freq)
        for d in open_days
    ]
    return (
        pd.DatetimeIndex(bars[0].append(bars[1:]))
        .tz_convert("UTC")
        .tz_localize(None)
        .to_numpy("datetime64[ns]")
    )


@pytest.mark.parametrize("weeks", [1, 2, 8])
def test_nights_and_weekends_of_an_exchange_are_regular(weeks):
    assert missed_bars(exchange(weeks)).max() == 0


def test_the_change_to_summer_time_is_no_hole():
    at = exchange(20)  # summer time begins in week 10
    assert missed_bars(at).max() <= 4
    assert (missed_bars(at) > 0).sum() <= 5


def test_missing_bars_within_a_trading_day_are_counted():
    at = exchange(8)
    day = np.flatnonzero(at.astype("datetime64[D]") == np.datetime64("2024-02-06"))
    gone = np.delete(at, day[5:12])
    missed = missed_bars(gone)
    assert missed[day[5] - 1] == 7
    assert np.delete(missed, day[5] - 1).max() == 0


def without(at, *days):
    """Returns the times less those of some days."""
    return at[~np.isin(at.astype("datetime64[D]"), np.array(days, "datetime64[D]"))]


def peers_of(at, *others):
    """Returns when others than the first trade, as learnt from the times of several symbols."""
    names = [f"S{number}" for number in range(len(others) + 1)]
    frames = [
        pd.DataFrame({"timestamp": pd.to_datetime(own, utc=True), "symbol": name})
        for name, own in zip(names, (at, *others), strict=True)
    ]
    bars = pd.concat(frames, ignore_index=True)
    return learn_peers(bars.astype({"symbol": "category"})).get("S0")


def test_a_closed_day_misses_no_bar():
    at = without(exchange(30), "2024-02-06", "2024-05-09", "2024-05-10")
    assert missed_bars(at).max() == 0
    assert missed_bars(at, peers_of(at, at)).max() == 0


def test_a_day_on_which_others_trade_counts_its_bars():
    at = exchange(30)
    lost = without(at, "2024-02-06", "2024-05-09", "2024-05-10")
    missed = missed_bars(lost, peers_of(lost, at))
    # Less the hour that summer time moves: neither its old nor its new place is usual.
    assert missed[missed > 0].tolist() == [22, 44]


def test_a_day_on_which_one_of_many_has_a_stray_bar_is_closed():
    at = without(exchange(30), "2024-02-06")
    stray = np.sort(np.append(at, np.datetime64("2024-02-06T15:30", "ns")))
    assert missed_bars(at, peers_of(at, stray, *[at] * 40)).max() == 0
    assert missed_bars(at, peers_of(at, stray, at)).max() == 1


def test_an_early_close_is_no_hole_unless_others_trade_on():
    at = exchange(30)
    day = np.flatnonzero(at.astype("datetime64[D]") == np.datetime64("2024-02-06"))
    short = np.delete(at, day[14:])  # at 13:00 instead of 16:00
    assert missed_bars(short).max() == 0
    assert missed_bars(short, peers_of(short, short)).max() == 0
    assert missed_bars(short, peers_of(short, at)).max() == 12 - 4  # see above
    late = np.delete(at, day[:14])
    assert missed_bars(late).max() == 0
    assert missed_bars(late, peers_of(late, at)).max() == 14


def test_a_hole_from_amid_one_session_to_amid_another_counts_one_side():
    at = exchange(30)
    first, last = (
        np.flatnonzero(at.astype("datetime64[D]") == np.datetime64(day))
        for day in ("2024-02-06", "2024-02-08")
    )
    gone = np.delete(at, np.arange(first[14], last[8]))
    assert missed_bars(gone).max() == 8  # the other side may be an early close, the day closed
    assert missed_bars(gone, peers_of(gone, gone)).max() == 8
    assert missed_bars(gone, peers_of(gone, at)).max() == 8 + 22 + 8


def test_working_days_and_holidays_are_regular():
    days = pd.bdate_range("2024-01-01", periods=300).to_numpy("datetime64[ns]")
    assert missed_bars(days).max() == 0
    golden_week = np.delete(days, [100, *range(200, 208)])
    assert missed_bars(golden_week).max() == 0
    missed = missed_bars(golden_week, peers_of(golden_week, days))
    assert missed[missed > 0].tolist() == [1, 8]
    assert missed_bars(np.delete(days, range(200, 213))).max() == 13  # longer than any holidays


def test_an_exchange_that_opens_when_this_one_is_closed_is_no_peer():
    us = without(exchange(40), "2024-02-19", "2024-05-27", "2024-07-04")
    closed = [f"2024-02-{day}" for day in (12, 13, 14, 15, 16)] + ["2024-05-01", "2024-06-10"]
    china = without(exchange(40, zone="Asia/Shanghai"), *closed)
    around_the_clock = times(np.arange(96 * 7 * 40), "2024-01-01")
    for others in ([china], [around_the_clock], [china, around_the_clock, us]):
        assert missed_bars(us, peers_of(us, *others)).max() == 0
        assert missed_bars(china, peers_of(china, us, us)).max() == 0


def test_daily_bars_of_two_exchanges_have_the_holidays_of_each():
    days = pd.bdate_range("2023-01-02", "2024-12-31").to_numpy("datetime64[ns]")
    golden = pd.bdate_range("2023-10-02", "2023-10-09").append(
        pd.bdate_range("2024-02-09", periods=8)
    )
    china = without(days, *pd.DatetimeIndex(golden).strftime("%Y-%m-%d"))
    us = without(days, "2023-07-04", "2023-11-23", "2024-01-15", "2024-07-04", "2024-11-28")
    assert missed_bars(china, peers_of(china, us, us, china)).max() == 0
    assert missed_bars(us, peers_of(us, china, china)).max() == 0
    lost = np.delete(china, slice(100, 107))
    assert missed_bars(lost, peers_of(lost, us, china)).max() == 7


def test_what_all_symbols_lack_within_a_session_is_a_hole():
    at = exchange(30)
    day = np.flatnonzero(at.astype("datetime64[D]") == np.datetime64("2024-02-06"))
    gone = np.delete(at, day[5:12])
    assert missed_bars(gone, peers_of(gone, gone)).max() == 7


@pytest.mark.parametrize(("freq", "last"), [("15min", "16h45min"), ("1h", "16h")])
def test_a_market_that_closes_an_hour_a_day_has_sessions(freq, last):
    """Futures in Chicago: from 17:00 to 16:00, Sunday to Friday, and closed on Christmas."""
    days = pd.date_range("2024-01-07", periods=7 * 52, freq="D", tz="America/Chicago")
    opens = [
        d for d in days if d.day_of_week in (6, 0, 1, 2, 3) and d.date().isoformat() != CHRISTMAS
    ]
    nights = [
        pd.date_range(d + pd.Timedelta("17h"), d + pd.Timedelta("39h59min"), freq=freq)
        for d in opens
    ]
    at = pd.DatetimeIndex(nights[0].append(nights[1:])).tz_convert("UTC").tz_localize(None)
    at = at.to_numpy("datetime64[ns]")
    assert missed_bars(at).max() <= pd.Timedelta("1h") / pd.Timedelta(freq)
    gone = np.delete(at, slice(3000, 3030))
    assert missed_bars(gone).max() > 10


CHRISTMAS = "2024-12-24"  # the day of the evening on which it does not open


def test_currencies_that_trade_five_days_without_a_break_have_holidays():
    hours = pd.date_range("2023-01-02", "2024-12-30", freq="h")
    usual = (hours.day_of_week < 4) | (hours.day_of_week == 4) & (hours.hour < 22)
    usual |= (hours.day_of_week == 6) & (hours.hour >= 22)
    closed = (hours >= "2023-12-25T00:00") & (hours < "2023-12-25T23:00")
    at = hours[usual & ~closed].to_numpy("datetime64[ns]")
    assert missed_bars(at).max() <= 2
    outage = (at > np.datetime64("2024-03-12T10:00")) & (at < np.datetime64("2024-03-13T10:00"))
    assert missed_bars(at[~outage]).max() > 10


def test_days_without_a_weekend_of_ours_have_holidays():
    days = pd.date_range("2022-01-02", "2023-12-28", freq="D")
    riyadh = days[~np.isin(days.day_of_week, (4, 5))]  # Sunday to Thursday
    eid = (riyadh >= "2023-04-18") & (riyadh <= "2023-04-25")
    assert missed_bars(riyadh[~eid].to_numpy("datetime64[ns]")).max() == 0


@pytest.mark.parametrize("freq", ["65min", "130min", "90min", "2h", "4h"])
def test_bars_of_any_length_within_sessions_are_regular(freq):
    at = exchange(52, freq=freq)
    at = without(at, "2024-02-19", "2024-05-27", "2024-07-04")
    assert missed_bars(at).max() <= 1
    gone = (at > np.datetime64("2024-03-20")) & (at < np.datetime64("2024-04-20"))
    assert missed_bars(at[~gone]).max() > 20


def test_minutes_without_a_trade_are_no_holes_and_an_outage_is_one():
    rng = np.random.default_rng(0)
    minutes = np.arange("2024-01-01", "2024-01-29", dtype="datetime64[m]").astype("datetime64[ns]")
    at = minutes[rng.random(len(minutes)) < 0.45]
    assert bar_interval_ns(at) == 60 * 10**9
    steps = np.diff(at) / MINUTE
    missed = missed_bars(at)
    assert (missed[steps <= 8] <= 3).all()  # 7 minutes have 3 trades
    gone = (at > np.datetime64("2024-01-20T10:00")) & (at < np.datetime64("2024-01-20T12:00"))
    assert missed_bars(at[~gone]).max() == pytest.approx(0.45 * 120, rel=0.15)


def test_thin_minutes_of_an_exchange_have_nights():
    rng = np.random.default_rng(0)
    at = exchange(10, freq="min")
    at = without(at[rng.random(len(at)) < 0.4], "2024-02-19")
    missed = missed_bars(at)
    nights = np.diff(at) > np.timedelta64(10, "h")
    assert missed[nights].max() <= 3  # to the first trade after 9:30
    assert (missed > 5).mean() < 0.002


def test_around_the_clock_every_missing_bar_counts():
    at = times(np.delete(np.arange(96 * 30), np.arange(1000, 1096)))
    missed = missed_bars(at)
    assert missed[999] == 96
    assert missed.sum() == 96


def test_a_long_outage_is_a_hole_and_no_habit():
    hours = np.arange(24 * 7 * 30)
    at = np.datetime64("2024-01-01", "ns") + 60 * MINUTE * np.delete(hours, slice(1500, 3900))
    assert missed_bars(at).max() == 2400
    stock = exchange(30)
    gone = (stock > np.datetime64("2024-03-20")) & (stock < np.datetime64("2024-06-20"))
    missed = missed_bars(stock[~gone])
    assert missed.max() > 1000
    assert (missed > 4).sum() == 1


def test_bars_without_any_calendar_count_every_slot():
    starts = np.cumsum(np.random.default_rng(0).integers(20, 60, 70))
    steps = (starts[:, None] + np.arange(5)).ravel()
    assert missed_bars(times(steps)).tolist() == (np.diff(steps) - 1).tolist()


def test_an_interval_that_does_not_divide_a_week_counts_plain_steps():
    at = np.datetime64("2024-01-01", "ns") + 11 * MINUTE * np.array([0, 1, 2, 3, 6, 7])
    assert missed_bars(at).tolist() == [0, 0, 0, 2, 0]
    fortnights = np.datetime64("2024-01-01") + np.timedelta64(14, "D") * np.array([0, 1, 2, 5])
    assert missed_bars(fortnights.astype("datetime64[ns]")).tolist() == [0, 0, 2]


def test_small_delays_are_no_gaps():
    rng = np.random.default_rng(0)
    delays = (rng.integers(0, 20, 96 * 25) * 10**9).astype("timedelta64[ns]")
    assert missed_bars(times(np.arange(96 * 25)) + delays).max() == 0


def test_a_single_bar_has_no_gap():
    assert missed_bars(times([0])).tolist() == []
    assert bar_interval_ns(times([0])) == 1
