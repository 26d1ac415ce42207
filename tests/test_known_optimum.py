import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from core.calls import calls
from data.bars.read import read_bars
from data.market.labels import past_scale
from evaluation.optimum.best import best_calls, best_probabilities

TEXT = "synthetic:{}?bars=3000&symbols=6&seed=3"
LABEL = {"label_method": "volatility", "threshold": 0.6, "horizon": 12}


def best_of(name):
    """Returns the best probabilities, (bars, 3), and what the bars did, (bars,), of all symbols."""
    text = TEXT.format(name)
    best = best_probabilities(text, **LABEL)
    probabilities, labels = [], []
    for symbol, bars in read_bars(text).groupby("symbol", observed=True):
        close = bars["close"].to_numpy()
        move = np.log(close[112:] / close[100:-12]) / past_scale(close, 12)[100:-12]
        labels.append(1 + (move > 0.6).astype(int) - (move < -0.6))
        probabilities.append(best[symbol][100:-12])
    return np.concatenate(probabilities), np.concatenate(labels)


def expected_mcc(probabilities, called):
    """Returns the MCC of many labels drawn from the probabilities, by scikit-learn."""
    classes = np.arange(probabilities.shape[1])
    pairs = [(true, call) for true in classes for call in classes]
    weights = [probabilities[called == call, true].sum() for true, call in pairs]
    return matthews_corrcoef(*zip(*pairs, strict=True), sample_weight=weights)


def drawn(rng, num, sharpness, prior=(0.2, 0.5, 0.3)):
    logits = np.log(prior) + sharpness * rng.normal(size=(num, len(prior)))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["persistent_drift", "volatility_clock"])
def test_the_best_probabilities_are_the_frequencies_of_the_labels(name):
    probabilities, labels = best_of(name)
    for code in range(3):
        p = probabilities[:, code]
        for part in np.array_split(np.argsort(p), 4):
            assert abs(p[part].mean() - (labels[part] == code).mean()) < 0.06
    assert np.ptp(probabilities[:, 1]) > 0.25


def test_the_best_observer_knows_the_clock_of_the_coming_bars():
    probabilities, labels = best_of("volatility_clock")
    quarter = np.tile(np.arange(100, 3000 - 12) % 96 // 24, 6)  # of the day
    gaps = [
        probabilities[quarter == part, 1].mean() - (labels[quarter == part] == 1).mean()
        for part in range(4)
    ]
    assert np.abs(gaps).max() < 0.04  # 0.1 for who takes the volatility of now to stay


def test_on_a_martingale_neither_side_is_likelier():
    for name in ("volatility_clock", "walk"):
        probabilities, _ = best_of(name)
        np.testing.assert_allclose(probabilities[:, 0], probabilities[:, 2], atol=1e-12)
        assert set(best_calls(probabilities)[0]) == {0, 1}  # the last digit decides nothing


def test_the_volatility_of_the_clock_forecasts_that_of_a_walk_does_not():
    spreads = [best_of(name)[0][:, 1].std() for name in ("volatility_clock", "walk")]
    assert spreads[0] > 2.5 * spreads[1]


@pytest.mark.parametrize("sharpness", [0.02, 0.3, 2.0])
def test_the_best_calls_are_expected_to_reach_no_less_than_any_others(sharpness):
    rng = np.random.default_rng(0)
    p = drawn(rng, 3000, sharpness)
    called, mcc = best_calls(p)
    assert mcc == pytest.approx(expected_mcc(p, called), abs=1e-9)
    others = [p.argmax(axis=1), calls(p, [0.2, 0.5, 0.3]), calls(p, p.mean(axis=0))]
    # Weights of the classes, and sums beside p: all that a fixed rule can do.
    others += [(np.log(p) + rng.normal(size=3)).argmax(axis=1) for _ in range(200)]
    others += [(p - p.mean(axis=0) + 0.05 * rng.normal(size=3)).argmax(axis=1) for _ in range(200)]
    assert mcc >= max(expected_mcc(p, other) for other in others) - 1e-4


def test_of_two_classes_they_are_those_of_the_best_threshold():
    p = drawn(np.random.default_rng(1), 500, 0.8, prior=(0.7, 0.3))
    called, mcc = best_calls(p)
    scanned = [expected_mcc(p, (p[:, 1] >= edge).astype(int)) for edge in p[:, 1]]
    assert mcc == pytest.approx(max(scanned), abs=1e-9)
    assert p[called == 1, 1].min() > p[called == 0, 1].max()


def test_no_start_is_left_for_less():
    rng = np.random.default_rng(2)
    p = drawn(rng, 400, 1.0)
    labels = np.array([rng.choice(3, p=row) for row in p])
    start = np.where(rng.random(400) < 0.9, p.argmax(axis=1), labels)
    assert best_calls(p, [start])[1] >= expected_mcc(p, start)


def test_where_nothing_is_known_nothing_is_expected():
    called, mcc = best_calls(np.tile([0.2, 0.5, 0.3], (50, 1)))
    assert mcc == 0 and len(set(called)) == 1


@pytest.mark.parametrize("name", ["persistent_drift", "volatility_clock", "walk"])
def test_on_a_market_the_best_beat_argmax_and_the_largest_lift(name):
    p, labels = best_of(name)
    called, mcc = best_calls(p)
    others = p.argmax(axis=1), calls(p, np.bincount(labels) / len(labels))
    assert all(mcc > expected_mcc(p, other) for other in others)
    found = matthews_corrcoef(labels, called)
    assert abs(found - mcc) < 0.06  # what happened is what was expected


def test_too_few_symbols_are_no_market_that_labels_are_relative_to():
    text = "synthetic:relative_drift?bars=300&symbols=5&seed=3"
    for least, known in [(4, True), (5, True), (6, False)]:
        found = best_probabilities(text, **LABEL, reference="market", min_symbols=least)
        for probabilities in found.values():
            assert np.isfinite(probabilities[200:]).all() == known
            assert np.isnan(probabilities).all() != known
