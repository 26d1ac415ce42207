"""A model of several: its weights, its file, what a run tells of it, and how it goes on."""

import contextlib
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from model_files import make_model
from tiny_run import TINY, metrics_of, settings, undrawn

import config
import recipe.run.ensemble
import recipe.run.run
import train_model
from core.errors import InputError
from core.priors import fit_temperature, tempered
from data.bars.read import read_bars
from data.bars.synthetic import persistent_drift
from data.market.market import training_prior
from evaluation import judge
from evaluation.baselines.fold import FITTED, fit_learners
from evaluation.blend.weights import blend_weights
from models.deployable import contract_of, load_classifier, networks_in, save_model
from models.model_file import Bounds
from recipe.run.deploy import window_sequence
from recipe.run.ensemble import refit_training, train_fold, with_all_bars
from recipe.run.market import read_market
from recipe.run.settings import run_settings
from recipe.run.training import assemble
from recipe.run.warm import start_at
from recipe.serve import export
from recipe.serve.predict import classify

FLAGS = TINY | {"XLSTM_BLOCKS": "m", "SUPERVISED_EPOCHS": 1, "LR_WARMUP_EPOCHS": 0}
BOTH = ("trees", "regression")
SHARES = ["p_sell", "p_hold", "p_buy"]


@pytest.fixture(scope="module")
def market(bars_file):
    return read_market(str(bars_file), config.load(**FLAGS))[0]


def fold_of(market, folder, **changes):
    return trained(assemble(run_settings(config.load(**(FLAGS | changes))), market, 0), folder)


def trained(training, folder):
    return train_fold(
        training,
        folder,
        resume=False,
        note=lambda text: None,
        on_member=lambda training: None,
        on_rows=lambda rows: None,
    )


@pytest.fixture(scope="module")
def result(market, tmp_path_factory):
    return fold_of(market, tmp_path_factory.mktemp("blend"), BLEND=BOTH)


@pytest.fixture(scope="module")
def refitted(market, result, tmp_path_factory):
    """The blend of the fold once more, trained on all bars."""
    wanted = run_settings(config.load(**FLAGS, BLEND=BOTH))
    return trained(refit_training(wanted, market, [result], None), tmp_path_factory.mktemp("again"))


@contextlib.contextmanager
def counted_fits():
    """Gives the list of what is fitted inside: names of the baselines of each fit."""
    asked = []

    def counted(*arguments, names=tuple(FITTED), **more):
        asked.append(tuple(names))
        return fit_learners(*arguments, names=names, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe.run.run, "fit_learners", counted)
        patch.setattr(recipe.run.ensemble, "fit_learners", counted)
        yield asked


