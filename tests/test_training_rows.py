from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from data.market.training_rows import training_ranges, unfamiliar_shares, warnings
from models.deployable import contract_of, load_classifier
from recipe.serve.predict import classify

PERIOD = ["2020-01-01 00:00:00", "2020-12-31 00:00:00"]


def table(unfamiliar, newest="2021-02-01"):
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(newest, tz="UTC"),
            "symbol": [f"S{number}" for number in range(len(unfamiliar))],
            "unfamiliar": unfamiliar,
        }
    )


def test_ranges_are_those_of_the_rows_that_training_shows():
    features = np.column_stack([np.arange(2001.0), -np.arange(2001.0)]).astype(np.float32)
    features = np.concatenate([features, np.full((500, 2), 1e9, np.float32)])  # later bars
    market = SimpleNamespace(features=features, symbols=np.zeros(2501), sequence_length=3)
    low, high = training_ranges(market, SimpleNamespace(train=np.arange(2, 2001)))
    np.testing.assert_allclose([low, high], [[2, -1998], [1998, -2]])


def test_the_share_counts_the_values_of_each_window_that_lie_outside():
    contract = {"sequence_length": 2, "training_ranges": [[0.0, -1.0], [1.0, 0.1]]}
    features = np.float32([[0, 0], [2, 0.1], [0.5, -2], [-1, 9], [1, -1]])
    shares = unfamiliar_shares(contract, features, np.array([1, 2, 3, 4]))
    assert shares.tolist() == [0.25, 0.5, 0.75, 0.5]


def test_a_model_without_ranges_knows_no_share():
    shares = unfamiliar_shares({"sequence_length": 2}, np.zeros((4, 1)), np.array([1, 3]))
    assert np.isnan(shares).tolist() == [True, True]
    assert list(warnings({}, table(shares))) == []


@pytest.mark.parametrize(("num_high", "warned"), [(0, False), (4, False), (5, True)])
def test_many_unfamiliar_windows_give_one_warning(num_high, warned):
    shares = [0.06] * num_high + [0.05] * (100 - num_high)
    found = list(warnings({"training_period": PERIOD}, table(shares)))
    assert len(found) == warned
    if warned:
        assert "in 5 of 100 windows (S0, S1, S2, ...)" in found[0]


@pytest.mark.parametrize(("newest", "old"), [("2021-06-30", False), ("2021-07-03", True)])
def test_a_model_is_old_half_its_training_period_after_it(newest, old):
    found = list(warnings({"training_period": PERIOD}, table([0.0], newest)))
    assert [("the model is old" in text and newest in text) for text in found] == [True] * old


def test_a_trained_model_is_at_home_in_its_bars_and_not_in_others(finished, bars_file):
    model, bars = load_classifier(finished / "model.keras"), pd.read_parquet(bars_file)
    contract, notes = contract_of(model), []
    assert len(contract["training_ranges"][0]) == len(contract["feature_names"])
    home = classify(model, bars, note=notes.append)
    first, last = (pd.Timestamp(time, tz="UTC") for time in contract["training_period"])
    trained = home[home["timestamp"].between(first, last)]
    assert 0 < trained["unfamiliar"].mean() < 0.004 and not notes
    numbers = ["open", "high", "low", "close"]
    wild = bars.assign(**np.exp(5 * (np.log(bars[numbers]) - np.log(100.0))))
    assert classify(model, wild, note=notes.append)["unfamiliar"].mean() > 0.1
    assert len(notes) == 1 and "outside the training range" in notes[0]
