import dataclasses
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from tiny_run import TINY, metrics_of, settings

import config
import train_model
from core.errors import InputError
from data.bars.synthetic import persistent_drift
from models.deployable import load_classifier, networks_in
from models.training.callbacks.validation import take_weights
from models.xlstm_rl_model import build_xlstm_classifier
from recipe.run.deploy import window_sequence
from recipe.run.ensemble import start_of_fold
from recipe.run.folder import versions
from recipe.run.market import read_market
from recipe.run.origin import changes_since, check_same
from recipe.run.settings import run_settings
from recipe.run.training import assemble
from recipe.run.warm import start_at, start_of

WARM = {"WARM_EPOCHS": 2}


@pytest.fixture(scope="module")
def longer_bars(tmp_path_factory):
    """The bars of `finished`, and as many again that came since."""
    path = tmp_path_factory.mktemp("bars") / "longer.parquet"
    persistent_drift(num_symbols=3, num_bars=1500, seed=1).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def market(longer_bars):
    return read_market(str(longer_bars), config.load(**TINY))[0]


def arguments(finished, bars, folder, **flags):
    given = [f"--set={name}={value}" for name, value in (WARM | flags).items()]
    return ["--from", str(finished), "--data", str(bars), "--out", str(folder), *given]


@pytest.fixture(scope="module")
def warm_run(finished, longer_bars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "warm"
    assert train_model.main(["--brief", *arguments(finished, longer_bars, folder)]) == 0
    return folder


def classifier(mean, variance, seed, **options):
    made = build_xlstm_classifier(
        6, 4, units=8, num_heads=2, feature_mean=mean, feature_variance=variance, **options
    )
    rng = np.random.default_rng(seed)
    for variable in made.trainable_variables:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    return made


def test_a_network_with_another_scaling_answers_as_the_one_that_it_starts_at():
    rng = np.random.default_rng(0)
    old = classifier(rng.normal(size=4), np.array([1.0, 4.0, 0.0, 0.01]), 1)
    new = classifier(rng.normal(size=4), np.array([2.0, 1.0, 1e-8, 0.02]), 2)
    x = rng.normal(size=(5, 6, 4)).astype("float32")
    x[..., 2] = old.get_layer("scaling").mean.numpy().ravel()[2]  # was constant
    start_at([old]).give(new, 0)
    shift = np.zeros(4, "float32")  # what was constant says the same whatever it is
    shift[2] = new.get_layer("scaling").mean.numpy().ravel()[2] - x[0, 0, 2]
    np.testing.assert_allclose(new(x + shift), old(x), atol=1e-4)


def test_so_does_one_that_reads_deviations_too():
    rng = np.random.default_rng(0)
    old, new = (
        classifier(rng.normal(size=8), rng.uniform(0.5, 2, 8), seed, deviation_bars=6)
        for seed in (1, 2)
    )
    x = rng.normal(size=(5, 6, 4)).astype("float32")
    assert np.abs(new(x) - old(x)).max() > 1e-2
    start_at([old]).give(new, 0)
    np.testing.assert_allclose(new(x), old(x), atol=1e-4)


def test_a_training_starts_with_the_answers_of_the_run_that_it_starts_from(finished, market):
    path = finished / "model.keras"
    training = assemble(run_settings(config.load(**TINY)), market, 0, start=start_of(path, market))
    windows = window_sequence(market, market.folds[0].test[:50])
    (network,) = networks_in(load_classifier(path))
    cap = network.get_layer("classifier").logit_cap  # a matter of the epoch that was chosen
    training.classifier.get_layer("classifier").logit_cap.assign(cap)
    logits = keras.Model(network.inputs, network.get_layer("classifier").output)
    take_weights(training.window_form, training.classifier)
    now = training.predict(training.window_form, windows)
    np.testing.assert_allclose(now, training.predict(logits, windows), atol=1e-4)


def test_the_epochs_of_a_warm_training_are_like_the_last_of_a_whole_one():
    flags = config.load(SUPERVISED_EPOCHS=10, WARM_EPOCHS=4, HNM_START_EPOCH=8)
    whole, warm = run_settings(flags), run_settings(flags).warm
    assert warm.training.epochs == 4
    for epoch in range(4):
        late = epoch + 6
        assert warm.training.loss.ce_weight(epoch) == whole.training.loss.ce_weight(late)
        assert warm.training.cap(epoch) == whole.training.cap(late)
        assert warm.batches.hard_share(epoch) == pytest.approx(whole.batches.hard_share(late))
    assert warm.mining.start_epoch == 2
    assert warm.network == whole.network


def test_a_whole_training_that_is_shorter_than_its_ramps_is_joined_on_the_ramp():
    flags = config.load(SUPERVISED_EPOCHS=4, WARM_EPOCHS=3, HNM_START_EPOCH=0, HNM_END_EPOCH=4)
    whole, warm = run_settings(flags), run_settings(flags).warm
    for epoch in range(3):
        assert warm.training.loss.ce_weight(epoch) == pytest.approx(
            whole.training.loss.ce_weight(epoch + 1)
        )
        assert warm.batches.hard_share(epoch) == pytest.approx(whole.batches.hard_share(epoch + 1))


def test_a_run_from_a_run_has_its_flags_and_few_epochs_and_keeps_its_start(finished, warm_run):
    before, now = (json.loads((f / "config.json").read_text()) for f in (finished, warm_run))
    assert now == before | WARM
    assert len(pd.read_csv(warm_run / "history.csv")) == 2
    told = json.loads((warm_run / "run.json").read_text())["from"]
    assert told["model"] == str(finished / "model.keras") and len(told["sha256"]) == 64
    assert (warm_run / "start.keras").read_bytes() == (finished / "model.keras").read_bytes()


@pytest.mark.slow
def test_it_goes_on_to_the_same_end_without_the_run_that_it_started_from(warm_run, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(warm_run, folder)
    for name in ("metrics.json", "checkpoint/fold-0/epoch-000001.checkpoint"):
        (folder / name).unlink()
    assert train_model.main(["resume", str(folder)]) == 0
    assert metrics_of(folder) == metrics_of(warm_run)
    assert (folder / "history.csv").read_bytes() == (warm_run / "history.csv").read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"XLSTM_UNITS": 16}, "XLSTM_UNITS must be what it was there: 8, got 16"),
        ({"FUTURE_WINDOW": 4}, "FUTURE_WINDOW must be what it was there: 3, got 4"),
        ({"TIMEFRAMES": "4"}, "TIMEFRAMES must be what it was there: [], got [4]"),
    ],
)
def test_each_difference_is_refused_in_a_line(
    changes, told, finished, longer_bars, tmp_path, capsys
):
    folder = tmp_path / "warm"
    given = arguments(finished, longer_bars, folder, **changes, LABEL_METHOD="fixed")
    assert train_model.main(given) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and any(told in line for line in lines)
    assert any("LABEL_METHOD must be what it was there: 'volatility'" in line for line in lines)
    assert not folder.exists()


