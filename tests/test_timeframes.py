import pandas as pd
import pytest

from recipe.live.timeframes import equal_span, name_of, parsed

DAY = 86_400


def ms(text):
    return int(pd.Timestamp(text, tz="UTC").timestamp() * 1000)


@pytest.mark.parametrize(
    ("asked", "known", "found"),
    [
        ("7d", ["1d", "1w"], "1w"),
        ("1w", ["1d", "7d"], "7d"),
        ("60m", ["1m", "1h"], "1h"),
        ("1440m", ["1h", "1d"], "1d"),
        ("24h", ["1d", "1M"], "1d"),
        ("1h", ["60m"], "60m"),
        ("12M", ["1y"], "1y"),
        ("5m", ["300s", "5m"], "5m"),
        ("30d", ["1M"], None),
        ("365d", ["1y"], None),
        ("1m", ["1M"], None),
        ("7m", ["5m"], None),
        ("0d", ["1d"], None),
        ("-7d", ["1w"], None),
        ("", ["1w"], None),
        ("week", ["1w"], None),
    ],
)
def test_equal_spans_are_found_by_any_name(asked, known, found):
    span = equal_span(asked, known)
    assert (span and span.name) == found


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (60, "1m"),
        (300, "5m"),
        (3600, "1h"),
        (14_400, "4h"),
        (DAY, "1d"),
        (3 * DAY, "3d"),
        (7 * DAY, "1w"),
        (14 * DAY, "2w"),
        (30 * DAY, "1M"),
        (31 * DAY, "1M"),
        (30.5 * DAY, "1M"),
        (91 * DAY, "3M"),
        (365 * DAY, "1y"),
        (15, "15s"),
        (0.5, None),
    ],
)
def test_a_length_has_the_name_that_exchanges_use(seconds, name):
    assert name_of(seconds) == name


@pytest.mark.parametrize(
    ("name", "opens", "closes"),
    [
        ("1M", "2024-01-01", "2024-02-01"),
        ("1M", "2024-02-01", "2024-03-01"),
        ("1M", "2023-12-01", "2024-01-01"),
        ("3M", "2023-10-01", "2024-01-01"),
        ("1y", "2023-01-01", "2024-01-01"),
        ("1M", "2024-01-31 16:00", "2024-03-02 16:00"),  # of the Far East: rather late than early
        ("1w", "2024-01-01", "2024-01-08"),
        ("5m", "2024-01-01 00:10", "2024-01-01 00:15"),
    ],
)
def test_a_bar_closes_when_the_next_opens(name, opens, closes):
    assert parsed(name).close(ms(opens)) == ms(closes)


def test_bars_between_two_opens_are_counted_by_the_calendar():
    months, minutes = parsed("1M"), parsed("1m")
    assert months.missing(ms("2023-12-01"), ms("2024-01-01")) == 0
    assert months.missing(ms("2023-10-01"), ms("2024-02-01")) == 3
    assert months.missing(ms("2024-01-31 16:00"), ms("2024-02-29 16:00")) == 0
    assert minutes.missing(ms("2024-01-01"), ms("2024-01-01 00:01")) == 0
    assert minutes.missing(ms("2024-01-01"), ms("2024-01-01 00:05")) == 4
    assert minutes.missing(ms("2024-01-02"), ms("2024-01-01")) == 0


def test_the_newest_close_lies_on_the_grid_of_the_bars():
    weeks, months = parsed("1w"), parsed("1M")
    assert weeks.newest_close(ms("2024-03-01"), ms("2024-01-01")) == ms("2024-02-26")
    assert weeks.newest_close(ms("2024-02-26"), ms("2024-01-01")) == ms("2024-02-26")
    assert months.newest_close(ms("2024-03-31"), ms("2024-01-01")) == ms("2024-03-01")
    assert months.newest_open(ms("2024-03-31")) == ms("2024-02-01")
    assert parsed("3M").newest_open(ms("2024-03-31")) == ms("2023-12-01")
    assert weeks.newest_open(ms("2024-03-31")) == ms("2024-03-24")
