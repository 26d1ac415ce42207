import numpy as np
import pandas as pd
import pytest

import config
from data.bars import read_bars
from data.known_optimum import best_probabilities
from data.labels import past_scale
from data.market import build_market
from evaluation.baselines import constant_prior
from evaluation.metrics import evaluate
from evaluation.report.report import report_page
from recipe.made_up import known_optimum
from recipe.market import market_settings

TEXT = "synthetic:{}?bars=3000&symbols=11&seed=3"  # SYN10 stands before SYN2


def market_of(name, **flags):
    return build_market(read_bars(TEXT.format(name)), **market_settings(config.load(**flags)))


@pytest.mark.parametrize("method", ["volatility", "fixed"])
def test_the_optimum_of_a_drift_is_well_above_chance(method):
    market = market_of("persistent_drift", LABEL_METHOD=method)
    best = known_optimum(TEXT.format("persistent_drift"), market, market.folds)
    labels = market.folds[0].labels[market.folds[0].test]
    chance = evaluate(labels, constant_prior(labels, len(labels)))
    assert 0.2 < best["mcc"] < 0.6 and best["nll"] < chance["nll"] - 0.05
    assert "made up" in best["sentence"] and f"{best['mcc']:+.3f}" in best["sentence"]


def test_the_optimum_of_a_walk_is_chance():
    market = market_of("walk")
    best = known_optimum(TEXT.format("walk"), market, market.folds)
    labels = market.folds[0].labels[market.folds[0].test]
    chance = evaluate(labels, constant_prior(labels, len(labels)))
    assert abs(best["mcc"]) < 0.06 and abs(best["nll"] - chance["nll"]) < 0.03


def test_the_best_probabilities_are_the_frequencies_of_the_labels():
    text = TEXT.format("persistent_drift")
    best = best_probabilities(text, label_method="volatility", threshold=0.6, horizon=12)
    p_buy, bought = [], []
    for symbol, bars in read_bars(text).groupby("symbol", observed=True):
        close = bars["close"].to_numpy()
        move = np.log(close[112:] / close[100:-12]) / past_scale(close, 12)[100:-12]
        bought.append(move > 0.6)
        p_buy.append(best[symbol][100:-12, 2])
    p_buy, bought = np.concatenate(p_buy), np.concatenate(bought)
    for low, high in [(0, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 1)]:
        part = (p_buy >= low) & (p_buy < high)
        assert abs(p_buy[part].mean() - bought[part].mean()) < 0.05


def test_bars_that_are_not_made_up_have_no_known_optimum_and_barriers_no_number():
    assert known_optimum("bars.csv", None, ()) is None and known_optimum(None, None, ()) is None
    market = market_of("walk", LABEL_METHOD="triple_barrier")
    told = known_optimum(TEXT.format("walk"), market, market.folds)
    assert told["mcc"] is None and "not known" in told["sentence"]


def test_the_report_says_that_the_market_is_made_up():
    told = {"known_optimum": {"sentence": "The market is made up: so it is."}}
    page = report_page("one", metrics=told, history=pd.DataFrame(), predictions=pd.DataFrame())
    assert "<p>The market is made up: so it is.</p>" in page
