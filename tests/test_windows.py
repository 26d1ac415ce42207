import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_windows import intersecting, segment_bounds, window_ends

from data.market.windows import (
    ends_within,
    first_window_ends,
    gather,
    spans,
    subsample,
    subsample_by_class,
    symbol_bounds,
)
from data.times.grid import bar_interval_ns

MINUTE = np.timedelta64(60, "s").astype("timedelta64[ns]")


def times(steps, start="2024-01-03T00:00"):
    """Returns times at these multiples of 15 minutes."""
    return np.datetime64(start, "ns") + 15 * MINUTE * np.asarray(steps, np.int64)


def test_windows_of_two_symbols_by_hand():
    symbols = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1], np.int16)
    at = times([0, 1, 2, 3, 4, 0, 1, 2, 3])
    assert window_ends(symbols, at, 2, 1, 0).tolist() == [1, 2, 3, 6, 7]
    assert window_ends(symbols, at, 2, 0, 0).tolist() == [1, 2, 3, 4, 6, 7, 8]
    assert window_ends(symbols, at, 4, 2, 0).tolist() == []


def test_the_first_row_of_a_second_symbol_at_a_later_time_is_a_bound():
    assert symbol_bounds(np.array([0, 0, 1, 1, 1])).tolist() == [0, 2, 5]
    assert symbol_bounds(np.array([3])).tolist() == [0, 1]


def test_a_window_does_not_cross_a_hole_and_may_cross_a_small_gap():
    at = times([0, 1, 2, 3, 6, 7, 8, 9, 10])  # two bars are missing before row 4
    symbols = np.zeros(9, np.int16)
    assert segment_bounds(symbols, at, 2).tolist() == [0, 9]
    assert segment_bounds(symbols, at, 1).tolist() == [0, 4, 9]
    assert window_ends(symbols, at, 3, 1, 1).tolist() == [2, 6, 7]


@given(
    st.lists(
        st.lists(st.sampled_from([1] * 12 + [2, 3, 5, 6]), min_size=1, max_size=30),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 5),
    st.integers(0, 4),
    st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_exactly_those_that_cross_neither_symbol_nor_hole(steps, length, horizon, gap):
    # Fewer than three days of bars around the clock: every missing slot is a missed bar.
    at = np.concatenate([times(np.cumsum(own)) for own in steps])
    symbols = np.repeat(np.arange(len(steps)), [len(own) for own in steps]).astype(np.int16)
    found = window_ends(symbols, at, length, horizon, gap).tolist()
    interval = {i: bar_interval_ns(at[symbols == i]) for i in range(len(steps))}

    def whole(end):
        rows = np.arange(end - length + 1, end + horizon + 1)
        if rows[0] < 0 or rows[-1] >= len(at) or len(set(symbols[rows])) > 1:
            return False
        own = interval[symbols[end]]
        return not len(rows) > 1 or (np.diff(at[rows]).astype(int) // own - 1 <= gap).all()

    if all(own in (1, 15 * 60 * 10**9) for own in interval.values()):
        assert found == [end for end in range(len(at)) if whole(end)]


def test_wrong_lengths_and_gaps_are_refused():
    with pytest.raises(ValueError, match="at least 1 bar"):
        ends_within(np.array([0, 5]), 0, 1)
    with pytest.raises(ValueError, match="at least 0 bars, got -1"):
        segment_bounds(np.zeros(3, np.int16), times([0, 1, 2]), -1)


@given(st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_gathered_windows_are_the_rows_up_to_their_ends(length, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    ends = rng.integers(length - 1, 30, 7)
    expected = np.stack([features[end - length + 1 : end + 1] for end in ends])
    found = gather(features, ends, length)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_gathered_windows_are_a_copy(tmp_path):
    features = np.zeros((9, 2), np.float32)
    gather(features, np.array([5]), 3)[:] = 1
    assert not features.any()
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(9, 2))
    assert not isinstance(gather(mapped, np.array([5]), 3), np.memmap)


def test_no_window_gathers_to_an_empty_array():
    assert gather(np.zeros((9, 2), np.float32), np.zeros(0, np.int64), 3).shape == (0, 3, 2)


def test_a_time_shift_may_go_back_to_the_segments_first_window():
    bounds = np.array([0, 10, 25])
    found = first_window_ends(np.array([4, 9, 14, 20]), bounds, 4)
    assert found.tolist() == [3, 3, 13, 13]
    assert first_window_ends(np.array([9, 10]), bounds, 1).tolist() == [0, 10]


def test_spans_run_from_the_first_bar_to_the_last_bar_of_the_label():
    at = times(np.arange(10))
    first, last = spans(np.array([3, 6]), at, 3, 2)
    assert first.tolist() == at[[1, 4]].tolist()
    assert last.tolist() == at[[5, 8]].tolist()


@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_intersections_agree_with_comparing_every_pair(seed, num_a, num_b):
    rng = np.random.default_rng(seed)

    def draw(count):
        first = rng.integers(0, 60, count)
        return times(first), times(first + rng.integers(0, 8, count))

    a, b = draw(num_a), draw(num_b)
    pairs = list(zip(*b, strict=True))
    expected = [any(f <= g and s <= last for s, g in pairs) for f, last in zip(*a, strict=True)]
    assert intersecting(a, b).tolist() == expected


@pytest.mark.parametrize(("count", "limit"), [(10, 0), (10, 10), (10, 4), (1000, 7)])
def test_evenly_spaced_positions_reach_both_ends(count, limit):
    chosen = subsample(count, limit)
    assert len(chosen) == (min(limit, count) or count)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert np.ptp(np.diff(chosen)) <= 1


# --- a subsample of the classes


def test_a_small_set_is_scored_whole():
    rng = np.random.default_rng(0)
    assert subsample_by_class(np.zeros(5, int), 5, rng).tolist() == [0, 1, 2, 3, 4]


def test_a_large_set_is_bounded_and_its_classes_share_the_limit():
    labels = np.repeat([0, 1, 2], [10, 500, 900])
    scored = subsample_by_class(labels, 101, np.random.default_rng(0))
    assert np.bincount(labels[scored]).tolist() == [10, 45, 46]
    assert np.all(np.diff(scored) > 0)
