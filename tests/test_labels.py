import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bars.synthetic import random_walk
from data.market.labels import (
    BUY,
    CLASS_NAMES,
    HOLD,
    SELL,
    UNLABELLED,
    VOLATILITY_BARS,
    average_uniqueness,
    choose_barrier_multiple,
    choose_multiple,
    forward_return,
    hold_share,
    label_moves,
    label_scores,
    past_scale,
    trade_return,
    triple_barrier_labels,
)

RATIOS = (0.33, 0.40, 0.33)


def frame(close):
    return pd.DataFrame({"close": np.asarray(close, float)})


def path(num_bars, seed=0):
    bars = random_walk(1, num_bars, seed=seed)
    return tuple(bars[name].to_numpy().copy() for name in ("close", "high", "low"))


def barrier_loop(close, high, low, widths, horizon):
    """Returns the labels as the definition says them, bar after bar."""
    labels = []
    for t in range(len(close)):
        label = HOLD if t + horizon < len(close) else UNLABELLED
        for s in range(t + 1, t + horizon + 1) if label == HOLD else ():
            up = high[s] >= close[t] * np.exp(widths[t])
            down = low[s] <= close[t] * np.exp(-widths[t])
            if up or down:
                label = HOLD if up and down else BUY if up else SELL
                break
        labels.append(label)
    return labels


def test_the_class_order_is_sell_hold_buy():
    assert CLASS_NAMES == ("SELL", "HOLD", "BUY")
    assert [CLASS_NAMES[code] for code in (SELL, HOLD, BUY)] == list(CLASS_NAMES)


def test_returns_start_at_the_row_and_the_last_horizon_rows_have_none():
    close, open_ = np.array([1.0, 2, 4, 8, 16]), np.array([1.0, 1, 1, 4, 1])
    np.testing.assert_allclose(forward_return(close, 2)[:3], np.log(4))
    assert np.isnan(forward_return(close, 2)[3:]).all()
    np.testing.assert_allclose(trade_return(open_, close, 2)[:3], np.log([4, 8, 4]))
    assert np.isnan(trade_return(open_, close, 2)[3:]).all()


@pytest.mark.parametrize("horizon", [5, 7, 9])
def test_a_series_not_longer_than_the_horizon_has_no_return(horizon):
    close = np.arange(1.0, 6.0)
    assert np.isnan(forward_return(close, horizon)).all()
    assert np.isnan(trade_return(close, close, horizon)).all()


def test_a_hand_made_path_has_these_fixed_labels():
    # From row 0: +10 %, row 1: -10 %, row 2: -2 %, row 3: +3 %; two bars ahead each.
    scores = label_moves(frame([100, 100, 110, 90, 107.8, 92.7]), "fixed", 2)
    np.testing.assert_allclose(scores[:4], [0.1, -0.1, -0.02, 0.03], atol=1e-6)
    assert label_scores(scores, 0.025).tolist() == [BUY, SELL, HOLD, BUY, -1, -1]


def test_a_move_of_exactly_the_threshold_is_hold():
    scores = np.float32([0.5, -0.5, np.nan])
    assert label_scores(scores, 0.5).tolist() == [HOLD, HOLD, UNLABELLED]


@pytest.mark.parametrize("method", ["volatility", "fixed", "triple_barrier"])
@pytest.mark.parametrize("horizon", [1, 12])
def test_the_last_horizon_bars_are_unlabelled_and_no_other(method, horizon):
    scores = label_moves(random_walk(1, 300), method, horizon)
    assert np.isnan(scores[-horizon:]).all()
    assert not np.isnan(scores[:-horizon]).any()


@pytest.mark.parametrize("method", ["volatility", "fixed", "triple_barrier"])
def test_scores_see_no_bar_beyond_their_horizon(method):
    bars = random_walk(1, 300)
    whole, past = label_moves(bars, method, 12), label_moves(bars.iloc[:200], method, 12)
    np.testing.assert_array_equal(past[:188], whole[:188])


def test_volatility_scores_are_moves_over_past_volatility_times_root_of_horizon():
    bars = random_walk(1, 300)
    close, t = bars["close"].to_numpy(), 150
    steps = np.diff(np.log(close[t - VOLATILITY_BARS : t + 1]))
    expected = np.log(close[t + 12] / close[t]) / (np.sqrt((steps**2).mean()) * np.sqrt(12))
    assert label_moves(bars, "volatility", 12)[t] == pytest.approx(expected, rel=1e-5)


def test_a_move_after_a_flat_past_counts_and_no_move_is_hold():
    scores = label_moves(frame([1, 1, 1, 1, 2, 2]), "volatility", 1)
    assert label_scores(scores, 1e6).tolist() == [HOLD, HOLD, HOLD, BUY, HOLD, UNLABELLED]


@pytest.mark.parametrize(("method", "horizon"), [("nothing", 3), ("fixed", 0)])
def test_unknown_methods_and_empty_horizons_are_refused(method, horizon):
    with pytest.raises(ValueError, match="the label (method|horizon) must"):
        label_moves(frame([1, 2, 3]), method, horizon)


@given(st.integers(0, 1000), st.floats(0.05, 3), st.floats(0.05, 3))
@settings(max_examples=25, deadline=None)
def test_the_multiple_gives_hold_its_normalised_share(seed, hold, other):
    scores = np.random.default_rng(seed).standard_t(3, 2000).astype(np.float32)
    ratios = (other, hold, other)
    labels = label_scores(scores, choose_multiple(scores, ratios))
    assert abs((labels == HOLD).mean() - hold_share(ratios)) <= 1 / len(scores)


