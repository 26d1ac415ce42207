import json
from types import SimpleNamespace

import numpy as np
import pytest
from small_market import SETTINGS

from core.i18n import speaking
from data.bars.synthetic import random_walk
from data.market.labels import CLASS_NAMES
from data.market.market import build_market, training_prior
from evaluation.cross_section import Said, correlations
from evaluation.judge import describe_splits
from evaluation.metrics import evaluate
from models.training.callbacks.collapse_alarm import LOOK_AT, MESSAGES
from models.training.collapse_forecast import forecast_collapse
from recipe.run.metrics import run_metrics, with_trials

FLAGS = SimpleNamespace(
    COST_BPS=5.0,
    SEED=3,
    CHECKPOINT_METRIC="val_mcc",
    LABEL_METHOD="volatility",
    FUTURE_WINDOW=4,
)
POOLED = {
    *("num_folds", "test", "baselines", "verdict", "skill", "costs", "cross_section", "timing"),
    "seed",
}
OF_A_FOLD = {
    *("splits", "validation", "test", "baselines", "calibration", "label", "repeats"),
    *("chosen", "dropped", "collapse", "importance", "drift", "mining", "prior"),
}


def market_of(num_folds, num_symbols=2, num_bars=1200):
    return build_market(random_walk(num_symbols, num_bars), **SETTINGS, num_folds=num_folds)


def answers(fold, rng):
    return {
        name: rng.dirichlet([2, 2, 2], len(getattr(fold, name))) for name in ("validation", "test")
    }


def alarm_of(epoch):
    alarm = {"epoch": epoch, "kind": "no signal", "favoured": "BUY", "rate": 0.9, "kl": 0.5}
    alarm |= {"spread": 0.01, "mcc": 0.0}
    text = MESSAGES["no signal"].format(**alarm, look_at=LOOK_AT["no signal"])
    return alarm | {"message": text}


def trained_on(number, fold, rng):
    """Returns a trained fold as the recipe hands it over, told apart by its number."""
    member = trained_member(number, fold, rng)
    return SimpleNamespace(
        fold=fold,
        probabilities=member.probabilities,
        calibration=member.calibration,
        members=[member],
    )


def trained_member(number, fold, rng):
    return SimpleNamespace(
        seed=number,
        probabilities=answers(fold, rng),
        best_epoch=number + 5,
        calibration={"temperature": 1.0 + number},
        forecast=forecast_collapse([0.33, 0.4, 0.33], 1.0, [1, 2, 1]),
        alarms=[alarm_of(number)],
        repeats={"epoch": number},
        mining=[{"epoch": number, "classes": {"0": {"pool": 3}, "2": {"pool": 4}}}],
        timing={
            "epochs": [
                {"all": 9.0, "training": 6.0, "outside": 1.5},  # with compilation
                {"all": 3.0, "training": 2.0, "outside": 0.5},
            ],
            "labels": 100,
            "compilation_seconds": 1.0,
            "validation_seconds": 2.0,
            "mining_seconds": 1.5,
        },
    )


@pytest.fixture(scope="module", params=[1, 3])
def run(request):
    """Returns market, trained folds, probabilities of the baselines, and the metrics."""
    rng, market = np.random.default_rng(0), market_of(request.param)
    trained = [trained_on(number, fold, rng) for number, fold in enumerate(market.folds)]
    given = [
        {"constant prior": answers(t.fold, rng), "persistence": answers(t.fold, rng)}
        for t in trained
    ]
    explained = [{"windows": number} for number in range(len(trained))]
    return market, trained, given, run_metrics(FLAGS, market, trained, given, explained)


def test_everything_of_a_fold_stands_under_it_and_the_pool_at_the_top(run):
    market, trained, _, metrics = run
    assert set(metrics) == POOLED | {"folds"}
    assert metrics["num_folds"] == len(metrics["folds"]) == len(market.folds)
    for number, (t, found) in enumerate(zip(trained, metrics["folds"], strict=True)):
        assert set(found) == OF_A_FOLD
        assert found["splits"] == describe_splits(market, t.fold)
        assert found["chosen"] == {"metric": "val_mcc", "epoch": number + 5}
        assert found["calibration"] == {"temperature": 1.0 + number}
        assert found["label"]["threshold"] == t.fold.threshold
        assert found["dropped"] == market.dropped | t.fold.dropped
        assert found["repeats"] == {"epoch": number}
        pools = {"SELL": {"pool": 3}, "BUY": {"pool": 4}}
        assert found["mining"] == [{"epoch": number, "classes": pools}]
        assert found["importance"] == {"windows": number}
        assert list(found["drift"].values()) == sorted(found["drift"].values(), reverse=True)
        assert found["collapse"]["alarms"] == [alarm_of(number)]
        assert found["collapse"]["forecast"] == t.members[0].forecast.as_dict(CLASS_NAMES)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_metrics_of_a_fold_are_those_of_its_own_windows(run, split):
    _, trained, given, metrics = run
    for t, others, found in zip(trained, given, metrics["folds"], strict=True):
        labels, prior = t.fold.labels[getattr(t.fold, split)], training_prior(t.fold)
        assert found["prior"] == prior.tolist()
        assert found[split] == evaluate(labels, t.probabilities[split], prior)
        for name, values in others.items():
            assert found["baselines"][name][split] == evaluate(labels, values[split], prior)


