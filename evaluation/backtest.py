"""A simple, honest trade simulation from calls; never used for choosing a model.

One position per symbol at a time. At a bar's close the call decides: BUY goes long, SELL goes
short, HOLD stays out. The position is entered at the next bar's open and left at the close
FUTURE_WINDOW bars after the decision; only then the next decision is looked at. Every symbol gets
the same fixed stake, 1 / symbols of the capital, and gains are not reinvested. Costs are paid on
entry and on exit; borrowing, funding and market impact are left out. A trade's result is booked
when it ends, so drawdowns inside a trade are not seen.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from data.market.labels import BUY, SELL
from evaluation.figures.scores import ByCost, Traded, Trades

_DAY_SECONDS = 86_400
_YEAR_SECONDS = 365.25 * _DAY_SECONDS
_FEWEST_PERIODS = 5  # for a Sharpe ratio
COSTS = tuple(float(cost) for cost in range(21))  # basis points a side, of `by_cost`


def simulate_trades(
    timestamps: np.ndarray,
    symbols: np.ndarray,
    calls: np.ndarray,
    trade_return: np.ndarray,
    *,
    holding_bars: int,
    cost_bps: float,
    baselines: Mapping[str, np.ndarray] | None = None,
    forward_return: np.ndarray | None = None,
    close: np.ndarray | None = None,
) -> Trades:
    """Returns what trading on the calls would have brought, beside buy-and-hold.

        >>> trades = simulate_trades(times, symbols, calls, returns, holding_bars=12, cost_bps=5)
        >>> trades.model.net_return, trades.buy_and_hold.net_return
        (0.0357, -0.0544)

    Rows are consecutive bars of a symbol, sorted by symbol, then time; a hole in them only delays
    the next decision.

    Args:
        timestamps: of the deciding bars, datetime64 (rows,).
        symbols: codes, (rows,).
        calls: class codes, (rows,).
        trade_return: log return from the next bar's open to the close `holding_bars` later,
            (rows,); rows with NaN are not traded.
        holding_bars: bars from the decision to the exit.
        cost_bps: cost of each side in basis points of the traded value.
        baselines: their calls, (rows,) each.
        forward_return: log return close to close over the same bars, (rows,), for buy-and-hold.
            Without it the gaps between one close and the next open are missed.
        close: prices at the ends of the deciding bars, (rows,): with them buy-and-hold is over the
            whole time, from the first one to the end of the last row's label. Without them it
            misses what happens in holes, and up to `holding_bars` at the end.

    Returns:
        of the model, of buy-and-hold and of each baseline: net_return and gross_return (shares of
        the capital), sharpe (annualised, None where there is too little), turnover (traded value
        over capital per year), drawdown (largest fall from a peak, share of the capital),
        hit_rate (share of trades with a net gain), equity (net gains so far at the end of each
        period, share of the capital) and by_cost (at each of `COSTS`); and the days on which the
        periods begin.

    Raises:
        ValueError: if arrays do not fit together, or the rows are not sorted.
    """
    timestamps = np.asarray(timestamps, "datetime64[ns]").astype(np.int64) / 1e9  # seconds
    symbols, trade_return = np.asarray(symbols), np.asarray(trade_return, np.float64)
    bounds = _check(timestamps, symbols, calls, trade_return, holding_bars, cost_bps)
    calendar = _Calendar(timestamps, bounds)

    def traded(calls: np.ndarray) -> Traded:
        sides = _sides(calls)
        rows = _entries((sides != 0) & np.isfinite(trade_return), bounds, holding_bars)
        exits = _exits(rows, bounds, holding_bars)
        gross = sides[rows] * np.expm1(trade_return[rows])
        return calendar.account(exits, gross, np.full(len(rows), 2.0), cost_bps)

    chained = trade_return if forward_return is None else np.asarray(forward_return, np.float64)
    held = _held(chained, close, bounds, holding_bars)
    return Trades(
        model=traded(calls),
        buy_and_hold=_buy_and_hold(calendar, held, bounds, holding_bars, cost_bps),
        baselines={name: traded(theirs) for name, theirs in (baselines or {}).items()},
        cost_bps=float(cost_bps),
        holding_bars=int(holding_bars),
        symbols=len(bounds) - 1,
        period_days=calendar.period_days,
        years=calendar.years,
        periods=calendar.days(),
        costs=list(COSTS),
    )


def _check(timestamps, symbols, calls, trade_return, holding_bars, cost_bps) -> np.ndarray:
    """Returns the first row of each symbol, then the row count, (symbols + 1,)."""
    num_rows = len(timestamps)
    shapes = [np.shape(symbols), np.shape(trade_return), np.shape(calls)]
    if not num_rows or shapes != [(num_rows,)] * 3:
        raise ValueError(f"need arrays of the same rows, at least one; got {num_rows} and {shapes}")
    if holding_bars < 1 or not cost_bps >= 0:
        raise ValueError(
            f"need holding_bars >= 1 and cost_bps >= 0, got {holding_bars} and {cost_bps}"
        )
    starts = np.flatnonzero(np.diff(symbols)) + 1
    later = np.diff(timestamps) > 0
    later[starts - 1] = True
    if len(starts) + 1 != len(np.unique(symbols)) or not np.all(later):
        raise ValueError("rows must be sorted by symbol, then time, without repeated times")
    return np.concatenate([[0], starts, [num_rows]])


def _sides(calls: np.ndarray) -> np.ndarray:
    """Returns +1 for long, -1 for short, 0 for neither, (rows,)."""
    calls = np.asarray(calls)
    return (calls == BUY).astype(int) - (calls == SELL)


def _entries(wanted: np.ndarray, bounds: np.ndarray, holding_bars: int) -> np.ndarray:
    """Returns the rows that open a position: the first wanted ones after the last has ended."""
    entries = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        rows = np.flatnonzero(wanted[start:stop]) + start
        place = 0
        while place < len(rows):
            entries.append(rows[place])
            place = np.searchsorted(rows, rows[place] + holding_bars)
    return np.array(entries, np.int64)


def _exits(rows: np.ndarray, bounds: np.ndarray, holding_bars: int) -> np.ndarray:
    """Returns the rows at which positions end; those that outlast a symbol end in its last row."""
    last = bounds[np.searchsorted(bounds, rows, side="right")] - 1
    return np.minimum(rows + holding_bars, last)


def _held(
    chained: np.ndarray, close: np.ndarray | None, bounds: np.ndarray, holding_bars: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns rows of each symbol, and what a stake of 1 is worth at them and at the end.

    Returns:
        for each symbol the rows (links,), a holding time apart, and the values (links + 1,).
    """
    held = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        links = np.arange(start, stop, holding_bars)
        if close is None:
            links = links[np.isfinite(chained[links])]
            values = np.exp(np.concatenate([[0.0], np.cumsum(chained[links])]))
        else:
            last = np.exp(np.nan_to_num(chained[stop - 1])) * close[stop - 1]
            values = np.append(np.asarray(close, np.float64)[links], last) / close[start]
        held.append((links, values))
    return held