def test_a_run_of_before_there_were_deviations_is_one_without(finished, tmp_path):
    before = json.loads((finished / "config.json").read_text())
    now = dict(before)
    assert before.pop("ROLLING_DEVIATIONS") is True
    (tmp_path / "config.json").write_text(json.dumps(before))
    with pytest.raises(InputError, match="ROLLING_DEVIATIONS must be what it was there: False"):
        check_same(tmp_path, now)
    check_same(tmp_path, now | {"ROLLING_DEVIATIONS": False})
    off, run_info = {"flags": now | {"ROLLING_DEVIATIONS": False}}, {"versions": versions()}
    assert changes_since(run_info, [{"flags": before}], off) == []
    (told,) = changes_since(run_info, [{"flags": before}], {"flags": now})
    assert told == "flags.ROLLING_DEVIATIONS was false and is true"


def test_bars_that_the_start_was_trained_on_must_not_judge(finished, longer_bars, tmp_path, capsys):
    shares = {"VALIDATION_FRACTION": 0.4, "TEST_FRACTION": 0.4}
    folder = tmp_path / "warm"
    assert train_model.main(arguments(finished, longer_bars, folder, **shares)) == 2
    assert "validation and test must begin after its training" in capsys.readouterr().err
    assert not folder.exists()


def test_bars_of_another_length_are_refused(finished, market):
    other = dataclasses.replace(market, interval_seconds=60.0)
    with pytest.raises(InputError, match="interval_seconds must be what it was there"):
        start_of(finished / "model.keras", other)


@pytest.mark.slow
def test_folds_start_at_the_weights_of_the_one_before(bars_file, tmp_path):
    given = settings(WALK_FORWARD_FOLDS=2, WALK_FORWARD_WARM=True, **WARM)
    folder = tmp_path / "warm"
    given += ["--brief", "--data", str(bars_file), "--out", str(folder)]
    assert train_model.main(given) == 0
    folds = pd.read_csv(folder / "history.csv").fold
    assert (folds == 0).sum() == TINY["SUPERVISED_EPOCHS"] and (folds == 1).sum() == 2


@pytest.mark.parametrize("warm", [False, True])
def test_what_a_fold_starts_at(warm):
    models = [classifier(np.zeros(4), np.ones(4), seed) for seed in (1, 2)]
    before = [SimpleNamespace(members=[SimpleNamespace(classifier=model)]) for model in models]
    wanted = run_settings(config.load(WALK_FORWARD_WARM=warm))
    given = start_at(models[:1])
    assert start_of_fold(wanted, [], given) is given
    start = start_of_fold(wanted, before, given)
    expected = models[1 if warm else 0].get_layer("classifier").kernel.numpy()
    np.testing.assert_array_equal(start.members[0]["classifier"][0], expected)
