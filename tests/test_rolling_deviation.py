import keras
import numpy as np
import pytest

import config
from data.bars.synthetic import persistent_drift
from data.market.market import build_market
from data.market.training_rows import deviation_statistics, training_statistics
from data.market.windows import gather
from models.layers.rolling_deviation import RollingDeviation
from models.xlstm_rl_model import build_xlstm_classifier
from recipe.run.market import market_settings

RNG = np.random.default_rng(0)


def deviations(x, bars):
    return np.asarray(RollingDeviation(bars)(x))[..., x.shape[-1] :]


@pytest.mark.parametrize("bars", [1, 5, 60])
def test_at_every_bar_it_is_that_of_the_bars_up_to_it(bars):
    x = RNG.normal(size=(2, 20, 3)).astype("float32")
    both = np.asarray(RollingDeviation(bars)(x))
    np.testing.assert_array_equal(both[..., :3], x)
    for t in range(20):
        expected = x[:, max(0, t + 1 - bars) : t + 1].std(axis=1)
        np.testing.assert_allclose(both[:, t, 3:], expected, atol=1e-3 if bars == 1 else 3e-6)


def test_a_level_costs_no_digits():
    x = 1e4 + RNG.normal(size=(4, 90, 5)).astype("float32")
    expected = x[:, -60:].std(axis=1, dtype=np.float64)
    np.testing.assert_allclose(deviations(x, 60)[:, -1], expected, rtol=1e-4)


def test_no_bar_knows_a_later_one():
    x = RNG.normal(size=(2, 20, 3)).astype("float32")
    changed = x.copy()
    changed[:, 12:] += 5
    np.testing.assert_array_equal(deviations(x, 8)[:, :12], deviations(changed, 8)[:, :12])
    assert (deviations(x, 8)[:, 12] != deviations(changed, 8)[:, 12]).all()


def test_it_looks_at_one_bar_at_least():
    with pytest.raises(ValueError, match="bars must be >= 1, got 0"):
        RollingDeviation(0)


def test_training_form_and_window_form_say_the_same_of_a_window(tmp_path):
    arguments = {"units": 8, "num_heads": 2, "deviation_bars": 12}
    arguments |= {"feature_mean": RNG.normal(size=6), "feature_variance": np.full(6, 2.0)}
    keras.utils.set_random_seed(0)
    window = build_xlstm_classifier(12, 3, **arguments)
    form = build_xlstm_classifier(20, 3, labels_per_sequence=14, **arguments)
    form.set_weights(window.get_weights())
    x = RNG.normal(size=(3, 20, 3)).astype("float32")
    # Of the labels at bars 7 to 20, that at bar 12 has the window's bars before it, and no others.
    np.testing.assert_allclose(form(x)[:, 5], window(x[:, :12]), atol=1e-5)
    window.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x[:, :12]), window(x[:, :12]))


def test_without_it_nothing_is_added():
    plain = build_xlstm_classifier(12, 3, units=8, num_heads=2)
    assert plain.get_layer("embedding").kernel.shape == (3, 8)
    assert "rolling_deviation" not in [layer.name for layer in plain.layers]


@pytest.mark.parametrize("bars", [-1, 2.5, True, 13])
def test_the_builder_wants_a_whole_number_of_bars(bars):
    with pytest.raises(ValueError, match="deviation_bars must be a whole number from 0 to the 12"):
        build_xlstm_classifier(12, 3, units=8, num_heads=2, deviation_bars=bars)


def test_a_deviation_that_is_always_the_same_is_not_blown_up():
    bars = persistent_drift(num_symbols=3, num_bars=900, seed=1, interval="1h")
    flags = config.load(SEQUENCE_LENGTH=24, FUTURE_WINDOW=3, EMBARGO_BARS=3)  # a whole day
    market = build_market(bars, market_settings(flags))
    features = market.features.shape[1]
    mean, variance = deviation_statistics(market, market.folds[0])
    of_hour = features + market.feature_names.index("time_of_day_sin")
    assert mean[of_hour] == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert np.sqrt(variance[of_hour]) == pytest.approx(0.1 * mean[of_hour])
    moved = variance[features:] > 0
    assert (mean[features:][moved] / np.sqrt(variance[features:][moved])).max() < 10.01


def test_its_statistics_are_those_of_the_training_windows():
    bars = persistent_drift(num_symbols=3, num_bars=400, seed=1)
    flags = config.load(SEQUENCE_LENGTH=12, FUTURE_WINDOW=3, EMBARGO_BARS=3)
    market = build_market(bars, market_settings(flags))
    fold, features = market.folds[0], market.features.shape[1]
    mean, variance = deviation_statistics(market, fold)
    for found, of_rows in zip((mean, variance), training_statistics(market, fold), strict=True):
        np.testing.assert_array_equal(found[:features], of_rows)
    windows = gather(market.features, fold.train, 12).std(axis=1, dtype=np.float64)
    np.testing.assert_allclose(mean[features:], windows.mean(axis=0), rtol=1e-3, atol=1e-5)
    spread = np.maximum(windows.std(axis=0), 0.1 * windows.mean(axis=0))
    np.testing.assert_allclose(variance[features:], spread**2, rtol=1e-2, atol=1e-6)
