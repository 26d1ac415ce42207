from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from data.features.extra import (
    TRANSFORMS,
    ExtraColumn,
    columns_of,
    extra_past_bars,
    fill_extra,
    parse_extra,
)
from data.features.indicators import WARM_UP_BARS
from data.features.settings import FeatureSettings

NUM_BARS, GAP, WINDOW = 400, 5, 96
ALL = [ExtraColumn("own", transform) for transform in TRANSFORMS]


def made(values, columns=ALL, *, rows=None, gap=GAP):
    """Returns the features of one own column, (rows, columns)."""
    bars = pd.DataFrame({"own": np.asarray(values, np.float64)})
    past = max(WARM_UP_BARS, extra_past_bars(gap))
    rows = len(bars) - past if rows is None else rows
    out = np.full((rows, len(columns)), np.nan, np.float32)
    fill_extra(bars, columns, out, max_gap_bars=gap)
    return out


def walk(rows=NUM_BARS, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=rows))


def holed(rows=NUM_BARS, seed=0, share=0.4):
    values, random = walk(rows, seed), np.random.default_rng(seed + 1)
    values[random.random(rows) < share] = np.nan
    values[200:230] = np.nan
    return values


def test_a_text_gives_columns_and_transforms():
    columns = parse_extra(" funding_rate, open interest:Change ,a:b:zscore, open interest:level")
    assert [(own.column, own.transform) for own in columns] == [
        ("funding_rate", "level"),
        ("open interest", "change"),
        ("a:b", "zscore"),
        ("open interest", "level"),
    ]
    assert columns[0].feature_name == "funding_rate_level"
    assert columns_of(columns) == ("funding_rate", "open interest", "a:b")
    assert parse_extra(", ".join(map(str, columns))) == columns
    assert parse_extra("") == parse_extra(" , ") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("funding:mean", "one of level, change, zscore, got 'funding:mean'"),
        ("funding:", "one of level, change, zscore"),
        (":level", "before each colon, got ':level'"),
        ("a, a:level", "each feature once, got 'a:level' twice"),
        ("Close:zscore", "beside those of all bars (timestamp, open, high, low, close, volume"),
        ("symbol", "beside those of all bars"),
        ("obv:change", "would be called obv_change, as another feature is"),
    ],
)
def test_a_text_that_asks_for_no_feature_is_refused_in_one_line(text, words):
    with pytest.raises(InputError) as error:
        parse_extra(text)
    assert words in error.value.faults[0] and len(error.value.faults) == 1


def by_hand(values, gap=GAP):
    """Returns the last row of the three, out of the definitions."""
    known = pd.Series(values).ffill(limit=gap).to_numpy() if gap else np.asarray(values)
    window = known[-WINDOW:]
    steps = np.diff(known)[-WINDOW:]
    level, step = known[-1], steps[-1]
    change = step / np.sqrt(np.nanmean(steps**2))
    return [level, change, (level - np.nanmean(window)) / np.nanstd(window)]


@pytest.mark.parametrize("values", [walk(), holed()], ids=["all known", "some missing"])
@pytest.mark.parametrize("stop", [180, 300, 391, NUM_BARS])
def test_each_transform_has_its_value_by_hand(values, stop):
    np.testing.assert_allclose(made(values[:stop])[-1], by_hand(values[:stop]), rtol=1e-6)


def test_the_columns_are_in_the_order_of_what_was_asked():
    values = walk()
    turned = made(values, ALL[::-1])
    np.testing.assert_array_equal(turned[:, ::-1], made(values))


@pytest.mark.parametrize("cut", [WARM_UP_BARS + 1, 215, 300, NUM_BARS - 1])
def test_nothing_changes_where_the_future_is_cut_off(cut):
    values = holed()
    np.testing.assert_array_equal(made(values[:cut]), made(values)[: cut - WARM_UP_BARS])


@pytest.mark.parametrize("gap", [0, 3, GAP, 54, 200])
@pytest.mark.parametrize("seed", range(4))
def test_the_newest_rows_alone_and_a_shorter_past_give_the_same(gap, seed):
    values = holed(seed=seed, share=0.4 if gap < 54 else 0.99)
    whole, past_bars = made(values, gap=gap), max(WARM_UP_BARS, extra_past_bars(gap))
    np.testing.assert_array_equal(made(values, rows=1, gap=gap), whole[-1:])
    for row in (0, 70, len(whole) - 1):
        past = values[row : row + past_bars + 1]
        np.testing.assert_array_equal(made(past, gap=gap), whole[row : row + 1])


