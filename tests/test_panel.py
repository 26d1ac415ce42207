import numpy as np
import pytest
import scipy.stats
from planted_answers import HOUR, START, grid, rows

from evaluation.across.panel import (
    aged,
    favour,
    make_panel,
    mean_over_bars,
    rank_correlations,
    recent_mean,
    recent_span,
)
from evaluation.figures.scores import Estimate
from evaluation.verdict import interval


def test_rank_correlations_are_those_of_scipy_with_ties_and_holes():
    rng = np.random.default_rng(0)
    said, came = rng.integers(0, 6, (2, 40, 14)).astype(float)
    said[rng.random(said.shape) < 0.1] = np.nan
    came[rng.random(came.shape) < 0.1] = np.nan
    found = rank_correlations(said, came)
    enough = 0
    for own, true, value in zip(said, came, found, strict=True):
        both = np.isfinite(own) & np.isfinite(true)
        if both.sum() < 10:
            assert np.isnan(value)
        else:
            enough += 1
            assert value == pytest.approx(scipy.stats.spearmanr(own[both], true[both])[0])
    assert 20 < enough < 40


def test_whoever_says_the_same_of_all_has_a_correlation_of_zero():
    came = np.arange(24.0).reshape(2, 12)
    assert rank_correlations(np.ones((2, 12)), came).tolist() == [0, 0]
    assert rank_correlations(came, came).tolist() == pytest.approx([1, 1])


def test_a_panel_leaves_out_bars_of_too_few_symbols_and_keeps_what_comes_and_goes():
    times, symbols = grid(4, 12)
    there = ~((times == times[1]) & (symbols < 3))  # 9 symbols at the second bar
    there &= ~((times >= times[2]) & (symbols >= 10))  # the last two are delisted
    times, symbols = times[there], symbols[there]
    shuffled = np.random.default_rng(0).permutation(len(times))
    times, symbols = times[shuffled], symbols[shuffled]
    panel = make_panel(times, symbols, np.ones(len(times), bool), 7200.0)
    assert panel.times.tolist() == np.unique(times)[[0, 2, 3]].tolist()
    assert panel.blocks.tolist() == [0, 1, 1]
    placed = panel.matrix(100.0 * times.astype("datetime64[h]").astype(int) + symbols)
    assert placed.shape == (3, 12)
    assert (placed[0] % 100).tolist() == list(range(12))
    assert np.isnan(placed[1:, 10:]).all() and np.isfinite(placed[1:, :10]).all()
    unknown = make_panel(times, symbols, symbols > 2, 7200.0)
    assert len(unknown.times) == 0


def test_the_past_mean_is_of_the_time_before_of_the_symbol():
    values, symbols = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 5.0, 7.0]), np.array([0] * 5 + [1] * 2)
    hours = np.array([0, 1, 2, 3, 6, 0, 1])  # two bars are missing
    times = START + hours * HOUR
    found = recent_mean(values, symbols, times, 2 * HOUR)
    assert found[[1, 2, 3, 6]].tolist() == [1, 1.5, 3, 5]
    assert np.isnan(found[[0, 4, 5]]).all()  # of the two hours before the fifth nothing is there
    found = recent_mean(values, symbols, times, 8 * HOUR)
    assert np.isnan(found[[0, 1, 5, 6]]).all()  # a quarter is 2 hours
    assert found[[2, 4]].tolist() == [1.5, 3.75]