def test_the_pool_is_all_test_windows_together(run):
    _, trained, given, metrics = run
    labels = np.concatenate([t.fold.labels[t.fold.test] for t in trained])
    prior = np.repeat(
        [training_prior(t.fold) for t in trained], [len(t.fold.test) for t in trained], axis=0
    )
    pooled = evaluate(labels, np.concatenate([t.probabilities["test"] for t in trained]), prior)
    assert metrics["test"]["direction"] == metrics["verdict"]["direction"]["mcc"]
    for name in ("direction", "movement"):
        assert metrics["test"][name] == pytest.approx(pooled[name])
    assert metrics["test"]["confusion"] == pooled["confusion"]
    assert metrics["test"]["nll"] == pytest.approx(pooled["nll"])
    of_folds = [fold["test"]["confusion"] for fold in metrics["folds"]]
    assert np.sum(of_folds, axis=0).tolist() == metrics["test"]["confusion"]
    for name in given[0]:
        values = np.concatenate([others[name]["test"] for others in given])
        assert (
            metrics["baselines"][name]["test"]["confusion"]
            == evaluate(labels, values, prior)["confusion"]
        )
    assert metrics["verdict"]["num_folds"] == len(trained)
    assert ("walk-forward folds" in metrics["verdict"]["sentence"]) == (len(trained) > 1)


def knowing(fold, splits, rng):
    """Returns probabilities that know the labels of some splits."""
    found = answers(fold, rng)
    return found | {name: np.eye(3)[fold.labels[getattr(fold, name)]] for name in splits}


def test_the_baseline_to_beat_is_picked_on_validation_windows_and_not_on_test_windows():
    rng, market = np.random.default_rng(0), market_of(1)
    trained = [trained_on(0, fold, rng) for fold in market.folds]
    given = {
        "best on test": knowing(market.folds[0], ["test"], rng),
        "best on validation": knowing(market.folds[0], ["validation"], rng),
    }
    metrics = run_metrics(FLAGS, market, trained, [given], [{}])
    scores = {name: both["test"]["direction"] for name, both in metrics["baselines"].items()}
    assert scores["best on test"] == 1 and abs(scores["best on validation"]) < 0.5
    assert metrics["verdict"]["baseline"] == "best on validation"
    direction = metrics["verdict"]["direction"]
    assert direction["baseline"] == scores["best on validation"]


def test_validation_windows_that_another_fold_tests_on_pick_no_baseline():
    rng, market = np.random.default_rng(0), market_of(3)
    first, *later = market.folds
    tested = np.concatenate([fold.test for fold in market.folds])
    assert not np.isin(first.validation, tested).any()
    assert all(np.isin(fold.validation, tested).any() for fold in later)
    trained = [trained_on(number, fold, rng) for number, fold in enumerate(market.folds)]
    given = [
        {
            "before all tests": knowing(fold, ["validation"] if fold is first else [], rng),
            "among the tests": knowing(fold, [] if fold is first else ["validation"], rng),
        }
        for fold in market.folds
    ]
    metrics = run_metrics(FLAGS, market, trained, given, [{}] * 3)
    assert metrics["verdict"]["baseline"] == "before all tests"


