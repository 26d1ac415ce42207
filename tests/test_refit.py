import json
import shutil

import numpy as np
import pandas as pd
import pytest
from small_market import SETTINGS
from tiny_run import TINY, metrics_of, settings

import config
import train_model
from data.bars.synthetic import persistent_drift
from data.market.market import build_market, training_prior
from data.market.training_rows import deviation_statistics
from evaluation.figures.plain import from_plain
from evaluation.figures.scores import Verdict
from evaluation.verdict_words import remarks
from models.deployable import contract_of, load_classifier
from recipe.run.ensemble import with_all_bars
from recipe.run.market import read_market


def brief_run(bars_file, folder, **flags):
    flags = settings(XLSTM_BLOCKS="m", **flags)
    assert (
        train_model.main(["--brief", "--data", str(bars_file), "--out", str(folder), *flags]) == 0
    )
    return folder


@pytest.fixture(scope="module")
def refitted(bars_file, tmp_path_factory):
    return brief_run(bars_file, tmp_path_factory.mktemp("runs") / "refitted", REFIT=True)


@pytest.fixture(scope="module")
def whole(bars_file):
    return with_all_bars(read_market(str(bars_file), config.load(**TINY))[0])


def test_all_windows_with_a_label_are_trained_on_up_to_the_end(whole):
    first, last = whole.folds
    parts = [first.train, first.validation, first.test]
    assert np.isin(np.concatenate(parts), last.train).all()
    assert len(last.train) > sum(map(len, parts))  # those between the parts, too
    assert (last.labels[last.train] >= 0).all() and last.threshold == first.threshold
    newest = whole.timestamps[~np.isnan(whole.forward_return)].max()
    assert whole.timestamps[last.train].max() == newest


@pytest.mark.parametrize("rolling", [False, True])
def test_the_training_of_a_rolling_walk_forward_keeps_its_length(rolling):
    import dataclasses

    bars = persistent_drift(num_symbols=3, num_bars=900, seed=1)
    market = build_market(bars, dataclasses.replace(SETTINGS, num_folds=3, rolling=rolling))
    *_, before, last = with_all_bars(market).folds
    lengths = [np.ptp(market.timestamps[fold.train]) for fold in (before, last)]
    assert (lengths[0] == lengths[1]) == rolling


def test_scaling_priors_ranges_and_period_are_those_of_all_bars(refitted, whole):
    fold, model = whole.folds[-1], load_classifier(refitted / "model.keras")
    contract = contract_of(model)
    mean, variance = deviation_statistics(whole, fold)
    np.testing.assert_allclose(np.ravel(model.get_layer("scaling").mean), mean, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(model.get_layer("scaling").variance), variance, rtol=1e-6)
    np.testing.assert_allclose(contract["priors"]["training_period"], training_prior(fold))
    np.testing.assert_allclose(contract["call"]["prior"], training_prior(fold))
    ends = fold.train + whole.future_window
    assert contract["training_period"][1] == str(whole.timestamps[ends].max())[:19]


def test_epochs_and_temperature_are_those_that_validation_chose(refitted):
    metrics = json.loads((refitted / "metrics.json").read_text())
    (fold,), refit = metrics["folds"], metrics["refit"]
    assert refit["epochs"] == [fold["chosen"]["epoch"] + 1] == [len(refit["loss"][0])]
    assert refit["temperature"] == fold["calibration"]["temperature"]
    found = [
        contract_of(load_classifier(refitted / f"{name}.keras")) for name in ("model", "judged")
    ]
    assert found[0]["temperature"] == found[1]["temperature"] == refit["temperature"]
    assert metrics["timing"]["refit_seconds"] > 0


def test_all_files_say_that_the_verdict_is_not_of_the_shipped_model(refitted):
    metrics = json.loads((refitted / "metrics.json").read_text())
    assert "of the recipe, not of model.keras" in metrics["verdict"]["sentence"]
    end = metrics["refit"]["training_period"][1]
    assert end in metrics["verdict"]["sentence"]
    assert any(
        "of the recipe, not of model.keras" in text
        for text in remarks(from_plain(Verdict, metrics["verdict"]))
    )
    assert json.loads((refitted / "run.json").read_text())["refit"][1] == end
    contracts = [contract_of(load_classifier(refitted / f"{n}.keras")) for n in ("model", "judged")]
    assert "not of this model" in contracts[0]["refit"]["verdict"] and "refit" not in contracts[1]


def test_the_verdict_is_that_of_a_run_without_a_refit(refitted, bars_file, tmp_path):
    folders = [refitted, brief_run(bars_file, tmp_path / "plain")]
    history, expected = (pd.read_csv(folder / "history.csv") for folder in folders)
    pd.testing.assert_frame_equal(history, expected)
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in folders]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_a_refit_that_was_killed_goes_on_to_the_same_bits(refitted, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(refitted, folder)
    last = max((folder / "checkpoint" / "fold-1").iterdir())
    for path in (folder / "metrics.json", folder / "model.keras", last):
        path.unlink()
    assert train_model.main(["resume", str(folder)]) == 0
    ours, expected = (load_classifier(f / "model.keras").weights for f in (folder, refitted))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert metrics_of(folder) == metrics_of(refitted)