def _buy_and_hold(calendar, held, bounds, holding_bars, cost_bps) -> Traded:
    """Returns the results of holding every symbol throughout: bought once, sold once."""
    rows, gains, sides = [], [], []
    for links, value in held:
        traded = np.zeros(len(links))
        traded[:1] += 1.0
        traded[-1:] += value[-1]
        rows.append(links)
        gains.append(np.diff(value))
        sides.append(traded)
    rows = np.concatenate(rows)
    exits = _exits(rows, bounds, holding_bars)
    results = calendar.account(exits, np.concatenate(gains), np.concatenate(sides), cost_bps)
    return replace(results, trades=len(bounds) - 1, hit_rate=None, gross_bps_per_trade=None)


class _Calendar:
    """Books results in calendar periods: days, or weeks where bars are a day or longer."""

    def __init__(self, seconds: np.ndarray, bounds: np.ndarray):
        spacing = np.diff(seconds)
        spacing = spacing[spacing > 0]
        bar = float(np.median(spacing)) if len(spacing) else float(_DAY_SECONDS)
        self.period_days = 1 if bar < _DAY_SECONDS else 7
        self.years = float((seconds.max() - seconds.min() + bar) / _YEAR_SECONDS)
        self._seconds, self._num_symbols = seconds, len(bounds) - 1
        periods = (seconds // (self.period_days * _DAY_SECONDS)).astype(np.int64)
        self._first, self._periods = int(periods.min()), periods - periods.min()

    def days(self) -> list[str]:
        """Returns the first day of each period, as YYYY-MM-DD."""
        periods = self._first + np.arange(int(self._periods.max()) + 1)
        return (periods * self.period_days).astype("datetime64[D]").astype(str).tolist()

    def account(
        self, exits: np.ndarray, gross: np.ndarray, sides: np.ndarray, cost_bps: float
    ) -> Traded:
        """Returns what trades brought, (trades,), in stakes, booked at rows `exits`.

        Args:
            exits: rows at which they end.
            gross: gain of each before costs.
            sides: value that each trades, on entry and exit together.
            cost_bps: in basis points of that value.
        """
        swept = [self._results(exits, gross, sides, cost) for cost in COSTS]
        by_cost = ByCost([each.net_return for each in swept], [each.sharpe for each in swept])
        return replace(self._results(exits, gross, sides, cost_bps), by_cost=by_cost)

    def _results(
        self, exits: np.ndarray, gross: np.ndarray, sides: np.ndarray, cost_bps: float
    ) -> Traded:
        net = gross - sides * cost_bps / 1e4
        order = np.argsort(self._seconds[exits], kind="stable")
        equity = np.concatenate([[0.0], np.cumsum(net[order])]) / self._num_symbols
        size = int(self._periods.max()) + 1
        booked = np.bincount(self._periods[exits], weights=net, minlength=size)
        return Traded(
            net_return=float(equity[-1]),
            gross_return=float(gross.sum() / self._num_symbols),
            sharpe=self._sharpe(booked),
            turnover=float(sides.sum() / self._num_symbols / self.years),
            drawdown=float((np.maximum.accumulate(equity) - equity).max()),
            trades=len(net),
            hit_rate=float((net > 0).mean()) if len(net) else None,
            gross_bps_per_trade=float(gross.mean() * 1e4) if len(net) else None,
            equity=(np.cumsum(booked) / self._num_symbols).round(6).tolist(),
            by_cost=ByCost([], []),
        )

    def _sharpe(self, booked: np.ndarray) -> float | None:
        spread = booked.std(ddof=1) if len(booked) >= _FEWEST_PERIODS else 0.0
        if not spread > 0:
            return None
        per_year = _YEAR_SECONDS / (self.period_days * _DAY_SECONDS)
        return float(booked.mean() / spread * np.sqrt(per_year))