@pytest.mark.parametrize("num_folds", [1, 3])
def test_symbols_are_ranked_within_the_test_bars_of_all_folds(num_folds):
    rng, market = np.random.default_rng(0), market_of(num_folds, 11, 700)
    trained = [trained_on(number, fold, rng) for number, fold in enumerate(market.folds)]
    names = ("constant prior", "boosted trees")
    given = [{name: answers(t.fold, rng) for name in names} for t in trained]
    found = run_metrics(FLAGS, market, trained, given, [{}] * num_folds)["cross_section"]
    assert list(found["baselines"]) == ["boosted trees"]  # one that was fitted
    tested = np.concatenate([fold.test for fold in market.folds])
    earlier = [np.setdiff1d(fold.validation, tested) for fold in market.folds]
    assert len(earlier[0]) and not any(len(rows) for rows in earlier[1:])

    def all_of(split, parts):
        ends = np.concatenate([getattr(t.fold, split) for t in trained])
        chosen = np.isin(ends, tested) == (split == "test")
        values = np.concatenate([part[split] for part in parts])
        return Said(market.timestamps[ends], market.symbols[ends], values), ends, chosen

    for name, parts in [
        ("model", [t.probabilities for t in trained]),
        ("boosted trees", [others["boosted trees"] for others in given]),
    ]:
        said, ends, _ = all_of("test", parts)
        before, _, chosen = all_of("validation", parts)
        before = Said(before.times[chosen], before.symbols[chosen], before.probabilities[chosen])
        settings = {"block_seconds": found["block_seconds"]}
        alone, _ = correlations(said, market.forward_return[ends], **settings)
        per_bar, _ = correlations(said, market.forward_return[ends], before=before, **settings)
        own = found["model"] if name == "model" else found["baselines"][name]
        for part, values in per_bar.items():
            assert own[part]["value"] == pytest.approx(np.nanmean(values)), (name, part)
        # Validation windows that no fold tests on are a past, too.
        assert np.isfinite(per_bar["tilt"]).sum() > np.isfinite(alone["tilt"]).sum()
    assert found["bars"] == len(np.unique(market.timestamps[tested]))
    assert (found["horizon_bars"], found["cost_bps"]) == (4, 5.0)


def test_few_symbols_are_not_ranked_and_the_sentence_is_of_the_language(run):
    metrics = run[-1]
    assert metrics["cross_section"]["most_symbols"] == 2
    told = {"cross_section": {"most_symbols": 2, "left_out": "in another language"}}
    assert with_trials(metrics | told, 1)["cross_section"] == metrics["cross_section"]


def test_timing_is_that_of_all_folds(run):
    _, trained, _, metrics = run
    assert len(metrics["timing"]["seconds_per_epoch"]) == 2 * len(trained)
    assert metrics["timing"]["labels_per_second"] == 50.0
    assert metrics["timing"]["share_outside_step"] == 0.25
    parts = {"compilation": 1.0, "validation": 2.0, "mining": 1.5}
    for part, seconds in parts.items():
        assert metrics["timing"][f"{part}_seconds"] == seconds * len(trained), part
    in_all = sum(metrics["timing"]["training_seconds_per_epoch"])
    assert metrics["timing"]["training_seconds"] == in_all - len(trained)


def test_members_of_an_ensemble_stand_beside_their_mean():
    rng, market = np.random.default_rng(0), market_of(1)
    (fold,) = market.folds
    members = [trained_member(number, fold, rng) for number in (0, 1)]
    mean = {split: answers(fold, rng)[split] for split in ("validation", "test")}
    trained = SimpleNamespace(fold=fold, probabilities=mean, calibration={}, members=members)
    metrics = run_metrics(FLAGS, market, [trained], [{"none": mean}], [{}])
    (found,) = metrics["folds"]
    labels, prior = fold.labels[fold.test], training_prior(fold)
    assert found["test"] == metrics["test"] == evaluate(labels, mean["test"], prior)
    for member, told in zip(members, found["members"], strict=True):
        assert told["test"] == evaluate(labels, member.probabilities["test"], prior)
        assert told["chosen"]["epoch"] == member.best_epoch and told["seed"] == member.seed
    alarms = [(alarm["member"], alarm["message"]) for alarm in found["collapse"]["alarms"]]
    told = [alarm_of(number)["message"] for number in (0, 1)]
    assert alarms == [(0, f"member 1, {told[0]}"), (1, f"member 2, {told[1]}")]
    assert metrics["timing"]["seconds_per_epoch"] == [9.0, 3.0] * 2


def test_the_metrics_can_be_written_as_json(run):
    metrics = run[-1]
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_trials_change_the_sentence_alone(run):
    metrics = run[-1]
    seen = with_trials(metrics, 4)
    assert "one of 4 runs" in seen["verdict"]["sentence"]
    assert "runs tried" not in metrics["verdict"]["sentence"]
    assert seen | {"verdict": 0} == metrics | {"verdict": 0}


def test_what_is_shown_is_of_the_language_and_what_is_written_english(run):
    metrics = run[-1]
    before = json.dumps(metrics)
    with speaking("ru"):
        seen = with_trials(metrics, 4)
    assert seen["verdict"]["sentence"].startswith("Модель ")
    for number, fold in enumerate(seen["folds"]):
        (alarm,) = fold["collapse"]["alarms"]
        assert alarm["message"].startswith(f"эпоха {number}: нет сигнала: сеть не различает окна")
        assert "MCC +0,000" in alarm["message"]
    assert json.dumps(metrics) == before and before.isascii()
