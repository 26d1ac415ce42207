from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_run import NAMES, recent_bars, training_run

from evaluation.figures.run import LookbackRise
from evaluation.figures.scores import ByCost
from evaluation.report import market_plots, plots
from evaluation.report import svg as svg_files
from evaluation.report.market_plots import Row
from evaluation.report.svg import _letters_of, to_svg

DRAWN = ["curves", "shares", "confusion", "reliability", "skill"]
DRAWN += ["equity", "costs", "calls", "features", "months", "lookback"]


@pytest.fixture(scope="module")
def run():
    return training_run()


def svg(figure):
    return ElementTree.fromstring(to_svg(figure))


def test_learning_curves_have_a_panel_for_each_known_column(run):
    _, history, _ = run
    titles = [panel.get_title(loc="left") for panel in plots.learning_curves(history).axes]
    assert len(titles) == 7
    fewer = plots.learning_curves(history[["epoch", "loss", "learning_rate"]])
    assert [panel.get_title(loc="left") for panel in fewer.axes] == [titles[0], "learning rate"]


def test_learning_curves_leave_out_what_is_no_number(run):
    _, history, _ = run
    panels = {p.get_title(loc="left"): p for p in plots.learning_curves(history).axes}
    (line,) = panels["validation MCC"].get_lines()
    assert list(np.asarray(line.get_xdata())) == [1, 3, 4]  # epochs count from 1
    (line,) = panels["logit cap (a gap: none)"].get_lines()
    assert list(np.asarray(line.get_ydata())) == [5, 10]


def test_small_and_odd_runs_can_be_drawn(run):
    metrics, history, predictions = run
    probabilities = predictions[["p_sell", "p_hold", "p_buy"]].to_numpy()
    few = slice(0, 3)
    svg(plots.reliability_diagram(np.zeros(3, int), probabilities[few], NAMES))
    svg(plots.confusion_matrix([[0, 0, 0], [0, 5, 0], [0, 0, 0]], NAMES))
    svg(plots.learning_curves(history.iloc[:1], chosen_epoch=0))
    svg(plots.class_shares(history.iloc[:1], NAMES))
    svg(plots.skill_intervals(metrics.verdict, {}))
    svg(market_plots.equity_curves(["2024-01-01"], {"xLSTM": [0.0]}))
    no_sharpe = ByCost([0.0] * 21, [None] * 21)
    svg(market_plots.cost_curves(range(21), {"xLSTM": no_sharpe}, 0.0))
    svg(market_plots.calls_on_price(recent_bars().iloc[:1], NAMES))
    svg(market_plots.lookback_curve([LookbackRise(1, 1.1, 0.1, None)]))
    svg(market_plots.interval_rows([Row("a", 0.0, None)], "MCC"))


def test_equity_and_its_fall_are_drawn_as_they_are():
    figure = market_plots.equity_curves(
        ["2024-01-01", "2024-01-02", "2024-01-03"], {"xLSTM": [-0.1, 0.2, 0.05]}
    )
    upper, lower = figure.axes
    assert list(np.asarray(upper.get_lines()[0].get_ydata())) == [-0.1, 0.2, 0.05]
    assert lower.get_lines()[0].get_ydata() == pytest.approx([-0.1, 0.0, -0.15])


def test_calls_stand_on_their_bars():
    recent = recent_bars().iloc[:100]
    called = recent["call"].to_numpy()
    _, sold, bought = market_plots.calls_on_price(recent, NAMES).axes[0].get_lines()
    assert list(np.asarray(sold.get_xdata())) == np.flatnonzero(called == 0).tolist()
    assert list(np.asarray(bought.get_ydata())) == recent["price"][called == 2].tolist()


