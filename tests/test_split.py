import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_windows import intersecting, segment_bounds

from core.errors import InputError
from data.features.indicators import WARM_UP_BARS
from data.market.split import SplitTimes, plan_times, split_windows
from data.market.windows import ends_within, spans

HOUR = 3_600_000_000_000


def times(steps):
    return (np.asarray(steps, np.int64) * HOUR).astype("datetime64[ns]")


def rows_of(*steps):
    """Returns symbol codes and times of symbols with bars at these hours."""
    symbols = np.repeat(np.arange(len(steps)), [len(own) for own in steps]).astype(np.int16)
    return symbols, np.concatenate([times(own) for own in steps])


def split_of(symbols, at, moments, length, horizon, embargo):
    ends = ends_within(segment_bounds(symbols, at, 10**6), length, horizon)
    return split_windows(
        ends,
        symbols,
        at,
        moments,
        sequence_length=length,
        future_window=horizon,
        embargo_bars=embargo,
    )


def planned(symbols, at, length, horizon, **settings):
    ends = ends_within(segment_bounds(symbols, at, 10**6), length, horizon)
    share = {"validation_fraction": 0.2, "test_fraction": 0.2} | settings
    return plan_times(at[ends].min(), at[ends].max(), **share)


def assert_apart(split, symbols, at, length, horizon, embargo):
    """Compares every pair of spans, and counts the bars of the embargo between them."""
    pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
    for early, late in pairs:
        first = spans(getattr(split, late), at, length, horizon)[0].min()
        for end in getattr(split, early):
            assert at[end + horizon] < first, (early, late)
            own = at[symbols == symbols[end]]
            between = ((own > at[end + horizon]) & (own < first)).sum()
            beyond = max((first - max(own[-1], at[end + horizon])).astype(int) // HOUR, 0)
            assert between + beyond >= embargo, (early, late)


def test_one_symbol_by_hand():
    symbols, at = rows_of(np.arange(100))
    moments = SplitTimes(*times([0, 60, 80, 100]))
    split = split_of(symbols, at, moments, length=5, horizon=3, embargo=2)
    # Test windows end at 80 .. 96, the first begins at 76: labels and embargo of validation end
    # before, so at 76 - 1 - 2 - 3 = 70. Its first window begins at 56: training ends at 50.
    assert (split.test[0], split.test[-1]) == (80, 96)
    assert (split.validation[0], split.validation[-1]) == (60, 70)
    assert (split.train[0], split.train[-1]) == (4, 50)
    assert split.dropped == {
        "training windows purged or under embargo": 9,
        "validation windows purged or under embargo": 9,
    }


def test_a_slow_symbol_purges_the_windows_of_a_fast_one():
    fast, slow = np.arange(100), np.arange(0, 100, 5)
    symbols, at = rows_of(fast, slow)
    moments = SplitTimes(*times([0, 50, 80, 100]))
    split = split_of(symbols, at, moments, length=4, horizon=1, embargo=0)
    # The slow symbol's first test window shows hours 65 .. 80, its first of validation 35 .. 50.
    assert max(split.validation[symbols[split.validation] == 0]) == 63
    assert max(split.train[symbols[split.train] == 0]) == 33
    assert_apart(split, symbols, at, 4, 1, 0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.lists(st.sampled_from([1] * 8 + [2, 3, 12]), min_size=60, max_size=120),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 8),
    st.integers(1, 6),
    st.integers(0, 6),
    st.sampled_from([(1, False), (3, False), (3, True)]),
)
@settings(max_examples=50, deadline=None)
def test_spans_of_the_splits_never_meet_over_all_symbols(runs, length, horizon, embargo, folds):
    symbols, at = rows_of(*(start + np.cumsum(steps) for start, steps in runs))
    num_folds, rolling = folds
    plan = planned(symbols, at, length, horizon, num_folds=num_folds, rolling=rolling)
    for moments in plan:
        try:
            split = split_of(symbols, at, moments, length, horizon, embargo)
        except ValueError as error:
            assert "split must hold windows" in str(error)
            assume(False)
        assert_apart(split, symbols, at, length, horizon, embargo)
        for name in ("train", "validation"):
            early = spans(getattr(split, name), at, length, horizon)
            assert not intersecting(early, spans(split.test, at, length, horizon)).any()


def test_planted_overlaps_are_found():
    symbols, at = rows_of(np.arange(200), np.arange(50, 250))
    moments = planned(symbols, at, 5, 3)[0]
    split = split_of(symbols, at, moments, 5, 3, 0)
    later = spans(split.validation, at, 5, 3)
    planted = np.concatenate([split.train, [split.train[-1] + 1, split.validation[0] - 1]])
    met = intersecting(spans(planted, at, 5, 3), later)
    assert met.tolist() == [False] * len(split.train) + [True, True]


