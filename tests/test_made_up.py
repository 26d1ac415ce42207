from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_run import training_run
from sklearn.metrics import log_loss, matthews_corrcoef

import config
from core.calls import calls
from data.bars.read import read_bars
from data.market.market import build_market
from evaluation.baselines.simple import constant_prior
from evaluation.figures.scores import KnownOptimum
from evaluation.optimum.known import _of_test_windows, best_figures, known_optimum, sentence
from evaluation.report import svg
from evaluation.report.report import report_page
from recipe.run.market import market_settings

TEXT = "synthetic:{}?bars=3000&symbols=11&seed=3"  # SYN10 stands before SYN2


def market_of(name, **flags):
    return build_market(read_bars(TEXT.format(name)), market_settings(config.load(**flags)))


def optimum(name, **flags):
    market = market_of(name, **flags)
    labels = market.folds[0].labels[market.folds[0].test]
    chance = evaluate_nll(labels, constant_prior(labels, len(labels)))
    return known_optimum(TEXT.format(name), market, market.folds), chance


def evaluate_nll(labels, probabilities):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("method", ["volatility", "fixed"])
def test_the_optimum_of_a_drift_knows_the_direction(method):
    best, chance = optimum("persistent_drift", LABEL_METHOD=method)
    assert 0.2 < best.mcc < 0.6 and best.nll < chance - 0.05
    assert best.direction > 0.5 and 0.1 < best.movement < 0.5
    for name in ("mcc", "direction", "movement"):
        assert f"{getattr(best, name):+.3f}" in sentence(best)
    assert "made up" in sentence(best)


def test_the_optimum_of_a_walk_is_chance():
    best, chance = optimum("walk")
    assert abs(best.mcc) < 0.06 and abs(best.nll - chance) < 0.03
    assert best.direction == 0 and abs(best.movement) < 0.08


@pytest.mark.parametrize("method", ["volatility", "fixed"])
def test_the_optimum_of_the_clock_knows_when_and_not_where(method):
    best, chance = optimum("volatility_clock", LABEL_METHOD=method)
    assert best.direction == 0 and best.movement > 0.15 and best.mcc > 0.08
    assert best.nll < chance - 0.02


def test_the_figures_are_those_of_the_calls_of_true_probabilities():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([2, 4, 3], size=20_000)
    labels = (rng.random(20_000)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1)
    best = best_figures(labels, probabilities, probabilities.argmax(axis=1))
    called = calls(probabilities, [2 / 9, 4 / 9, 3 / 9])
    moved = labels != 1
    sides = probabilities[:, 2] > probabilities[:, 0]
    assert best.mcc > matthews_corrcoef(labels, called) - 0.005
    assert best.movement > matthews_corrcoef(labels == 1, called == 1) - 0.005
    assert best.direction == pytest.approx(
        matthews_corrcoef(labels[moved] == 2, sides[moved]), abs=1e-12
    )
    assert best.nll == pytest.approx(log_loss(labels, probabilities))


def test_bars_that_are_not_made_up_have_no_known_optimum_and_barriers_no_number():
    assert known_optimum("bars.csv", None, ()) is None and known_optimum(None, None, ()) is None
    market = market_of("walk", LABEL_METHOD="triple_barrier")
    told = known_optimum(TEXT.format("walk"), market, market.folds)
    assert told == KnownOptimum(TEXT.format("walk"), None, None, None, None)
    assert "not known" in sentence(told)


def test_the_report_says_that_the_market_is_made_up(monkeypatch):
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
    optimum = KnownOptimum(
        "synthetic:walk", None, None, None, None, "The market is made up: so it is."
    )
    metrics = replace(training_run()[0], known_optimum=optimum)
    page = report_page("one", metrics=metrics, history=pd.DataFrame(), predictions=pd.DataFrame())
    assert '<p class="remark">The market is made up: so it is.</p>' in page


BESIDE = "synthetic:{}?bars=3000&symbols=12&seed=3"


@pytest.mark.parametrize(
    ("name", "reference", "least", "most"),
    [
        ("relative_drift", "market", 0.6, 0.9),
        ("relative_drift", "none", -0.1, 0.25),  # to who knows what a symbol does by itself
        ("market_drift", "none", 0.1, 0.7),
        ("market_drift", "market", 0.0, 0.0),
    ],
)
def test_the_optimum_of_a_market_depends_on_what_is_asked(name, reference, least, most):
    text = BESIDE.format(name)
    market = build_market(read_bars(text), market_settings(config.load(LABEL_REFERENCE=reference)))
    best = known_optimum(text, market, market.folds)
    assert least <= best.direction <= most


def test_the_chances_of_the_optimum_come_true():
    text = BESIDE.format("relative_drift")
    market = build_market(read_bars(text), market_settings(config.load(LABEL_REFERENCE="market")))
    best = _of_test_windows(text, market, market.folds[0])
    labels = market.folds[0].labels[market.folds[0].test]
    for code in range(3):
        assert best[:, code].mean() == pytest.approx((labels == code).mean(), abs=0.03)
        sure = best[:, code] > np.quantile(best[:, code], 0.8)
        assert best[sure, code].mean() == pytest.approx((labels[sure] == code).mean(), abs=0.05)


def test_markets_without_anything_in_common_have_no_known_relative_optimum():
    market = market_of("walk", LABEL_REFERENCE="market")
    assert known_optimum(TEXT.format("walk"), market, market.folds).mcc is None
