"""An ensemble of two: its members, its mean, its file, and how it goes on."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_run import training_run
from tiny_run import TINY, settings

import config
import train_model
from core.priors import fit_temperature, tempered
from data.bars.read import read_bars
from data.market.market import training_prior
from evaluation.judge import blocks_of
from evaluation.report.report import report_page
from models.deployable import contract_of, load_classifier, save_model
from models.prediction import predict_windows
from recipe.run.deploy import window_sequence
from recipe.run.ensemble import train_fold
from recipe.run.fold import train
from recipe.run.market import read_market
from recipe.run.settings import run_settings
from recipe.run.training import assemble
from recipe.serve.predict import classify

# Not the whole focal loss in any epoch but the last: members of other epochs undo other losses.
FLAGS = TINY | {"XLSTM_BLOCKS": "m", "AFL_WARMUP_EPOCHS": 3, "LR_BASE": 1e-2}


class Interrupted(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def market(bars_file):
    return read_market(str(bars_file), config.load(**FLAGS))[0]


def ensemble(market, folder, *, stop=lambda member, epochs: False, resume=False, **changes):
    """Returns the trained fold and its history; ends where `stop` says so."""
    history = []

    def on_member(training):
        if stop(training.member, 0):
            raise Interrupted

    def on_rows(rows):
        history[:] = rows
        if stop(rows[-1].get("member"), rows[-1]["epoch"] + 1):
            raise Interrupted

    result = train_fold(
        assemble(run_settings(config.load(**(FLAGS | changes))), market, 0),
        folder,
        resume=resume,
        note=lambda text: None,
        on_member=on_member,
        on_rows=on_rows,
    )
    return result, history


@pytest.fixture(scope="module")
def folder_of_pair(tmp_path_factory):
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def pair(market, folder_of_pair):
    return ensemble(market, folder_of_pair, ENSEMBLE_SIZE=2)


@pytest.fixture(scope="module")
def second(market, tmp_path_factory):
    """What the second member's seed gives alone."""
    return train(
        assemble(run_settings(config.load(**FLAGS, SEED=1)), market, 0),
        tmp_path_factory.mktemp("second"),
        resume=False,
        note=lambda text: None,
        on_rows=lambda rows: None,
    )


def same(ours, expected):
    return all(np.array_equal(ours[split], expected[split]) for split in ("validation", "test"))


@pytest.mark.slow  # that a member is the training with its seed is also seen below
def test_an_ensemble_of_one_is_the_training_alone(market, second, tmp_path):
    result, history = ensemble(market, tmp_path, SEED=1)
    assert history == second.rows
    assert same(result.deployed.probabilities, second.alone.probabilities)
    assert contract_of(result.deployed.model) == contract_of(second.alone.model)
    assert (tmp_path / "epoch-000002.checkpoint").exists()


def test_a_member_is_the_training_with_its_seed(pair, second):
    result, history = pair
    first, last = result.members
    assert (first.seed, last.seed) == (0, 1)
    assert same(last.alone.probabilities, second.alone.probabilities)
    assert not same(first.alone.probabilities, second.alone.probabilities)
    assert history[3:] == [{"member": 1, **row} for row in second.rows]
    assert [row["member"] for row in history] == [0, 0, 0, 1, 1, 1]


def test_what_the_parts_answer_is_what_the_whole_model_says(market, pair):
    deployed, (fold,) = pair[0].deployed, market.folds
    for split in ("validation", "test"):
        windows = window_sequence(market, getattr(fold, split))
        whole = predict_windows(deployed.model, windows)
        np.testing.assert_allclose(deployed.probabilities[split], whole, rtol=0, atol=2e-7)
        assert np.array_equal(deployed.answer(windows), deployed.probabilities[split])


def test_no_two_members_of_a_run_share_a_seed(bars_file):
    flags = config.load(**FLAGS, ENSEMBLE_SIZE=3, WALK_FORWARD_FOLDS=2, SEED=5)
    market, _ = read_market(str(bars_file), flags)
    last_and_first = [(0, 2), (1, 0)]  # fold, member
    seeds = [assemble(run_settings(flags), market, *place).seed for place in last_and_first]
    assert seeds == [7, 8]