def test_the_share_of_hold_is_normalised():
    assert hold_share(RATIOS) == pytest.approx(0.40 / 1.06)
    assert hold_share((66, 80, 66)) == pytest.approx(hold_share(RATIOS))


def test_unlabelled_scores_do_not_move_the_multiple():
    scores = np.float32([np.nan, 1, -2, 3, np.nan])
    assert choose_multiple(scores, (1, 1, 1)) == 1.0


@pytest.mark.parametrize("ratios", [(1, 1), (1, 0, 1), (1, -1, 1)])
def test_ratios_that_are_not_three_positive_numbers_are_refused(ratios):
    with pytest.raises(ValueError, match="three positive numbers"):
        hold_share(ratios)


def test_no_labelled_row_gives_a_clear_error():
    with pytest.raises(ValueError, match="at least one labelled training row"):
        choose_multiple(np.float32([np.nan]), RATIOS)


def test_triple_barriers_on_a_hand_made_path():
    close = np.array([100.0, 100, 100, 100, 100, 100, 100])
    high = np.array([100.0, 101, 105, 101, 106, 100, 100])
    low = np.array([100.0, 99, 99, 94, 94, 100, 100])
    labels = triple_barrier_labels(close, high, low, np.full(7, np.log(1.05)), 3)
    # Row 0 touches above at bar 2; row 1 too; row 2 below at bar 3; row 3 meets both barriers in
    # bar 4, which does not tell which came first; the last three have no complete horizon.
    assert labels.tolist() == [BUY, BUY, SELL, HOLD, -1, -1, -1]


def test_a_price_exactly_on_a_barrier_touches_it():
    close, high, low = np.array([1.0, 1, 1]), np.array([1.0, 2, 1]), np.array([1.0, 1, 0.5])
    labels = triple_barrier_labels(close, high, low, np.full(3, np.log(2)), 1)
    assert labels.tolist() == [BUY, SELL, UNLABELLED]


@given(st.integers(0, 1000), st.integers(1, 15), st.floats(0.0, 0.03))
@settings(max_examples=40, deadline=None)
def test_triple_barriers_agree_with_a_plain_loop(seed, horizon, width):
    # Prices on a coarse grid, so that exact touches and bars over both barriers are common.
    rng = np.random.default_rng(seed)
    close = np.exp(0.01 * np.cumsum(rng.integers(-1, 2, 60)))
    high, low = (close * np.exp(0.01 * s * rng.integers(0, 3, 60)) for s in (1, -1))
    widths = np.where(rng.random(60) < 0.5, width, 0.01 * rng.integers(0, 4, 60))
    labels = triple_barrier_labels(close, high, low, widths, horizon)
    assert labels.tolist() == barrier_loop(close, high, low, widths, horizon)


def test_chosen_rows_have_the_labels_of_all_rows():
    close, high, low = path(120)
    rows = np.array([3, 50, 51, 110, 119])
    whole = triple_barrier_labels(close, high, low, np.full(120, 0.004), 10)
    part = triple_barrier_labels(close, high, low, np.full(120, 0.004), 10, rows)
    assert part.tolist() == whole[rows].tolist()


def test_the_barrier_multiple_gives_hold_its_share_and_looks_at_its_rows_only():
    close, high, low = path(1500)
    scale, rows = past_scale(close, 12), np.arange(100, 1000)
    multiple = choose_barrier_multiple(close, high, low, scale, 12, rows, RATIOS)
    labels = triple_barrier_labels(close, high, low, multiple * scale, 12)[rows]
    assert (labels == HOLD).mean() == pytest.approx(hold_share(RATIOS), abs=0.01)
    for prices in (close, high, low):
        prices[1012:] *= 3.0
    scale = past_scale(close, 12)
    assert choose_barrier_multiple(close, high, low, scale, 12, rows, RATIOS) == multiple


def test_barriers_without_volatility_are_refused():
    flat = np.ones(50)
    with pytest.raises(ValueError, match="some past volatility"):
        choose_barrier_multiple(flat, flat, flat, np.zeros(50), 3, np.arange(40), RATIOS)


@given(
    st.sets(st.integers(0, 60), max_size=40),
    st.sets(st.integers(80, 140), max_size=40),
    st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_uniqueness_agrees_with_a_plain_loop(first_symbol, second_symbol, horizon):
    ends = np.array(sorted(first_symbol | second_symbol), np.int64)
    alive = np.zeros(200)
    for end in ends:
        alive[end + 1 : end + 1 + horizon] += 1
    expected = [np.mean(1 / alive[end + 1 : end + 1 + horizon]) for end in ends]
    np.testing.assert_allclose(average_uniqueness(ends, horizon), expected, rtol=1e-6)


def test_neighbouring_windows_share_their_labels_and_distant_ones_do_not():
    np.testing.assert_allclose(average_uniqueness(np.arange(100), 10)[20:70], 0.1, rtol=1e-6)
    np.testing.assert_allclose(average_uniqueness(np.array([0, 10, 50]), 10), 1.0)


def test_uniqueness_does_not_depend_on_the_order_of_the_windows():
    ends = np.array([5, 40, 6, 41, 7])
    order = np.argsort(ends)
    expected = average_uniqueness(ends[order], 4)
    np.testing.assert_array_equal(average_uniqueness(ends, 4)[order], expected)
