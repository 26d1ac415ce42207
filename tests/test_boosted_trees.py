"""Trees and regression as layers, against scikit-learn."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier

from evaluation.baselines.fitted import Fitted
from evaluation.baselines.learners import boosted_trees, logistic_regression
from evaluation.baselines.summaries import Windows, window_summary
from evaluation.blend.arrays import line_arrays, same_side, tree_arrays
from models.deployable import line_layer, trees_layer
from models.layers.fits import WindowSummary

PRIOR = np.full(3, 1 / 3)
LARGEST = float(np.finfo(np.float32).max)


def grown(seed, *, leaves=8, kinds=3, missing=0.0, rounds=12, columns=5, rows=300):
    """Returns a fit on random columns: of any numbers, of few, of tiny and of huge ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1] * 2)
    x[:, 2] *= 1e-30
    x[:, 3] *= 1e30
    x[rng.random(x.shape) < missing] = np.nan
    labels = rng.integers(0, kinds, rows)
    estimator = HistGradientBoostingClassifier(
        max_iter=rounds, max_leaf_nodes=leaves, min_samples_leaf=3, random_state=0
    )
    return Fitted(estimator.fit(x, labels), np.unique(labels), PRIOR), x


def on_thresholds(fitted, x, rng):
    """Returns rows whose values are the thresholds of the trees and their float32 neighbours."""
    rows = x[rng.integers(0, len(x), 2000)]
    nodes = np.concatenate([t.nodes for r in fitted.estimator._predictors for t in r])
    nodes = nodes[nodes["is_leaf"] == 0]
    chosen = nodes[rng.integers(0, len(nodes), len(rows))]
    values = np.clip(chosen["num_threshold"], -LARGEST, LARGEST).astype(np.float32)
    towards = rng.choice([-np.inf, 0, np.inf], len(rows)).astype(np.float32)
    with np.errstate(over="ignore"):
        values = np.where(towards == 0, values, np.nextafter(values, towards))
    values = np.clip(values, -LARGEST, LARGEST)
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    rows[np.arange(len(rows)), chosen["feature_idx"]] = np.where(tiny, 0, values)
    return rows


def told(layer, x):
    """Returns the probabilities of a layer that gives logits."""
    return softmax(ops.convert_to_numpy(layer(x)).astype(np.float64), axis=1)


@given(
    seed=st.integers(0, 2**31),
    leaves=st.sampled_from([2, 3, 8, 31]),
    missing=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=8, deadline=None)
def test_trees_agree_with_scikit_learn_also_on_their_thresholds(seed, leaves, missing):
    fitted, x = grown(seed, leaves=leaves, missing=missing)
    rows = np.concatenate([x, on_thresholds(fitted, x, np.random.default_rng(seed))])
    layer = trees_layer(tree_arrays(fitted), columns=x.shape[1])
    np.testing.assert_allclose(
        told(layer, rows), fitted.estimator.predict_proba(rows), rtol=0, atol=1e-6
    )


@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_rounded_threshold_has_every_number_on_the_same_side(threshold, x):
    tiny = 0 < abs(x) < np.finfo(np.float32).tiny
    if threshold < -LARGEST or tiny:  # no node has one below all numbers
        return
    (rounded,) = same_side(np.array([threshold]))
    assert np.isfinite(rounded)
    for near in (x, threshold):
        with np.errstate(over="ignore"):
            value = np.float32(near)
        if np.isfinite(value) and (value == 0 or abs(value) >= np.finfo(np.float32).tiny):
            assert (value <= rounded) == (float(value) <= threshold)


def test_only_the_rounds_that_count_are_taken():
    fitted, x = grown(0, rounds=12)
    few = Fitted(fitted.estimator, fitted.classes, PRIOR, rounds=5)
    layer = trees_layer(tree_arrays(few), columns=x.shape[1])
    np.testing.assert_allclose(told(layer, x), few.predict_proba(x), rtol=0, atol=1e-6)
    assert np.abs(few.predict_proba(x) - fitted.predict_proba(x)).max() > 0.01


def test_fits_of_two_classes_are_refused():
    fitted, _ = grown(0, kinds=2)
    with pytest.raises(ValueError, match=r"three classes, got \[0, 1\]"):
        tree_arrays(fitted)


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 6)).astype(np.float32)
    x[:, 4] = 1000 + x[:, 4]  # the mean is far off
    x[:, 5] = 7.0
    labels = np.digitize(x[:, 0] + x[:, 1] ** 2 / 2 + rng.normal(size=1500), [0, 1])
    x[::100, 3] *= 40  # beyond what the line follows
    own, rest = (
        Windows(x[a:b], labels[a:b], np.arange(b - a) // 50) for a, b in [(0, 1000), (1000, 1500)]
    )
    prior = np.bincount(own.labels) / len(own.labels)
    return {fit: fit(own, rest, prior=prior) for fit in (boosted_trees, logistic_regression)}, x


LAYERS = {
    boosted_trees: lambda fitted: trees_layer(tree_arrays(fitted), columns=6),
    logistic_regression: lambda fitted: line_layer(line_arrays(fitted), columns=6),
}


@pytest.mark.parametrize("learner", LAYERS)
def test_a_baseline_is_the_same_as_a_layer(learner, fits):
    found, x = fits
    layer = LAYERS[learner](found[learner])
    expected = np.exp(found[learner].log_p(x))
    assert expected.std(axis=0).min() > 0.01
    np.testing.assert_allclose(told(layer, x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("learner", LAYERS)
def test_a_layer_is_the_same_after_it_was_saved(learner, fits, tmp_path):
    found, x = fits
    inputs = keras.Input((6,))
    model = keras.Model(inputs, LAYERS[learner](found[learner])(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras tries twice
@pytest.mark.parametrize("name", ["feature", "children"])
def test_trees_that_point_beside_their_arrays_are_refused(name, fits, tmp_path):
    found, _ = fits
    inputs = keras.Input((6,))
    layer = LAYERS[boosted_trees](found[boosted_trees])
    model = keras.Model(inputs, layer(inputs))
    array = ops.convert_to_numpy(getattr(layer, name)).copy()
    array.flat[-1] = -1
    getattr(layer, name).assign(array)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"{name} of trees must be 0 to"):
        keras.saving.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("time", [1, 3, 60])
def test_the_summary_of_a_window_is_that_of_the_fits(time):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(50, time, 4)).astype(np.float32)
    found = ops.convert_to_numpy(WindowSummary()(x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, window_summary(x), rtol=2e-6, atol=2e-6)
    if keras.backend.backend() != "jax":  # it has no float64
        np.testing.assert_array_equal(found, window_summary(x, np.float64))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="it has no float64")
def test_the_summary_does_not_depend_on_the_order_of_a_sum():
    """Of numbers whose float32 sums differ by their order: a threshold may lie in between."""
    x = np.random.default_rng(0).lognormal(0, 3, size=(200, 60, 4)).astype(np.float32)
    backwards = x[:, ::-1].copy()
    whole = slice(4, 12)  # means and deviations of all bars
    ahead, back = (ops.convert_to_numpy(WindowSummary()(w))[:, whole] for w in (x, backwards))
    np.testing.assert_array_equal(ahead, back)
    assert not np.array_equal(window_summary(x)[:, whole], window_summary(backwards)[:, whole])