@pytest.mark.parametrize("draw", DRAWN)
def test_no_text_lies_over_another_or_the_edge(run, draw, monkeypatch):
    metrics, history, predictions = run
    costs, importance = metrics.costs, metrics.folds[0].importance
    features = [Row(part.name, part.rise, part.interval) for part in importance.features]
    names = ("xLSTM", "logistic regression", "buy and hold")
    equities = dict.fromkeys(names, costs.model.equity)
    by_cost = dict.fromkeys(names, costs.model.by_cost)
    figure = {
        "curves": lambda: plots.learning_curves(history, 2),
        "shares": lambda: plots.class_shares(history, NAMES, [0.3, 0.4, 0.3]),
        "confusion": lambda: plots.confusion_matrix(metrics.test.confusion, NAMES),
        "reliability": lambda: plots.reliability_diagram(
            predictions["label"].to_numpy(),
            predictions[["p_sell", "p_hold", "p_buy"]].to_numpy(),
            NAMES,
        ),
        "skill": lambda: plots.skill_intervals(
            metrics.verdict, dict.fromkeys(names[1:], metrics.test)
        ),
        "equity": lambda: market_plots.equity_curves(costs.periods, equities),
        "costs": lambda: market_plots.cost_curves(costs.costs, by_cost, 5.0),
        "calls": lambda: market_plots.calls_on_price(recent_bars().iloc[:100], NAMES),
        "features": lambda: market_plots.interval_rows(features, "rise"),
        "months": lambda: market_plots.intervals_over_time(features, "MCC"),
        "lookback": lambda: market_plots.lookback_curve(importance.lookback),
    }[draw]()
    drawn, draw_text = {}, Text.draw

    def record(text, *arguments, **keywords):
        drawn[id(text)] = text
        draw_text(text, *arguments, **keywords)

    monkeypatch.setattr(Text, "draw", record)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn.clear()  # the first time also draws the ticks of trial layouts
    canvas.draw()
    boxes = [
        (text.get_text(), text.get_window_extent().padded(-1))
        for text in drawn.values()
        if text.get_visible() and text.get_text().strip()
    ]
    assert len(boxes) > 5
    edge = figure.bbox.padded(1)
    for place, (text, box) in enumerate(boxes):
        assert edge.containsx(box.x0) and edge.containsx(box.x1), text
        for other_text, other in boxes[place + 1 :]:
            assert not box.overlaps(other), (text, other_text)


def rows_of(*names):
    return [Row(name, 0.1, [0.0, 0.2]) for name in names]


def drawn_texts(raw):
    return [e.text for e in ElementTree.fromstring(raw).iter("{http://www.w3.org/2000/svg}text")]


def test_a_symbol_is_a_text_and_no_formula():
    names = [r"$\foo{$", "$a$", "US$ and A$", "x_{y}^2", "<b>&amp;"]
    figure = market_plots.interval_rows(rows_of(*names), "MCC")
    to_svg(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
    for draw in (market_plots.equity_curves, market_plots.cost_curves):
        part = ByCost([0.1], [1.0])
        second = {names[0]: [0.1] if draw is market_plots.equity_curves else part}
        first = ["2024-01-01"] if draw is market_plots.equity_curves else [1.0]
        svg(draw(first, second, *[[], [1.0]][draw is market_plots.cost_curves]))


def test_letters_of_another_font_are_drawn_with_it(monkeypatch):
    monkeypatch.setattr(svg_files, "_other_fonts", lambda: ("STIXGeneral",))
    stix, own = (_letters_of(name) for name in ("STIXGeneral", "DejaVu Sans"))
    letter = min(stix - own)
    raw = to_svg(market_plots.interval_rows(rows_of(letter, "A"), "MCC"))
    assert not drawn_texts(raw) and b"STIX" in raw


def test_letters_of_no_font_stay_texts_for_the_reader_s_fonts(monkeypatch):
    monkeypatch.setattr(svg_files, "_other_fonts", lambda: ())
    name = "\u8d35\u5dde\u8305\u53f0"
    raw = to_svg(market_plots.interval_rows(rows_of(name, "A"), "MCC"))
    assert name in drawn_texts(raw)
    raw = to_svg(market_plots.interval_rows(rows_of("A"), "MCC"))
    assert not drawn_texts(raw)