@pytest.fixture(scope="module")
def run(bars_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "one"
    command = ["--data", str(bars_file), "--out", str(folder), *settings(**FLAGS, BLEND=BOTH)]
    with counted_fits() as asked, undrawn():
        assert train_model.main(command) == 0
    assert asked == [tuple(FITTED)]  # for the blend and for the verdict
    return folder


@pytest.mark.parametrize("words", ["", "forest", "none,trees"])
def test_members_that_are_none_are_refused(words):
    with pytest.raises(InputError, match="BLEND"):
        config.load(BLEND=words)


@pytest.mark.slow
def test_without_a_blend_the_network_is_what_it_is_inside_one(market, result, tmp_path):
    alone = fold_of(market, tmp_path)
    assert alone.blend is None and "blend" not in contract_of(alone.deployed.model)
    for split, expected in alone.deployed.probabilities.items():
        np.testing.assert_array_equal(result.blend.network.probabilities[split], expected)


def test_the_file_gives_the_weighted_mean_with_one_temperature(market, result, tmp_path):
    save_model(result.deployed.model, tmp_path / "model.keras")
    model = load_classifier(tmp_path / "model.keras")
    fold, said = market.folds[0], result.blend.probabilities
    prior, labels = training_prior(fold), fold.labels[fold.validation]
    blocks = judge.blocks_of(market, fold.validation)
    own = [p["validation"][np.arange(len(labels)), labels] for p in said.values()]
    weights = blend_weights(np.stack(own, axis=1), blocks)
    assert list(said) == ["network", "boosted trees", "logistic regression"]
    assert contract_of(model)["blend"] == dict(zip(said, weights.tolist(), strict=True))

    mean = sum(w * p["validation"] for w, p in zip(weights, said.values(), strict=True))
    temperature = fit_temperature(np.log(mean), labels, prior, blocks)
    assert contract_of(model)["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert_it_answers_the_weighted_mean(model, market, result)


def assert_it_answers_the_weighted_mean(model, market, result):
    contract, fold = contract_of(model), result.fold
    parts = zip(contract["blend"].values(), result.blend.probabilities.values(), strict=True)
    mean = np.log(sum(weight * said["test"] for weight, said in parts))
    expected = np.exp(tempered(mean, training_prior(fold), contract["temperature"]))
    found = model.predict(window_sequence(market, fold.test), verbose=0)
    np.testing.assert_allclose(found, result.deployed.probabilities["test"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_refit_keeps_what_validation_chose(result, refitted):
    before, now = result.blend, refitted.blend
    assert now.weights == before.weights
    found = [
        (one.deployed.calibration["temperature"], one.blend.network.calibration["temperature"])
        for one in (result, refitted)
    ]
    assert found[0] == found[1] and found[0][0] != found[0][1]
    for name, learner in now.learners.items():
        chosen, fitted = before.learners[name].fitted, learner.fitted
        assert (fitted.rounds, fitted.penalty) == (chosen.rounds, chosen.penalty)
        assert fitted.temperature == chosen.temperature


def test_a_refit_fits_all_members_to_all_bars(market, refitted):
    whole = with_all_bars(market).folds[-1]
    line = refitted.blend.learners["logistic regression"].fitted
    scaler, _, regression = (step for _, step in line.estimator.steps)
    assert scaler.n_samples_seen_ == len(whole.train) > len(market.folds[0].train)
    assert regression.C == pytest.approx(1 / (line.penalty * len(whole.train)))
    trees = refitted.blend.learners["boosted trees"].fitted
    assert trees.estimator.n_iter_ == trees.rounds
    for fitted in (line, trees):
        np.testing.assert_array_equal(fitted.prior, training_prior(whole))


def test_the_file_of_a_refit_answers_the_weighted_mean_too(market, refitted, tmp_path):
    save_model(refitted.deployed.model, tmp_path / "model.keras")
    model = load_classifier(tmp_path / "model.keras")
    assert_it_answers_the_weighted_mean(model, with_all_bars(market), refitted)
    contract = contract_of(model)
    assert "not of this model" in contract["refit"]["verdict"] and len(contract["blend"]) == 3


def test_a_training_can_start_at_the_network_inside_a_blend(refitted, tmp_path):
    save_model(refitted.deployed.model, tmp_path / "model.keras")
    found = start_at(networks_in(load_classifier(tmp_path / "model.keras")))
    expected = start_at([member.classifier for member in refitted.members])
    for own, theirs in zip(found.members, expected.members, strict=True):
        assert own.keys() == theirs.keys() and len(own) > 3
        for name in own:
            for a, b in zip(own[name], theirs[name], strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_run_tells_weights_and_figures_of_each_member(run):
    metrics = metrics_of(run)
    (fold,) = metrics["folds"]
    names = ["blend", "network", "boosted trees", "logistic regression"]
    assert list(fold["blend"]["weights"]) == names[1:]
    for split in ("validation", "test"):
        told = fold["blend"][split]
        assert list(told) == names
        assert told["blend"]["nll"] == pytest.approx(fold[split]["nll"])
        assert told["network"]["nll"] == pytest.approx(fold["blend"]["network"][split]["nll"])
        for name in names[2:]:
            assert told[name]["nll"] == pytest.approx(fold["baselines"][name][split]["nll"])
            low, high = told[name]["difference_interval"]
            assert low < told["blend"]["nll"] - told[name]["nll"] < high
            assert told[name]["interval"][0] < told[name]["nll"] < told[name]["interval"][1]
    assert metrics["blend"]["test"] == fold["blend"]["test"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(f"{weight:.4f}" in page for weight in fold["blend"]["weights"].values())


def test_live_answers_are_those_of_the_run(run, bars_file):
    table = pd.read_parquet(run / "predictions.parquet")
    answers = classify(load_classifier(run / "model.keras"), read_bars(bars_file))
    keys = ["timestamp", "symbol"]
    now = table[keys].merge(answers, on=keys)
    np.testing.assert_allclose(now[SHARES], table[SHARES], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tf2onnx", "onnxruntime")),
    reason="needs the extra `export` (tf2onnx, onnxruntime)",
)
def test_an_exported_blend_answers_as_the_model_does(market, result, tmp_path):
    windows = window_sequence(market, market.folds[0].test)[0][0]
    for kind in ("onnx", "saved_model"):
        folder = tmp_path / kind
        assert export.export(result.deployed.model, kind, folder, windows) < 1e-6
        assert json.loads((folder / "contract.json").read_text())["blend"]


@pytest.mark.slow
def test_each_fold_has_a_blend_of_its_own(bars_file, tmp_path):
    chosen = settings(**FLAGS, BLEND="regression", WALK_FORWARD_FOLDS=2)
    folder = tmp_path / "run"
    command = ["--brief", "--data", str(bars_file), "--out", str(folder), *chosen]
    with counted_fits() as asked:
        assert train_model.main(command) == 0
    assert asked == [("logistic regression",)] * 2  # a brief run fits no more than it needs
    metrics = metrics_of(folder)
    first, last = (fold["blend"]["test"]["blend"]["nll"] for fold in metrics["folds"])
    assert min(first, last) < metrics["blend"]["test"]["blend"]["nll"] < max(first, last)


@pytest.mark.slow
def test_a_run_refits_its_blend_and_is_retrained_as_one(bars_file, tmp_path):
    folder, bars = tmp_path / "run", tmp_path / "newer.parquet"
    chosen = settings(**FLAGS, BLEND=BOTH, REFIT=True, WARM_EPOCHS=1)
    assert train_model.main(["--data", str(bars_file), "--out", str(folder), *chosen]) == 0
    metrics = metrics_of(folder)
    (fold,) = metrics["folds"]
    assert metrics["refit"]["blend"] == fold["blend"]["weights"]
    assert metrics["refit"]["temperature"] == fold["calibration"]["temperature"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "of the recipe, not of model.keras" in page
    table, read = pd.read_parquet(folder / "predictions.parquet"), read_bars(bars_file)
    keys = ["timestamp", "symbol"]
    judged, shipped = (
        table[keys].merge(classify(load_classifier(folder / f"{name}.keras"), read), on=keys)
        for name in ("judged", "model")
    )
    np.testing.assert_allclose(judged[SHARES], table[SHARES], rtol=0, atol=1e-6)
    assert (shipped[SHARES] - table[SHARES]).abs().to_numpy().max() > 1e-4
    persistent_drift(num_symbols=3, num_bars=1500, seed=1).to_parquet(bars)
    assert train_model.main(["retrain", str(folder), "--data", str(bars)]) == 0
    (new,) = (folder / "retrained").iterdir()
    contracts = [contract_of(load_classifier(f / "model.keras")) for f in (folder, new)]
    assert all(len(contract["blend"]) == 3 and contract["refit"] for contract in contracts)
    assert contracts[0]["training_period"][1] < contracts[1]["training_period"][1]


@pytest.mark.slow
def test_a_run_that_goes_on_ends_as_the_one_before(run):
    """What was trained is kept; the fits are made anew, and are the same."""
    before, bytes_before = metrics_of(run), (run / "predictions.parquet").read_bytes()
    (run / "metrics.json").unlink()
    assert train_model.main(["resume", str(run)]) == 0
    assert metrics_of(run) == before
    assert (run / "predictions.parquet").read_bytes() == bytes_before


@pytest.mark.slow
def test_an_ensemble_is_one_member_of_a_blend(market, tmp_path):
    found = fold_of(market, tmp_path, BLEND=("trees",), ENSEMBLE_SIZE=2)
    assert list(found.blend.weights) == ["network", "boosted trees"]
    save_model(found.deployed.model, tmp_path / "model.keras")
    answers = load_classifier(tmp_path / "model.keras").predict(
        window_sequence(market, market.folds[0].test), verbose=0
    )
    np.testing.assert_allclose(answers, found.deployed.probabilities["test"], rtol=0, atol=1e-6)
    apart = [
        np.abs(member.alone.probabilities["test"] - found.blend.network.probabilities["test"])
        for member in found.members
    ]
    assert len(found.members) == 2 and min(map(np.max, apart)) > 1e-4


def test_a_blend_beyond_the_bounds_is_refused(result, tmp_path):
    save_model(result.deployed.model, tmp_path / "model.keras")
    save_model(make_model(), tmp_path / "small.keras")
    small = Bounds(weights=100_000)
    load_classifier(tmp_path / "small.keras", bounds=small)
    with pytest.raises(InputError, match="it would take"):
        load_classifier(tmp_path / "model.keras", bounds=Bounds(weights=3_000))
