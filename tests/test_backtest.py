import json

import numpy as np
import pytest

from data.market.labels import BUY, HOLD, SELL
from evaluation.backtest import simulate_trades
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.scores import Trades

START = np.datetime64("2024-01-01", "ns")


def times(num_bars, seconds=900):
    return START + np.arange(num_bars) * np.timedelta64(seconds, "s")


def simulate(named, returns, **changes):
    """Simulates one symbol on 15-minute bars, without costs unless they are given."""
    settings = {
        "timestamps": times(len(named)),
        "symbols": np.zeros(len(named), int),
        "holding_bars": 2,
        "cost_bps": 0.0,
    }
    return simulate_trades(
        calls=np.array(named), trade_return=np.array(returns), **settings | changes
    )


def test_trades_worked_by_hand():
    # Long at row 0 until row 2, short at row 2 until row 4, out at row 4, long at row 5.
    named = [BUY, SELL, SELL, BUY, HOLD, BUY]
    returns = np.log([1.02, 2.0, 1.05, 2.0, 2.0, 0.97])
    found = simulate(named, returns, cost_bps=10.0)
    model = found.model
    gross = [0.02, -0.05, -0.03]
    assert model.trades == 3
    assert model.gross_return == pytest.approx(sum(gross))
    assert model.net_return == pytest.approx(sum(gross) - 3 * 2 * 0.001)
    assert model.drawdown == pytest.approx(0.05 + 0.03 + 2 * 2 * 0.001)
    assert model.hit_rate == pytest.approx(1 / 3)
    assert model.gross_bps_per_trade == pytest.approx(sum(gross) / 3 * 1e4)
    assert model.turnover == pytest.approx(6 / found.years)
    assert found.years == pytest.approx(6 * 900 / (365.25 * 86400))


def test_costs_are_paid_on_both_sides_of_each_trade():
    named, returns = [BUY] * 10, np.zeros(10)
    free, dear = (simulate(named, returns, cost_bps=c).model for c in (0.0, 7.0))
    assert free.net_return == 0
    assert dear.net_return == pytest.approx(-5 * 2 * 7e-4)
    assert dear.gross_return == 0


def test_selling_mirrors_buying_and_holding_earns_nothing():
    returns = np.random.default_rng(0).normal(0, 0.01, 40)
    bought, sold, held = (simulate([side] * 40, returns).model for side in (BUY, SELL, HOLD))
    assert sold.net_return == pytest.approx(-bought.net_return)
    assert (held.trades, held.net_return, held.sharpe) == (0, 0, None)
    assert (held.hit_rate, held.gross_bps_per_trade) == (None, None)


@pytest.mark.parametrize("holding_bars", [1, 3, 12])
def test_positions_of_a_symbol_never_overlap(holding_bars):
    found = simulate([BUY] * 40, np.zeros(40), holding_bars=holding_bars)
    assert found.model.trades == -(-40 // holding_bars)


def test_symbols_trade_side_by_side_with_equal_stakes():
    one = simulate([BUY] * 6, np.full(6, 0.01))
    both = simulate(
        [BUY] * 6 + [HOLD] * 6,
        np.full(12, 0.01),
        timestamps=np.tile(times(6), 2),
        symbols=np.repeat([4, 1], 6),
    )
    assert both.symbols == 2
    assert both.model.trades == one.model.trades == 3
    assert both.model.net_return == pytest.approx(one.model.net_return / 2)


def test_a_row_without_return_opens_no_trade():
    found = simulate([BUY, BUY, HOLD, HOLD], [np.nan, 0.01, np.nan, np.nan])
    assert found.model.trades == 1
    assert found.model.net_return == pytest.approx(np.expm1(0.01))


def test_buy_and_hold_is_the_change_of_the_close():
    close = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 43)))
    forward = np.log(close[2:] / close[:-2])[:40]  # row t: close of t to close of t + 2
    found = simulate([HOLD] * 40, np.zeros(40), forward_return=forward, cost_bps=10.0)
    held = found.buy_and_hold
    growth = close[40] / close[0]
    assert held.gross_return == pytest.approx(growth - 1)
    assert held.net_return == pytest.approx(growth - 1 - 0.001 - 0.001 * growth)
    assert held.trades == 1