def test_no_later_bar_changes_a_past_mean_or_an_old_answer():
    rng = np.random.default_rng(0)
    values, symbols = rng.normal(size=60), np.repeat([0, 1], 30)
    early = np.tile(np.arange(30) < 20, 2)
    changed = np.where(np.tile(np.arange(30) <= 20, 2), values, 1e6)
    for later in (
        lambda v, s: recent_mean(v, s, START + np.arange(len(v)) % (len(v) // 2) * HOUR, 5 * HOUR),
        lambda v, s: aged(v, s, 3),
    ):
        whole = later(values, symbols)
        assert np.allclose(later(values[early], symbols[early]), whole[early], equal_nan=True)
        till = np.tile(np.arange(30) <= 20, 2)  # a row's own value is not in its past
        assert np.allclose(later(changed, symbols)[till], whole[till], equal_nan=True)
        own = np.where(np.arange(60) == 20, 1e6, values)
        assert later(own, symbols)[20] == pytest.approx(whole[20])


def test_an_old_answer_is_that_of_the_symbol_so_many_bars_ago():
    found = aged(np.arange(6.0), np.array([0, 0, 0, 0, 1, 1]), 2)
    assert found[[2, 3]].tolist() == [0, 1]
    assert np.isnan(found[[0, 1, 4, 5]]).all()


def days(found):
    return found / np.timedelta64(1, "D")


@pytest.mark.parametrize("bar, known", [(3600, 5), (900, 5), (86_400, 20), (604_800, 140)])
def test_the_past_goes_back_five_days_or_twenty_bars(bar, known):
    assert days(recent_span(*grid(1000, 2, np.timedelta64(bar, "s")))) == known


@pytest.mark.parametrize("num_bars, first", [(30, 20), (100, 6), (130, 23)])
def test_five_days_are_so_many_in_a_short_file_too(num_bars, first):
    """The first and the last day have fewer bars, and they count as much as a whole one."""
    times, symbols = grid(num_bars, 3)
    assert days(recent_span(times + first * HOUR, symbols)) == 5


def test_five_days_of_a_market_that_is_closed_at_weekends_are_a_week():
    times, symbols = grid(2400, 3)
    hours = times.astype("datetime64[h]").astype(int) % 24
    session = (hours >= 14) & (hours < 21)
    assert days(recent_span(times[session], symbols[session])) == 5
    weekday = np.is_busday(times.astype("datetime64[D]"))
    sunday = times.astype("datetime64[D]").astype(int) % 7 == 3
    late = hours >= 22  # currencies open on Sunday evening
    for open_ in (session & weekday, weekday, weekday | late & sunday):
        assert days(recent_span(times[open_], symbols[open_])) == 7
    daily, codes = grid(400, 2, np.timedelta64(1, "D"))
    weekday = np.is_busday(daily.astype("datetime64[D]"))
    assert days(recent_span(daily[weekday], codes[weekday])) == 28


def test_what_is_favoured_is_buy_less_sell():
    assert favour(np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])) == pytest.approx([0.6, -0.3])


def test_a_mean_over_bars_has_the_interval_of_the_jackknife():
    values, blocks = np.array([1.0, 3.0, np.nan, 5.0, 9.0]), np.array([0, 0, 1, 2, 3])
    found = mean_over_bars(values, blocks)
    assert found.value == 4.5
    left_out = np.array([14 / 2, 13 / 3, 9 / 3])  # the second block has no value
    assert found.interval == pytest.approx(interval(4.5, left_out, widest=np.inf))
    assert mean_over_bars(values * np.nan, blocks) == Estimate(None, None)
    assert mean_over_bars(np.ones(3), np.zeros(3, int), widest=1.0).interval == [-1.0, 1.0]
    assert mean_over_bars(np.ones(3), np.zeros(3, int)).interval is None


def test_intervals_of_a_mean_over_bars_hold_the_truth():
    rng, misses = np.random.default_rng(0), 0
    blocks = np.repeat(np.arange(20), 30)
    for _ in range(400):
        shocks = rng.normal(size=20)  # all bars of a block share one
        found = mean_over_bars(0.3 + shocks[blocks] + rng.normal(size=600), blocks)
        misses += not found.interval[0] <= 0.3 <= found.interval[1]
    assert 8 <= misses <= 34  # 20 expected, three standard deviations


def test_rows_of_the_grid_are_sorted_by_symbol():
    assert rows([[1, 2], [3, 4]]).tolist() == [1, 3, 2, 4]