@pytest.mark.parametrize("gap", [GAP, 54, 120])
def test_no_value_older_than_the_past_that_is_kept_reaches_a_row(gap):
    values, row = walk(), 300
    oldest, first = row - extra_past_bars(gap) - 1, row - WINDOW + 1
    values[: first + 60] = np.nan
    values[oldest : oldest + 2] = 3.0
    past = values[oldest + 1 : row + 1]
    whole = made(values, gap=gap)
    np.testing.assert_array_equal(made(past, rows=1, gap=gap)[0], whole[row - len(values)])


def test_a_value_counts_for_more_than_54_bars_where_that_is_asked_for():
    values = np.full(NUM_BARS, np.nan)
    values[280] = 7.0
    settings = FeatureSettings(extra=(ExtraColumn("own"),), fill_bars=100)
    assert settings.warm_up_bars == extra_past_bars(100) == 196
    level = made(values, gap=100)[:, 0]
    assert np.flatnonzero(level).tolist() == list(range(280 - 196, 381 - 196))
    assert replace(settings, fill_bars=54).warm_up_bars == WARM_UP_BARS
    assert replace(settings, extra=()).warm_up_bars == WARM_UP_BARS


@pytest.mark.parametrize("num_bars", [WARM_UP_BARS, WARM_UP_BARS + 1])
def test_no_rows_and_one_row_are_made_of_the_shortest_bars(num_bars):
    assert np.isfinite(made(walk(num_bars))).all()


def test_a_value_counts_for_so_many_bars_and_then_is_unknown():
    values = np.full(NUM_BARS, np.nan)
    values[300] = 7.0
    level = made(values, gap=3)[:, 0]
    assert np.flatnonzero(level).tolist() == [150, 151, 152, 153]
    assert set(level[150:154]) == {7.0}


def test_what_is_not_known_is_neutral():
    values = walk()
    values[: WARM_UP_BARS + 100] = np.nan
    features = made(values)
    assert (features[:100] == 0).all()
    assert (features[:123, 2] == 0).all() and (features[124:, 2] != 0).all()
    assert (features[:124, 1] == 0).all() and (features[124:, 1] != 0).all()
    assert (made(np.full(NUM_BARS, np.nan)) == 0).all()


@pytest.mark.parametrize("value", [0.1, 0.0, -3e12, 1e300])
def test_flat_is_no_change_and_no_distance(value):
    values = np.full(NUM_BARS, value)
    values[::2] += value * 2e-16  # of sums in another order
    assert (made(values)[:, 1:] == 0).all()


def test_a_jump_after_a_flat_stretch_is_seen_at_once_and_bounded():
    values = np.ones(NUM_BARS)
    values[300:] = 5.0
    features = made(values)[150]
    assert features[0] == 5 and 9 < features[1] <= 10 and 9 < features[2] <= 10


@pytest.mark.parametrize("factor", [2.0**-900, 1e-8, -1.0, 1e12, 2.0**1015])
def test_change_and_zscore_know_no_unit(factor):
    expected, scaled = made(holed())[:, 1:], made(holed() * factor)[:, 1:]
    assert np.isfinite(made(holed() * factor)).all()
    np.testing.assert_allclose(scaled, expected * np.sign(factor), rtol=1e-5, atol=1e-7)


def test_contracts_by_the_trillion_lose_nothing():
    steps = np.random.default_rng(0).integers(-9, 10, NUM_BARS)
    few, many = np.cumsum(steps), 10**12 + np.cumsum(steps)
    np.testing.assert_array_equal(made(few)[:, 1:], made(many)[:, 1:])


@pytest.mark.parametrize("odd", [np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324])
def test_nothing_that_is_not_finite_comes_out(odd):
    values = walk()
    values[[180, 181, 250, 399]] = [odd, -odd, odd, odd]
    features = made(values)
    assert np.isfinite(features).all() and (np.abs(features[:, 1:]) <= 10).all()


def test_many_rows_are_those_of_their_own_past():
    values = walk(20_000)
    many = made(values)
    for row in (0, 8191, 8192, 16_384, len(many) - 1):
        past = values[row : row + WARM_UP_BARS + 1]
        np.testing.assert_array_equal(many[row], made(past)[0])
