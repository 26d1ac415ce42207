import numpy as np
import pytest

from evaluation.drift import feature_drift, stability_index


def test_the_index_by_hand():
    expected = np.arange(100.0)  # ten bins of ten
    actual = np.concatenate([np.arange(0, 50, 0.5), np.arange(50.0, 100.0)])
    # 150 values: 20 in each of the lower bins, 10 in each of the upper ones; the edges 9.9, 19.8,
    # ... lie between whole values, so half values move none across more than one edge.
    shares = np.bincount(np.searchsorted(np.quantile(expected, np.arange(1, 10) / 10), actual))
    shares = shares / 150
    assert stability_index(expected, actual) == pytest.approx(
        ((shares - 0.1) * np.log(shares / 0.1)).sum()
    )
    assert stability_index(expected, expected[::-1]) == 0


def test_a_shift_is_large_and_constant_values_are_none():
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    assert stability_index(values, rng.normal(size=5000)) < 0.02
    assert stability_index(values, values + 1) > 0.5
    assert stability_index(np.zeros(10), np.zeros(7)) == 0
    assert stability_index(np.zeros(10), np.ones(7)) > 5  # never seen in training


def test_features_come_by_falling_drift_of_their_rows():
    features = np.zeros((40, 2), np.float32)
    features[:, 0] = np.tile(np.arange(20), 2)
    features[:, 1] = np.arange(40)
    found = feature_drift(features, ("same", "moved"), np.arange(20), np.arange(20, 40))
    assert list(found) == ["moved", "same"]
    assert found["same"] == 0 and found["moved"] > 1