def test_no_window_is_purged_without_need():
    symbols, at = rows_of(np.arange(300), np.arange(300))
    split = split_of(symbols, at, planned(symbols, at, 6, 4)[0], 6, 4, 3)
    for early, late in (("train", "validation"), ("validation", "test")):
        first = at[getattr(split, late) - 5].min()
        own = getattr(split, early)
        last = own[symbols[own] == 0].max()
        # One window later, the label with its embargo would reach the later split's first bar.
        assert at[last + 4 + 3] < first <= at[last + 1 + 4 + 3]


def test_the_embargo_goes_on_beyond_a_symbols_last_bar():
    symbols, at = rows_of(np.arange(100), np.arange(52))
    moments = SplitTimes(*times([0, 60, 80, 100]))
    # The first window of validation begins at hour 56; symbol 1's last label ends at hour 51.
    for embargo, last in ((4, 50), (5, 49)):
        split = split_of(symbols, at, moments, length=5, horizon=1, embargo=embargo)
        own = split.train[symbols[split.train] == 1] - 100
        assert own.max() == last


def test_a_single_split_has_its_shares_of_the_range():
    moments = plan_times(*times([0, 1000]), validation_fraction=0.15, test_fraction=0.2)
    assert len(moments) == 1
    assert moments[0] == SplitTimes(*times([0, 650, 800]), np.datetime64(1000 * HOUR + 1, "ns"))


@pytest.mark.parametrize("rolling", [False, True])
def test_walk_forward_tests_follow_each_other_over_the_last_half(rolling):
    folds = plan_times(
        *times([0, 1000]),
        validation_fraction=0.1,
        test_fraction=0.2,
        num_folds=5,
        rolling=rolling,
    )
    starts = [fold.test_start for fold in folds]
    assert starts == list(times([500, 600, 700, 800, 900]))
    assert [fold.test_stop for fold in folds[:-1]] == starts[1:]
    assert folds[-1].test_stop > times(1000)
    assert [fold.validation_start for fold in folds] == list(times([400, 500, 600, 700, 800]))
    begin = [0, 100, 200, 300, 400] if rolling else [0] * 5
    assert [fold.train_start for fold in folds] == list(times(begin))


def test_rolling_windows_end_at_the_training_start_or_later():
    symbols, at = rows_of(np.arange(1000))
    for moments in planned(symbols, at, 5, 3, num_folds=3, rolling=True):
        split = split_of(symbols, at, moments, 5, 3, 2)
        late = at[split.train.min()] - moments.train_start
        assert np.timedelta64(0, "ns") <= late < np.timedelta64(HOUR, "ns")


def test_the_first_windows_of_every_symbol_train():
    symbols, at = rows_of(np.arange(100), np.arange(10, 100))
    split = split_of(symbols, at, planned(symbols, at, 5, 3)[0], 5, 3, 2)
    assert {4, 104} <= set(split.train)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_folds": 0}, "at least 1 fold, got 0"),
        ({"validation_fraction": 0.8}, "below 1 together, got 0.8 and 0.2"),
        ({"test_fraction": 0.0}, "above 0"),
        ({"validation_fraction": 0.5, "num_folds": 4}, "got 0.5 and 0.5 .4 folds."),
    ],
)
def test_shares_that_leave_no_training_time_are_refused(settings, message):
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2} | settings
    with pytest.raises(ValueError, match=message):
        plan_times(*times([0, 10]), **shares)


def test_an_empty_split_is_refused_in_one_line():
    symbols, at = rows_of(np.arange(40))
    moments = planned(symbols, at, 10, 5)[0]
    with pytest.raises(ValueError, match="split must hold windows") as error:
        split_of(symbols, at, moments, 10, 5, 20)
    assert "\n" not in str(error.value)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.search(rf"\(validation from {time}, test from {time}\)", str(error.value))


def test_a_negative_embargo_is_refused():
    symbols, at = rows_of(np.arange(40))
    with pytest.raises(ValueError, match="embargo must be at least 0 bars, got -1"):
        split_of(symbols, at, planned(symbols, at, 2, 1)[0], 2, 1, -1)


@pytest.mark.parametrize("length, horizon, embargo", [(60, 12, 12), (5, 3, 0), (20, 1, 30)])
def test_the_refusal_of_too_few_bars_says_how_many_are_enough(length, horizon, embargo):
    def split(bars):
        symbols, at = rows_of(np.arange(bars - WARM_UP_BARS))
        (moments,) = planned(symbols, at, length, horizon)
        return split_of(symbols, at, moments, length, horizon, embargo)

    too_few = WARM_UP_BARS + 2 * (length + horizon)
    message = str(pytest.raises(InputError, split, too_few).value)
    least = int(re.search(r"use more bars: about ([\d,]+) per symbol", message)[1].replace(",", ""))
    enough = split(least)
    assert all(len(getattr(enough, name)) for name in ("train", "validation", "test"))
    with pytest.raises(InputError):
        split(WARM_UP_BARS + round(0.8 * (least - WARM_UP_BARS)) - 10)
