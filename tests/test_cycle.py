import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batches.quotas import Cycle

weights = st.lists(st.floats(0.05, 1), min_size=1, max_size=12).map(np.array)


@settings(max_examples=50, deadline=None)
@given(weights=weights, begin=st.integers(0, 5000), count=st.integers(0, 60))
def test_every_stretch_has_of_each_cell_what_its_weight_says(weights, begin, count):
    counts = np.bincount(Cycle(weights).cells(begin, count), minlength=len(weights))
    assert np.abs(counts - count * weights / weights.sum()).max() < 2.5


@settings(max_examples=50, deadline=None)
@given(weights=weights)
def test_in_the_long_run_shares_are_within_a_percent(weights):
    counts = Cycle(weights).visits(0, 10**7)
    np.testing.assert_allclose(counts / 10**7, weights / weights.sum(), rtol=0.01)


@settings(max_examples=50, deadline=None)
@given(weights=weights, begin=st.integers(0, 5000), count=st.integers(0, 3000))
def test_visits_are_those_of_the_walk(weights, begin, count):
    cycle = Cycle(weights)
    expected = np.bincount(cycle.cells(begin, count), minlength=len(weights))
    np.testing.assert_array_equal(cycle.visits(begin, count), expected)
    both = cycle.visits(0, begin) + cycle.visits(begin, count)
    np.testing.assert_array_equal(both, cycle.visits(0, begin + count))


@pytest.mark.parametrize("size", [1, 4, 60])
def test_equal_cells_take_turns(size):
    cells = Cycle(np.full(size, 0.1)).cells(7, 3 * size)
    for start in range(2 * size):
        assert len(set(cells[start : start + size].tolist())) == size


def test_light_cells_come_up_and_those_without_weight_never():
    cycle = Cycle(np.array([1e9, 1, 0]))
    visits = cycle.visits(0, 10**6)
    assert visits[1] > 0 and visits[2] == 0
    assert visits[1] < 1e-4 * visits[0]
