import numpy as np
import pandas as pd
import pytest

from core import i18n
from core.errors import InputError
from data.features.indicators import is_intraday
from data.times.grid import bar_interval_ns, check_one_length, every, grid_ns, no_grid

HOUR = 3_600 * 10**9


def seconds(steps):
    """Returns times that are these seconds apart."""
    return np.datetime64("2024-01-01", "ns") + np.cumsum(steps).astype("timedelta64[s]")


def session(num_bars, freq, zone="America/New_York"):
    """Returns UTC times of bars from 9:30 local time on working days of a year."""
    days = pd.bdate_range("2023-01-02", "2023-12-29", tz=zone)
    opens = (days + pd.Timedelta("9h30min")).tz_convert("UTC").tz_localize(None)
    offsets = np.arange(num_bars) * pd.Timedelta(freq).to_timedelta64()
    return (opens.to_numpy("datetime64[ns]")[:, None] + offsets).ravel()


@pytest.mark.parametrize(
    ("num_bars", "freq"),
    [(390, "1min"), (7, "1h"), (5, "90min"), (4, "2h"), (3, "130min"), (2, "195min"), (2, "4h")],
)
def test_nights_do_not_lengthen_a_bar(num_bars, freq):
    assert bar_interval_ns(session(num_bars, freq)) == pd.Timedelta(freq).value


def test_half_days_with_one_bar_of_two_do_not_either():
    at = np.delete(session(2, "4h"), [101, 301, 401])
    assert np.median(np.diff(at)) == np.timedelta64(20, "h")
    assert bar_interval_ns(at) == 4 * HOUR
    assert is_intraday(pd.DataFrame({"timestamp": at}))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.6, 0.8, 0.99])
def test_minutes_without_a_trade_do_not_lengthen_a_bar(share):
    at = seconds(np.full(20000, 60))[np.random.default_rng(0).random(20000) < share]
    assert bar_interval_ns(at) == grid_ns(at) == 60 * 10**9


@pytest.mark.parametrize(
    "at",
    [
        session(7, "1h"),
        session(2, "4h"),
        session(3, "130min"),
        *(
            seconds(np.full(9000, 60))[np.random.default_rng(0).random(9000) < p]
            for p in (0.2, 0.7)
        ),
        pd.date_range("1990-01-01", periods=90, freq="MS").to_numpy("datetime64[ns]"),
        seconds([3600] * 300 + [900] * 40 + [3600] * 300),  # a repair of a few hours
    ],
)
def test_nights_and_quiet_minutes_are_no_bars_of_another_length(at):
    check_one_length("A", at, grid_ns(at))


@pytest.mark.parametrize("steps", [(900, 1800), (1800, 900), (3600, 900), (900, 86_400)])
@pytest.mark.parametrize("num_after", [150, 450])
def test_bars_that_become_longer_or_shorter_are_refused(steps, num_after):
    at = seconds([steps[0]] * 450 + [steps[1]] * num_after)
    with pytest.raises(InputError, match="symbol A: beside the market its bars must be of one len"):
        check_one_length("A", at, grid_ns(at))


@pytest.mark.parametrize("freq", ["D", "B", "W", "3D", "11min"])
def test_regular_bars_have_their_step(freq):
    at = pd.date_range("2000-01-01", periods=100, freq=freq).to_numpy("datetime64[ns]")
    assert bar_interval_ns(at) == np.diff(at).min().astype(int)


@pytest.mark.parametrize("freq", ["MS", "ME", "QS", "YS"])
def test_months_are_a_grid_though_their_lengths_differ(freq):
    at = pd.date_range("1990-01-01", periods=30, freq=freq).to_numpy("datetime64[ns]")
    assert grid_ns(at) == bar_interval_ns(at) == np.median(np.diff(at)).astype(int)


def test_late_bars_do_not_change_their_length():
    late = np.random.default_rng(0).integers(0, 20, 3000)
    assert bar_interval_ns(seconds(np.full(3000, 900)) + late.astype("timedelta64[s]")) == HOUR // 4


def test_a_clock_that_is_slow_by_a_second_does_not_either():
    assert bar_interval_ns(seconds(np.tile([899, 901, 901], 100))) == HOUR // 4


@pytest.mark.parametrize(
    ("draw", "mean"),
    [("exponential", 20), ("lognormal", 20)]
    + [(draw, mean) for draw in ("exponential", "gamma", "lognormal") for mean in (300, 5000)],
)
def test_bars_of_equal_value_lie_on_no_grid(draw, mean):
    rng = np.random.default_rng(1)
    shapes = {
        "exponential": rng.exponential(1, 5000),
        "gamma": rng.gamma(4, 1 / 4, 5000),
        "lognormal": rng.lognormal(-0.5, 1, 5000),
    }
    at = seconds((shapes[draw] * mean + 1).round())
    assert grid_ns(at) == 0
    assert "they come" in no_grid(at)


def test_of_few_bars_the_median_step_is_taken():
    assert bar_interval_ns(seconds([1, 7, 8, 20, 21])) == 14 * 10**9
    assert bar_interval_ns(seconds([5])) == 1
    assert grid_ns(seconds([1, 7, 8, 20, 21])) == 14 * 10**9
    assert grid_ns(seconds([5])) == 1


def test_a_length_is_told_in_units_of_people():
    told = [every(length) for length in (86400, 172800, 3600, 14400, 60, 900, 20)]
    assert told == [
        "every day",
        "every 2 days",
        "every hour",
        "every 4 hours",
        "every minute",
        "every 15 minutes",
        "every 20 seconds",
    ]
    with i18n.speaking("ru"):
        assert every(3600) != "every hour"