def test_buy_and_hold_is_over_the_whole_time_with_its_holes():
    close = np.exp(np.cumsum(np.random.default_rng(1).normal(0.02, 0.05, 90)))
    rows = np.r_[0:30, 60:85]  # a hole in which the price doubles and more
    forward = np.log(close[rows + 5] / close[rows])
    found = simulate(
        [HOLD] * 55,
        np.zeros(55),
        timestamps=times(90)[rows],
        holding_bars=5,
        forward_return=forward,
        close=close[rows],
        cost_bps=10.0,
    ).buy_and_hold
    growth = close[89] / close[0]
    assert close[60] / close[30] > 1.5
    assert found.gross_return == pytest.approx(growth - 1)
    assert found.net_return == pytest.approx(growth - 1 - 0.001 * (1 + growth))


def test_the_end_of_buy_and_hold_is_that_of_the_last_label():
    close = np.linspace(1.0, 2.0, 43)
    forward = np.log(close[3:] / close[:-3])  # 40 rows, no multiple of 3
    held = simulate(
        [HOLD] * 40, np.zeros(40), holding_bars=3, forward_return=forward, close=close[:40]
    ).buy_and_hold
    assert held.gross_return == pytest.approx(1.0)
    assert held.equity[-1] == pytest.approx(1.0)


def test_sharpe_is_that_of_the_booked_days():
    rng = np.random.default_rng(1)
    days, bars = 30, 4
    returns = rng.normal(0.001, 0.01, days * bars)
    found = simulate(
        [BUY] * days * bars, returns, timestamps=times(days * bars, 21600), holding_bars=1
    )
    # A trade of one bar ends with the next row; the last one ends in the last row.
    ends = np.minimum(np.arange(days * bars) + 1, days * bars - 1)
    booked = np.bincount(ends // bars, weights=np.expm1(returns))
    expected = booked.mean() / booked.std(ddof=1) * np.sqrt(365.25)
    assert found.period_days == 1
    assert found.model.sharpe == pytest.approx(expected)


def test_daily_bars_are_booked_by_week():
    found = simulate([BUY] * 60, np.full(60, 0.001), timestamps=times(60, 86400))
    assert found.period_days == 7


def test_too_few_periods_give_no_sharpe():
    assert simulate([BUY] * 40, np.linspace(-0.01, 0.02, 40)).model.sharpe is None


def test_baselines_trade_by_the_same_rules_and_all_survives_json():
    rng = np.random.default_rng(2)
    calls, returns = rng.integers(0, 3, 500), rng.normal(0, 0.01, 500)
    found = simulate(calls, returns, baselines={"same": calls}, cost_bps=5.0)
    assert found.baselines["same"] == found.model
    assert from_plain(Trades, json.loads(json.dumps(to_plain(found), allow_nan=False))) == found


def test_later_rows_change_no_earlier_trade():
    rng = np.random.default_rng(3)
    calls, returns = rng.integers(0, 3, 200), rng.normal(0, 0.01, 200)
    whole = simulate(calls, np.where(np.arange(200) < 100, returns, 0.0))
    cut = simulate(calls[:100], returns[:100])
    assert cut.model.gross_return == pytest.approx(whole.model.gross_return)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"holding_bars": 0}, "holding_bars >= 1"),
        ({"cost_bps": -1.0}, "cost_bps >= 0"),
        ({"timestamps": times(3)}, "arrays of the same rows"),
        ({"timestamps": times(4)[::-1]}, "sorted by symbol, then time"),
        ({"symbols": np.array([0, 1, 0, 1])}, "sorted by symbol, then time"),
        ({"timestamps": times(4)[[0, 1, 1, 2]]}, "without repeated times"),
    ],
)
def test_rows_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate([BUY] * 4, np.zeros(4), **changes)


def test_equity_and_costs_are_those_of_the_trades_themselves():
    rng = np.random.default_rng(4)
    calls, returns = rng.integers(0, 3, 600), rng.normal(0, 0.01, 600)
    found = simulate(calls, returns, cost_bps=5.0)
    for part in (found.model, found.buy_and_hold):
        assert part.equity[-1] == pytest.approx(part.net_return, abs=1e-6)
        for cost in (0, 5, 20):
            same = simulate(calls, returns, cost_bps=float(cost))
            expected = same.model if part is found.model else same.buy_and_hold
            place = found.costs.index(cost)
            assert part.by_cost.net_return[place] == expected.net_return
            assert part.by_cost.sharpe[place] == expected.sharpe
    assert found.periods == [f"2024-01-0{day}" for day in range(1, 8)]  # 96 bars a day
    assert len(found.model.equity) == 7
