"""Answers are numbers: bars that features cannot hold, and models that answer none, are refused."""

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from data.bars.checks import LARGEST_PRICE, LARGEST_VOLUME, LEAST_PRICE, check_bars
from data.bars.synthetic import persistent_drift
from data.features.features import compute_features
from data.features.indicators import WARM_UP_BARS
from models.deployable import load_classifier
from recipe.live.answers import sound
from recipe.serve.inference import inference_windows
from recipe.serve.predict import classify

PRICES = ["open", "high", "low", "close"]


def bars(num=400):
    return persistent_drift(num_symbols=1, num_bars=num, seed=0)


def wild_bars(random, num=300):
    """Returns bars whose prices and volumes jump between all sizes that are allowed."""
    sizes = random.choice([1.0, 30.0, 100.0], num)
    logs = random.uniform(-1, 1, num) * np.minimum(sizes, np.log(LARGEST_PRICE))
    close = np.clip(np.exp(logs), LEAST_PRICE, LARGEST_PRICE)
    held = random.random() < 0.5
    close = np.repeat(close[::10], 10) if held else close
    frame = bars(num).iloc[:num].copy()
    open_ = np.concatenate([close[:1], close[:-1]])
    frame["open"], frame["close"] = open_, close
    frame["high"], frame["low"] = np.maximum(open_, close), np.minimum(open_, close)
    frame["volume"] = random.choice([0.0, 1e-300, 1.0, 1e30, LARGEST_VOLUME], num)
    return frame


@pytest.mark.parametrize("seed", range(20))
def test_features_of_all_bars_that_are_allowed_are_finite(seed):
    frame = check_bars(wild_bars(np.random.default_rng(seed)))
    values = compute_features(frame, intraday=True).to_numpy()[WARM_UP_BARS:]
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("volume", 1e300, "volume must lie between 0 and 1e+100, got 1e+300"),
        ("high", 1e200, "high must lie between 1e-18 and 1e+18, got 1e+200"),
        ("low", 1e-200, "low must lie between 1e-18 and 1e+18, got 1e-200"),
    ],
)
def test_bars_beyond_what_features_hold_are_refused_with_their_place(name, value, words):
    frame = bars()
    frame.loc[7, name] = value
    with pytest.raises(InputError) as raised:
        check_bars(frame)
    (fault,) = raised.value.faults
    assert "symbol SYN0, row 8" in fault and words in fault


def test_downloads_keep_the_bars_that_can_be_read():
    edge = np.array([LEAST_PRICE, LARGEST_PRICE, LEAST_PRICE / 2, LARGEST_PRICE * 2, 1.0, 1.0])
    volume = np.array([0, LARGEST_VOLUME, 0, 0, LARGEST_VOLUME * 2, np.nan])
    kept = sound(edge, edge, edge, edge, volume)
    assert kept.tolist() == [True, True, False, False, False, False]
    frame = bars(2)
    check_bars(frame.assign(volume=volume[:2], **dict.fromkeys(PRICES, edge[:2])))


@pytest.fixture(scope="module")
def model(finished):
    return load_classifier(finished / "model.keras")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_of_broken_weights_is_told_with_symbol_and_bar(model, bars_file, value):
    given = pd.read_parquet(bars_file)
    weights = model.get_weights()
    try:
        model.set_weights([np.full_like(w, value) for w in weights])
        with pytest.raises(InputError, match="for SYN0 at .* UTC it says .*nan"):
            classify(model, given)
    finally:
        model.set_weights(weights)


def test_features_that_are_no_numbers_are_told_with_symbol_and_bar(model, bars_file, monkeypatch):
    from recipe.serve import inference

    made, contract = inference.rows_of, model.get_layer("contract").contract

    def broken(*args):
        features, *others = made(*args)
        features[600, 3] = np.inf
        return features, *others

    given = pd.read_parquet(bars_file)
    asked = inference_windows(contract, given)
    monkeypatch.setattr(inference, "rows_of", broken)
    with pytest.raises(InputError) as raised:
        inference_windows(contract, given)
    first = asked.about.iloc[int((asked.ends >= 600).argmax())]
    (fault,) = raised.value.faults
    assert f"window that ends at {first['timestamp']:%Y-%m-%d %H:%M} UTC" in fault
    assert first["symbol"] in fault and contract["feature_names"][3] in fault


def test_answers_that_are_no_probabilities_are_refused(model, bars_file):
    asked = inference_windows(model.get_layer("contract").contract, pd.read_parquet(bars_file))
    good = np.full((len(asked.ends), 3), 1 / 3, np.float32)
    assert len(asked.table(good)) == len(good)
    for odd in ([0.5, 0.6, 0.2], [1.2, -0.1, -0.1], [np.nan] * 3, [0, 0, 0]):
        wrong = good.copy()
        wrong[5] = odd
        with pytest.raises(InputError, match=r"1 of [\d,]+ windows.: its weights are broken"):
            asked.table(wrong)


def test_a_contract_is_checked_whatever_runs_the_model(model, bars_file):
    contract = dict(model.get_layer("contract").contract) | {"interval_seconds": float("nan")}
    with pytest.raises(InputError, match="the model: interval_seconds of its contract"):
        inference_windows(contract, pd.read_parquet(bars_file))
