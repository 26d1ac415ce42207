"""Where labels are relative to the market, whoever explains a call says so, and no other does."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_market import SETTINGS
from test_predict import make_model
from test_run_metrics import CHOSEN, answers, result_of

from data.bars.synthetic import random_walk
from data.market.market import build_market
from data.market.relative import relative_in_words
from evaluation.report import svg
from evaluation.report.report import report_page
from recipe.cli import console
from recipe.run.metrics import in_words, run_metrics
from recipe.serve.predict import classify, classify_latest

WORDS = relative_in_words()


@pytest.fixture(scope="module", params=["none", "market"])
def market(request):
    settings = replace(SETTINGS, label_reference=request.param, num_folds=1)
    return build_market(random_walk(6, 700), settings)


def test_the_screen_says_it_where_the_labels_are_told(market, capsys):
    console.announce_market(market, 1)
    assert (WORDS in capsys.readouterr().out) == market.settings.relative


def test_one_symbol_is_told_as_one(capsys):
    console.announce_market(build_market(random_walk(1, 700), SETTINGS), 700)
    assert "700 of 1 symbol, " in capsys.readouterr().out


def test_metrics_verdict_and_report_say_it(market, monkeypatch):
    rng, (fold,) = np.random.default_rng(0), market.folds
    result = result_of(0, fold, rng, {"constant prior": answers(fold, rng)})
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
    metrics = in_words(run_metrics(market, [result], **CHOSEN))
    reference = market.settings.label_reference
    assert metrics.folds[0].label.reference == reference
    assert (WORDS in metrics.verdict.sentence) == market.settings.relative
    page = report_page("one", metrics=metrics, history=pd.DataFrame(), predictions=pd.DataFrame())
    assert (WORDS in page) == market.settings.relative
    assert ("these returns are not" in page) == market.settings.relative


@pytest.mark.parametrize("ask", [classify, classify_latest])
@pytest.mark.parametrize("label", [None, {"reference": "none"}, {"reference": "market"}])
def test_answers_come_with_it_once(ask, label):
    notes = []
    ask(make_model(label=label), random_walk(2, 300), note=notes.append)
    assert notes.count(WORDS) == (label == {"reference": "market"})
