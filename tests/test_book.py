import numpy as np
import pytest
from planted_answers import HOUR, START

from evaluation.across.book import (
    best_against_worst,
    book_weights,
    fifths,
    returns_of_fifths,
    traded_value,
)


def held(members, traded, *, holding_bars=2, cost_bps=10.0):
    times, blocks = START + np.arange(len(traded)) * HOUR, np.arange(len(traded))
    return best_against_worst(
        times, members, traded, blocks, holding_bars=holding_bars, cost_bps=cost_bps
    )


def test_ten_symbols_make_five_pairs():
    said = np.array([[3, 9, 1, 0, 2, 8, 4, 5, 7, 6]], float)
    assert fifths(said, said).tolist() == [[1, 4, 0, 0, 1, 4, 2, 2, 3, 3]]


def test_ties_share_a_fifth_and_equal_answers_hold_nothing():
    said = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 1, 1], [0.5] * 10], float)
    found = fifths(said, said)
    assert found.tolist() == [[2] * 8 + [4] * 2, [2] * 10]
    assert not book_weights(found).any()  # there is no worst fifth


def test_symbols_that_cannot_be_traded_are_in_no_fifth():
    said = np.arange(12.0)[None]
    traded = np.where(np.arange(12) < 2, np.nan, 0.0)[None]
    assert fifths(said, traded).tolist() == [[-1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]
    traded[0, 2] = np.nan  # nine are left
    assert (fifths(said, traded) == -1).all()


def test_turnover_and_costs_of_ten_symbols_by_hand():
    steady = np.repeat(np.arange(5), 2)  # 0 and 1 are the worst, 8 and 9 the best
    swapped = steady[[0, 2, 1, 3, 4, 5, 6, 7, 8, 9]]  # 2 is sold short in place of 1
    members = np.stack([steady, steady, swapped, steady, steady[::-1]])
    weights = book_weights(members)
    assert weights[0].tolist() == [-0.5, -0.5, 0, 0, 0, 0, 0, 0, 0.5, 0.5]
    # Two books: bars 0, 2, 4 and bars 1, 3. Opened for 2, closed for 2 after bars 4 and 3.
    assert traded_value(weights, 2).tolist() == [2, 2, 1, 2, 4 + 2]
    traded = np.zeros((5, 10))
    traded[0, 9] = np.log(1.02)  # half the capital is in it
    traded[1, 0] = np.log(1.01)  # half is short of it
    traded[2, 1] = np.log(0.9)  # no longer held
    found = held(members, traded)
    gross = np.array([0.01, -0.005, 0, 0, 0])
    net = gross - np.array([2, 2, 1, 2, 6]) * 0.001
    assert found.gross.value == pytest.approx(1e4 * gross.mean())
    assert found.net.value == pytest.approx(1e4 * net.mean())
    assert found.turnover == pytest.approx(13 / 5)
    assert found.net_curve == pytest.approx((np.cumsum(net) / 2).round(6))
    assert found.gross_curve == pytest.approx((np.cumsum(gross) / 2).round(6))
    assert found.net_return == pytest.approx(net.sum() / 2)
    assert found.drawdown == pytest.approx(-net[1:].sum() / 2)
    assert found.sharpe is None


def test_a_symbol_that_is_delisted_is_sold_and_the_others_take_its_place():
    said = np.tile(np.arange(11.0), (4, 1))
    traded = np.zeros((4, 11))
    traded[2:, 10] = np.nan
    weights = book_weights(fifths(said, traded))
    assert weights[1, 10] > 0 and weights[3, 10] == 0
    assert weights[3, 8] > 0 and weights[3, 9] > 0
    assert (weights.sum(axis=1) == 0).all() and np.allclose(np.abs(weights).sum(axis=1), 2)


def test_the_fifths_stand_about_the_mean_of_all_and_their_ends_make_the_book():
    rng = np.random.default_rng(0)
    said, traded = rng.normal(size=(2, 50, 20))
    traded = said * 0.001 + 0.01 * traded + 0.05
    members, blocks = fifths(said, traded), np.arange(50)
    parts = [part.value for part in returns_of_fifths(members, traded, blocks)]
    assert sum(parts) == pytest.approx(0, abs=1e-9)
    book = held(members, traded, cost_bps=0.0)
    assert parts[-1] - parts[0] == pytest.approx(book.gross.value)
    assert book.net == book.gross


def test_sharpe_is_of_one_book_over_a_year():
    rng = np.random.default_rng(0)
    members = np.tile(np.repeat(np.arange(5), 2), (8766, 1))  # a year of hours
    traded = np.zeros((8766, 10))
    traded[:, 9] = np.log1p(2 * rng.normal(0.001, 0.01, 8766))
    found = held(members, traded, holding_bars=6, cost_bps=0.0)
    steps = np.expm1(traded[:, 9]) / 2
    assert found.sharpe == pytest.approx(
        steps.mean() / steps.std(ddof=1) * np.sqrt(8766 / 6), rel=1e-3
    )
    assert len(found.net_curve) == 200
    assert found.net_curve[-1] == pytest.approx(found.net_return, abs=1e-6)


def test_nothing_later_changes_what_is_held():
    rng = np.random.default_rng(0)
    said, traded = rng.normal(size=(2, 30, 12))
    whole = book_weights(fifths(said, traded))
    changed = np.where(np.arange(30)[:, None] < 20, said, -said)
    assert (book_weights(fifths(changed, traded))[:20] == whole[:20]).all()