def test_the_file_gives_the_mean_of_restored_members_with_one_temperature(market, pair, tmp_path):
    result, _ = pair
    save_model(result.deployed.model, tmp_path / "model.keras")
    model = load_classifier(tmp_path / "model.keras")
    fold = market.folds[0]
    prior = training_prior(fold)
    restored = {
        split: np.mean(
            [
                np.exp(tempered(np.log(m.alone.probabilities[split].astype(float)), prior, 1 / t))
                for m in result.members
                for t in [m.alone.calibration["temperature"]]  # their own is not in the mean
            ],
            axis=0,
        )
        for split in ("validation", "test")
    }
    contract = contract_of(model)
    temperature = contract["temperature"]
    ends = fold.validation
    fitted = fit_temperature(
        np.log(restored["validation"]), fold.labels[ends], prior, blocks_of(market, ends)
    )
    assert temperature == pytest.approx(fitted, rel=1e-3)
    assert result.deployed.calibration == {
        "temperature": temperature,
        "temperature_prior": prior.tolist(),
    }
    weights = [part["ce_weight"] for part in contract["restoration"]["members"]]
    assert weights == [m.alone.calibration["ce_weight"] for m in result.members]
    expected = np.exp(tempered(np.log(restored["test"]), prior, temperature))
    found = model.predict(window_sequence(market, fold.test), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, result.deployed.probabilities["test"], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_ensemble_goes_on_as_if_never_interrupted(
    market, pair, folder_of_pair, tmp_path
):
    shutil.copytree(folder_of_pair, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "member-1")  # as if it was killed between the two
    with pytest.raises(Interrupted):
        ensemble(
            market,
            tmp_path,
            stop=lambda *now: now == (1, 2),  # member, its epochs
            resume=True,
            ENSEMBLE_SIZE=2,
        )
    result, history = ensemble(market, tmp_path, resume=True, ENSEMBLE_SIZE=2)
    assert len(result.members[0].record.timing["epochs"]) == 0  # nothing was trained again
    assert len(result.members[1].record.timing["epochs"]) == 1
    assert history == pair[1]
    assert same(result.deployed.probabilities, pair[0].deployed.probabilities)


@pytest.mark.slow  # the words are also seen by test_console.py, the figures by test_run_metrics.py
def test_a_run_tells_the_spread_of_its_members(bars_file, tmp_path, capsys):
    folder = tmp_path / "run"
    short = settings(XLSTM_BLOCKS="m", ENSEMBLE_SIZE=2, SUPERVISED_EPOCHS=1, LR_WARMUP_EPOCHS=0)
    assert train_model.main(["--data", str(bars_file), "--out", str(folder), *short]) == 0
    fold = json.loads((folder / "metrics.json").read_text())["folds"][0]
    told = capsys.readouterr().out
    assert "member     2 of 2, seed 1" in told
    (line,) = [line for line in told.splitlines() if line.startswith("members ")]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for row in [fold, *fold["members"]]:
        for figure in ("mcc", "nll"):
            assert f"{row['test'][figure]:.4f}" in line
            assert f"{row['validation'][figure]:.4f}" in page
    assert page.count("Training of member") == 2 and "epoch" not in fold["chosen"]
    history = pd.read_csv(folder / "history.csv")
    assert history[["fold", "member", "epoch"]].to_numpy().tolist() == [[0, 0, 0], [0, 1, 0]]

    answers = classify(load_classifier(folder / "model.keras"), read_bars(bars_file))
    table = pd.read_parquet(folder / "predictions.parquet")
    keys, given = ["timestamp", "symbol"], ["p_sell", "p_hold", "p_buy"]
    now = table[keys].merge(answers, on=keys)
    np.testing.assert_allclose(now[given], table[given], rtol=0, atol=1e-6)


def test_alarms_of_two_members_are_told_apart():
    metrics, history, predictions = training_run()
    (fold,) = metrics.folds
    alarms = [
        replace(
            fold.collapse.alarms[0], epoch=number, member=number, message=f"member {number + 1}"
        )
        for number in (0, 1)
    ]
    fold = replace(fold, collapse=replace(fold.collapse, alarms=alarms))
    metrics = replace(metrics, folds=[fold])
    page = report_page("run", metrics=metrics, history=history, predictions=predictions)
    assert "<li>member 1</li>" in page and "<li>member 2</li>" in page
