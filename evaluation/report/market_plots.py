"""The figures of a report over time and money: equity, costs, calls on a price, intervals."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from core.i18n import _, date, language
from evaluation.figures.run import LookbackRise
from evaluation.figures.scores import ByCost, Interval
from evaluation.report.plots import legend_above
from evaluation.report.svg import ACCENT, COLOURS, GRID, INK, STYLE, WIDTH

# Of the model, the best baseline, and buy and hold: distinguishable without colour, too.
_LINES = (
    {"color": COLOURS[2], "linewidth": 1.7},
    {"color": COLOURS[0], "linewidth": 1.3, "linestyle": "--"},
    {"color": "#505050", "linewidth": 1.3, "linestyle": ":"},
    {"color": ACCENT, "linewidth": 1.3, "linestyle": "-."},
    {"color": "#CC79A7", "linewidth": 1.7},
    {"color": "#A07800", "linewidth": 1.3, "linestyle": "--"},
)
MOST_CURVES = len(_LINES)
_ROW = 0.27  # inches of a row of intervals
_ROOM = 8  # letters of a name that has room four times


def equity_curves(days: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Returns net gains so far of each way to trade, and under them the fall from the last peak.

    Args:
        days: on which the periods begin, (periods,).
        curves: by name, share of the capital at the end of each period; at most
            `MOST_CURVES`.
    """
    times = np.arange(len(days))
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.7), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for (name, values), style in zip(curves.items(), _LINES, strict=False):
            equity = np.asarray(values)
            peak = np.maximum(np.maximum.accumulate(equity), 0)
            upper.plot(times, equity, label=_(name), **style)
            lower.plot(times, equity - peak, **style)
        upper.set_title(_("net gain"))
        lower.set_title(_("fall from the peak"))
        upper.axhline(0, color=INK, linewidth=0.6)
        for panel in (upper, lower):
            _grid(panel)
            panel.yaxis.set_major_locator(MaxNLocator(4))
            panel.yaxis.set_major_formatter(PercentFormatter(1))
        _label_times(lower, pd.DatetimeIndex(list(days)))
        legend_above(upper)
    return figure


def cost_curves(costs: Sequence[float], parts: Mapping[str, ByCost], cost_bps: float) -> Figure:
    """Returns net return and Sharpe ratio against the cost of a side.

    Args:
        costs: in basis points, (costs,).
        parts: by name; at most three.
        cost_bps: of the run, marked.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.4), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        for panel, key, title in zip(
            panels, ("net_return", "sharpe"), (_("net return"), _("Sharpe")), strict=True
        ):
            for (name, by_cost), style in zip(parts.items(), _LINES, strict=False):
                panel.plot(
                    costs, np.array(getattr(by_cost, key), np.float64), label=_(name), **style
                )
            panel.axhline(0, color=INK, linewidth=0.6)
            panel.axvline(cost_bps, color=INK, linewidth=0.8, linestyle=":")
            panel.set_title(title)
            panel.yaxis.set_major_locator(MaxNLocator(4))
            _grid(panel)
        panels[0].yaxis.set_major_formatter(PercentFormatter(1))
        panels[1].set_xlabel(_("cost of a side, basis points (dotted: of this run)"))
        legend_above(panels[0])
    return figure


def calls_on_price(recent: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Returns one symbol's price with its calls, and the probabilities as a band below.

    Args:
        recent: `price`, `call` and `p_CLASS` of consecutive bars.
        class_names: SELL, HOLD, BUY.
    """
    columns = [f"p_{name.lower()}" for name in class_names]
    shares = recent[columns].to_numpy(np.float64)
    called, price = recent["call"].to_numpy(), recent["price"].to_numpy()
    places = np.arange(len(recent))
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        upper.plot(places, price, color="#808080", linewidth=0.9)
        for code, marker in ((0, "v"), (2, "^")):
            rows = called == code
            upper.plot(
                places[rows],
                price[rows],
                marker,
                color=COLOURS[code],
                markersize=3.5,
                label=class_names[code],
            )
        upper.set_title(_("price, first bar = 100"))
        upper.yaxis.set_major_locator(MaxNLocator(4))
        _grid(upper)
        legend_above(upper)
        lower.stackplot(
            places, shares.T, colors=("#E79A66", "#d8d8d8", "#6AAED6"), labels=class_names
        )
        lower.set_title(_("probability, from below: {classes}", classes=", ".join(class_names)))
        lower.set_ylim(0, 1)
        lower.set_xlim(0, max(1, len(recent) - 1))
        lower.yaxis.set_major_formatter(PercentFormatter(1))
        _label_times(lower, pd.DatetimeIndex(recent["timestamp"]))
    return figure


