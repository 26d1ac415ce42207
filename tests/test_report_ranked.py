import re
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from report_run import ranked, training_run

from evaluation.figures.scores import Estimate, FewSymbols
from evaluation.report import ranked as pages
from evaluation.report import svg
from evaluation.report.report import report_page


@pytest.fixture(scope="module")
def found():
    return ranked()


@pytest.fixture
def text(found, monkeypatch):
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
    return told(found)


def told(found):
    metrics = replace(training_run()[0], cross_section=found)
    page = report_page("one", metrics=metrics, history=pd.DataFrame(), predictions=pd.DataFrame())
    return " ".join(
        re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.S).split()
    )


def test_every_part_and_age_stands_beside_that_of_the_baselines(found, text):
    assert found.sentence in text
    model, trees = found.model, found.baselines["boosted trees"]
    for name, key in (("rank correlation", "rank_correlation"), ("timing", "timing")):
        cells = []
        for own in (getattr(model, key), getattr(trees, key)):
            low, high = own.interval
            cells.append(f"{own.value:+.3f} {low:+.3f} to {high:+.3f}")
        assert f"{name} {' '.join(cells)}" in text
    for place, words in ((1, "1 bar old"), (2, "3 bars old"), (3, "6 bars old")):
        assert f"{words} {model.ages[place].value:+.3f}" in text
    lead = trees.lead.value
    assert f"lead of the model in rank correlation – – {lead:+.3f}" in text


def test_the_book_is_told_before_and_after_costs(found, text):
    book = found.model.book
    low, high = book.net.interval
    figures = f"{book.net.value:+.1f} {low:+.1f} to {high:+.1f} {book.net_return:.1%}"
    assert f"xLSTM {book.gross.value:+.1f}" in text and figures in text
    assert "5 basis points of the value traded" in text and "every 4 bars" in text


def test_few_symbols_are_one_sentence(monkeypatch):
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
    text = told(FewSymbols(2, "Not judged."))
    assert "Symbol against symbol Not judged." in text
    assert "rank correlation" not in text


def test_fifths_are_drawn_as_they_are(found):
    fifths = found.model.fifths
    (panel,) = pages.fifth_bars({"xLSTM": fifths, "boosted trees": fifths[::-1]}).axes
    assert [bar.get_height() for bar in panel.patches if isinstance(bar, Rectangle)] == [
        part.value for part in fifths
    ]
    marks = panel.get_lines()[5]
    assert list(marks.get_ydata()) == [part.value for part in fifths[::-1]]
    without = [Estimate(1.0, None)] * 5
    assert len(pages.fifth_bars({"xLSTM": without}).axes[0].get_lines()) == 1


def test_the_best_ranked_baseline_stands_beside_the_model(found):
    trees = found.baselines["boosted trees"]
    worse = replace(trees, rank_correlation=Estimate(-1.0, [-1.0, 1.0]))
    given = replace(found, baselines={"worse": worse, "boosted trees": trees})
    curves = pages._curves(given, "xLSTM")
    assert list(curves) == ["xLSTM", "xLSTM without costs", "boosted trees"]
    assert curves["xLSTM"] == found.model.book.net_curve
