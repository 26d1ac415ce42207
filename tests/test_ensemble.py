"""An ensemble of two: its file, its history and its figures, and how it goes on."""

import numpy as np
import pandas as pd
import pytest
from tiny_run import metrics_of, settings

import train_model
from data.bars import read_bars
from models.calibration import fit_temperature
from models.deployable import contract_of, load_classifier
from recipe.predict import classify

P = ["p_sell", "p_hold", "p_buy"]
# A warm-up of the loss that lasts: members of different epochs have other weights to undo.
CHANGES = {"AFL_WARMUP_EPOCHS": 3}


def trained(bars_file, folder, **changes):
    flags = settings(**(CHANGES | changes))
    assert train_model.main(["--data", str(bars_file), "--out", str(folder), *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def pair(bars_file, tmp_path_factory):
    return trained(bars_file, tmp_path_factory.mktemp("runs") / "pair", ENSEMBLE_SIZE=2)


@pytest.fixture(scope="module")
def second(bars_file, tmp_path_factory):
    """The second member of the pair as a run of its own."""
    return trained(bars_file, tmp_path_factory.mktemp("runs") / "second", SEED=1)


def without(column, table):
    return table.drop(columns=column).reset_index(drop=True)


def test_a_member_is_what_a_run_with_its_seed_is(pair, second):
    history = pd.read_csv(pair / "history.csv")
    assert history.columns[:3].tolist() == ["fold", "member", "epoch"]
    assert history["member"].tolist() == [0, 0, 0, 1, 1, 1]
    own, alone = history[history["member"] == 1], pd.read_csv(second / "history.csv")
    pd.testing.assert_frame_equal(without("member", own), alone, check_exact=True)
    (fold,), (apart,) = metrics_of(pair)["folds"], metrics_of(second)["folds"]
    member = fold["members"][1]
    assert member == {name: apart[name] for name in member if name != "seed"} | {"seed": 1}
    assert [part["seed"] for part in fold["members"]] == [0, 1] and "epoch" not in fold["chosen"]


def test_the_file_gives_the_mean_of_the_members_with_a_temperature(pair, second, bars_file):
    model, contract = load_classifier(pair / "model.keras"), None
    contract = contract_of(model)
    table = pd.read_parquet(pair / "predictions.parquet")
    bars = read_bars(bars_file)
    found = table[["timestamp", "symbol"]].merge(classify(model, bars))[P]
    np.testing.assert_allclose(found, table[P], rtol=0, atol=1e-6)