class Row(NamedTuple):
    """A figure of a part, and its interval if it has one."""

    name: str
    value: float
    interval: Interval | None


def interval_rows(rows: Sequence[Row], label: str) -> Figure:
    """Returns a row for each part: its figure, and the interval where it has one.

    Args:
        rows: the first on top.
        label: of the axis.
    """
    places = np.arange(len(rows))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 0.75 + _ROW * len(rows)), layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color=INK, linewidth=0.8)
        for place, row in zip(places, rows, strict=True):
            if row.interval is not None:
                panel.plot(row.interval, [place] * 2, color=COLOURS[2], linewidth=4, alpha=0.35)
            panel.plot(row.value, place, "o", color=COLOURS[2], markersize=5)
        panel.set_yticks(places, [row.name for row in rows])
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.margins(x=0.1)
        _grid(panel, "x")
        panel.set_xlabel(label)
    return figure


def intervals_over_time(rows: Sequence[Row], title: str) -> Figure:
    """Returns a column for each part of time: its figure, and the interval where it has one.

    Args:
        rows: in the order of time.
        title: over the axes.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.6), layout="constrained")
        panel = figure.subplots()
        panel.axhline(0, color=INK, linewidth=0.8)
        for place, row in enumerate(rows):
            if row.interval is not None:
                panel.plot([place] * 2, row.interval, color=COLOURS[2], linewidth=4, alpha=0.35)
        panel.plot([row.value for row in rows], "o", color=COLOURS[2], markersize=4)
        _label_places(panel, [date(row.name) for row in rows])
        panel.set_xlim(-0.5, len(rows) - 0.5)
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.set_title(title)
        _grid(panel)
    return figure


def lookback_curve(lookback: Sequence[LookbackRise]) -> Figure:
    """Returns how much higher the NLL is with the newest bars alone.

    Args:
        lookback: by rising number of bars.
    """
    bars = [part.bars for part in lookback]
    rise = np.array([part.rise for part in lookback])
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.6), layout="constrained")
        panel = figure.subplots()
        if all(part.interval for part in lookback):
            low, high = np.array([part.interval for part in lookback]).T
            panel.fill_between(bars, low, high, color=ACCENT, alpha=0.25, linewidth=0)
        panel.plot(bars, rise, "o-", color=ACCENT, markersize=4)
        panel.axhline(0, color=INK, linewidth=0.8)
        panel.set_xscale("log", base=2)
        panel.set_xticks(bars, [str(count) for count in bars])
        panel.minorticks_off()
        panel.yaxis.set_major_locator(MaxNLocator(4))
        _grid(panel)
        panel.set_title(_("rise of the NLL, nats"))
        panel.set_xlabel(_("newest bars that are left of a window"))
    return figure


def _grid(panel: Axes, axis: Literal["x", "y"] = "y") -> None:
    panel.grid(axis=axis, color=GRID, linewidth=0.7)
    panel.set_axisbelow(True)


def _label_times(panel: Axes, times: pd.DatetimeIndex) -> None:
    """Labels places by times; they stand side by side, whatever nights lie between them."""
    days = bool((times == times.normalize()).all())
    if days or (times[-1] - times[0]).days > 20:
        _label_places(panel, [date(time.strftime("%Y-%m-%d")) for time in times])
    else:
        form = "%m-%d %H:%M" if language() == "en" else "%d.%m %H:%M"
        _label_places(panel, [time.strftime(form) for time in times])


def _label_places(panel: Axes, names: list[str]) -> None:
    """Names four of the places 0, 1, ... at the most, three where the names are long."""
    most = 4 if max(map(len, names)) <= _ROOM else 3
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    panel.set_xticks(places, [names[place] for place in places.tolist()])
    if len(places) == most:  # long enough names, such as days, would stick out
        labels = panel.get_xticklabels()
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")
