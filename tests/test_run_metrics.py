import json
from dataclasses import replace

import numpy as np
import pytest
from small_market import SETTINGS

from core.i18n import speaking
from data.bars.synthetic import random_walk
from data.market.labels import CLASS_NAMES
from data.market.market import build_market, training_prior
from evaluation.across.cross_section import Forecasts, correlations
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.run import Importance, Metrics
from evaluation.figures.scores import CrossSection, FewSymbols
from evaluation.judge import describe_splits
from evaluation.metrics import evaluate
from models.training.callbacks.collapse_alarm import message
from models.training.collapse_forecast import forecast_collapse
from recipe.run.deploy import Deployed
from recipe.run.ensemble import FoldResult
from recipe.run.fold import Record, TrainedMember
from recipe.run.metrics import in_words, run_metrics

CHOSEN = {"monitor": "val_mcc", "cost_bps": 5.0, "seed": 3}
POOLED = {
    *("num_folds", "test", "baselines", "verdict", "skill", "costs", "cross_section", "timing"),
    "seed",
}
OF_A_FOLD = {
    *("splits", "validation", "test", "baselines", "calibration", "label", "repeats"),
    *("chosen", "dropped", "collapse", "importance", "drift", "mining", "prior"),
}


def market_of(num_folds, num_symbols=2, num_bars=1200):
    bars = random_walk(num_symbols, num_bars)
    return build_market(bars, replace(SETTINGS, num_folds=num_folds))


def answers(fold, rng):
    return {
        name: rng.dirichlet([2, 2, 2], len(getattr(fold, name))) for name in ("validation", "test")
    }


def alarm_of(epoch):
    alarm = {"epoch": epoch, "kind": "no signal", "favoured": "BUY", "rate": 0.9, "share": 0.3}
    return alarm | {"kl": 0.5, "spread": 0.01, "mcc": 0.0}


def pool_of(size):
    pool = {"scored": 9, "ranks": [0.1, 0.2, 0.3], "p_true": 0.25, "pool": size}
    shares = {"share_asked": 0.5, "share_given": 0.4, "multiplier": 2.0, "effective_size": 0.7}
    return pool | shares


def repeats_of(epoch):
    drawn = {"windows": 9, "repeats": 1.5}
    sizes = {"epoch": epoch, "batches": 6, "reached": 1.0, "largest": 2.0}
    return sizes | {"classes": {"SELL": drawn}, "symbols": {"A": drawn}}


def result_of(number, fold, rng, baselines):
    """Returns what a fold gave, told apart by its number."""
    member = trained_member(number, fold, rng)
    return FoldResult(fold, member.alone, [member], importance_of(number), baselines)


def importance_of(number):
    return Importance(windows=number, nll=1.0, features=[], lookback=[])


def trained_member(number, fold, rng):
    return TrainedMember(
        seed=number,
        classifier=None,
        alone=Deployed(None, {"temperature": 1.0 + number}, answers(fold, rng), (None, None)),
        rows=[],
        best_epoch=number + 5,
        record=record_of(number),
    )


def record_of(number):
    return Record(
        forecast=forecast_collapse([0.33, 0.4, 0.33], 1.0, [1, 2, 1]),
        alarms=[alarm_of(number)],
        repeats=repeats_of(number),
        mining=[{"epoch": number, "scored": 9, "classes": {"0": pool_of(3), "2": pool_of(4)}}],
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
    """Returns market, what each fold gave, and the metrics."""
    rng, market = np.random.default_rng(0), market_of(request.param)
    results = [
        result_of(
            number,
            fold,
            rng,
            {"constant prior": answers(fold, rng), "persistence": answers(fold, rng)},
        )
        for number, fold in enumerate(market.folds)
    ]
    return market, results, run_metrics(market, results, **CHOSEN)


def test_everything_of_a_fold_stands_under_it_and_the_pool_at_the_top(run):
    market, results, metrics = run
    assert (
        from_plain(Metrics, json.loads(json.dumps(to_plain(metrics), allow_nan=False))) == metrics
    )
    metrics = to_plain(metrics)
    assert set(metrics) == POOLED | {"folds"}
    assert metrics["num_folds"] == len(metrics["folds"]) == len(market.folds)
    for number, (result, found) in enumerate(zip(results, metrics["folds"], strict=True)):
        assert set(found) == OF_A_FOLD
        assert found["splits"] == to_plain(describe_splits(market, result.fold))
        assert found["chosen"] == {"metric": "val_mcc", "epoch": number + 5}
        assert found["calibration"] == {"temperature": 1.0 + number}
        assert found["label"]["threshold"] == result.fold.threshold
        assert found["dropped"] == market.dropped | result.fold.dropped
        assert found["repeats"] == repeats_of(number)
        pools = {"SELL": pool_of(3), "BUY": pool_of(4)}
        assert found["mining"] == [{"epoch": number, "scored": 9, "classes": pools}]
        assert found["importance"] == to_plain(importance_of(number))
        assert list(found["drift"].values()) == sorted(found["drift"].values(), reverse=True)
        assert found["collapse"]["alarms"] == [alarm_of(number)]
        forecast = result.members[0].record.forecast
        assert found["collapse"]["forecast"] == forecast.as_dict(CLASS_NAMES)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_metrics_of_a_fold_are_those_of_its_own_windows(run, split):
    _, results, metrics = run
    for result, found in zip(results, metrics.folds, strict=True):
        fold = result.fold
        labels, prior = fold.labels[getattr(fold, split)], training_prior(fold)
        assert found.prior == prior.tolist()
        assert getattr(found, split) == evaluate(
            labels, result.deployed.probabilities[split], prior
        )
        for name, values in result.baselines.items():
            assert getattr(found.baselines[name], split) == evaluate(labels, values[split], prior)


def test_the_pool_is_all_test_windows_together(run):
    _, results, metrics = run
    folds = [result.fold for result in results]
    labels = np.concatenate([fold.labels[fold.test] for fold in folds])
    prior = np.repeat(
        [training_prior(fold) for fold in folds], [len(fold.test) for fold in folds], axis=0
    )
    said = np.concatenate([result.deployed.probabilities["test"] for result in results])
    pooled = evaluate(labels, said, prior)
    assert metrics.test.direction == metrics.verdict.direction.mcc
    for name in ("direction", "movement"):
        assert getattr(metrics.test, name) == pytest.approx(getattr(pooled, name))
    assert metrics.test.confusion == pooled.confusion
    assert metrics.test.nll == pytest.approx(pooled.nll)
    of_folds = [fold.test.confusion for fold in metrics.folds]
    assert np.sum(of_folds, axis=0).tolist() == metrics.test.confusion
    for name in results[0].baselines:
        values = np.concatenate([result.baselines[name]["test"] for result in results])
        assert metrics.baselines[name].test.confusion == evaluate(labels, values, prior).confusion
    assert metrics.verdict.num_folds == len(results)
    told = in_words(metrics).verdict.sentence
    assert ("walk-forward folds" in told) == (len(results) > 1)


def knowing(fold, splits, rng):
    """Returns probabilities that know the labels of some splits."""
    found = answers(fold, rng)
    return found | {name: np.eye(3)[fold.labels[getattr(fold, name)]] for name in splits}


def test_the_baseline_to_beat_is_picked_on_validation_windows_and_not_on_test_windows():
    rng, market = np.random.default_rng(0), market_of(1)
    (fold,) = market.folds
    baselines = {
        "best on test": knowing(fold, ["test"], rng),
        "best on validation": knowing(fold, ["validation"], rng),
    }
    metrics = run_metrics(market, [result_of(0, fold, rng, baselines)], **CHOSEN)
    scores = {name: both.test.direction for name, both in metrics.baselines.items()}
    assert scores["best on test"] == 1 and abs(scores["best on validation"]) < 0.5
    assert metrics.verdict.baseline == "best on validation"
    direction = metrics.verdict.direction
    assert direction.baseline == scores["best on validation"]


def test_validation_windows_that_another_fold_tests_on_pick_no_baseline():
    rng, market = np.random.default_rng(0), market_of(3)
    first, *later = market.folds
    tested = np.concatenate([fold.test for fold in market.folds])
    assert not np.isin(first.validation, tested).any()
    assert all(np.isin(fold.validation, tested).any() for fold in later)
    results = [
        result_of(
            number,
            fold,
            rng,
            {
                "before all tests": knowing(fold, ["validation"] if fold is first else [], rng),
                "among the tests": knowing(fold, [] if fold is first else ["validation"], rng),
            },
        )
        for number, fold in enumerate(market.folds)
    ]
    metrics = run_metrics(market, results, **CHOSEN)
    assert metrics.verdict.baseline == "before all tests"


@pytest.mark.parametrize("num_folds", [1, 3])
def test_symbols_are_ranked_within_the_test_bars_of_all_folds(num_folds):
    rng, market = np.random.default_rng(0), market_of(num_folds, 11, 700)
    names = ("constant prior", "boosted trees")
    results = [
        result_of(number, fold, rng, {name: answers(fold, rng) for name in names})
        for number, fold in enumerate(market.folds)
    ]
    found = run_metrics(market, results, **CHOSEN).cross_section
    assert isinstance(found, CrossSection)
    assert list(found.baselines) == ["boosted trees"]  # one that was fitted
    tested = np.concatenate([fold.test for fold in market.folds])
    earlier = [np.setdiff1d(fold.validation, tested) for fold in market.folds]
    assert len(earlier[0]) and not any(len(rows) for rows in earlier[1:])

    def all_of(split, parts):
        ends = np.concatenate([getattr(result.fold, split) for result in results])
        chosen = np.isin(ends, tested) == (split == "test")
        values = np.concatenate([part[split] for part in parts])
        return Forecasts(market.timestamps[ends], market.symbols[ends], values), ends, chosen

    for name, parts in [
        ("model", [result.deployed.probabilities for result in results]),
        ("boosted trees", [result.baselines["boosted trees"] for result in results]),
    ]:
        said, ends, _ = all_of("test", parts)
        before, _, chosen = all_of("validation", parts)
        before = Forecasts(
            before.times[chosen], before.symbols[chosen], before.probabilities[chosen]
        )
        settings = {"block_seconds": found.block_seconds}
        alone, _ = correlations(said, market.forward_return[ends], **settings)
        per_bar, _ = correlations(said, market.forward_return[ends], before=before, **settings)
        own = found.model if name == "model" else found.baselines[name]
        for part, values in per_bar.items():
            assert getattr(own, part).value == pytest.approx(np.nanmean(values)), (name, part)
        # Validation windows that no fold tests on are a past, too.
        assert np.isfinite(per_bar["tilt"]).sum() > np.isfinite(alone["tilt"]).sum()
    assert found.bars == len(np.unique(market.timestamps[tested]))
    assert (found.horizon_bars, found.cost_bps) == (4, 5.0)


def test_few_symbols_are_not_ranked_and_the_sentence_is_of_the_language(run):
    metrics = run[-1]
    assert metrics.cross_section.most_symbols == 2
    told = FewSymbols(2, "in another language")
    assert in_words(replace(metrics, cross_section=told)) == in_words(metrics)


def test_timing_is_that_of_all_folds(run):
    _, results, metrics = run
    assert len(metrics.timing.seconds_per_epoch) == 2 * len(results)
    assert metrics.timing.labels_per_second == 50.0
    assert metrics.timing.share_outside_step == 0.25
    parts = {"compilation": 1.0, "validation": 2.0, "mining": 1.5}
    for part, seconds in parts.items():
        assert getattr(metrics.timing, f"{part}_seconds") == seconds * len(results), part
    in_all = sum(metrics.timing.training_seconds_per_epoch)
    assert metrics.timing.training_seconds == in_all - len(results)


def test_members_of_an_ensemble_stand_beside_their_mean():
    rng, market = np.random.default_rng(0), market_of(1)
    (fold,) = market.folds
    members = [trained_member(number, fold, rng) for number in (0, 1)]
    mean = {split: answers(fold, rng)[split] for split in ("validation", "test")}
    deployed = Deployed(None, {}, mean, (None, None))
    result = FoldResult(fold, deployed, members, importance_of(0), {"none": mean})
    metrics = run_metrics(market, [result], **CHOSEN)
    (found,) = metrics.folds
    labels, prior = fold.labels[fold.test], training_prior(fold)
    assert found.test == metrics.test == evaluate(labels, mean["test"], prior)
    for member, told in zip(members, found.members, strict=True):
        assert told.test == evaluate(labels, member.alone.probabilities["test"], prior)
        assert told.chosen.epoch == member.best_epoch and told.seed == member.seed
    (seen,) = in_words(metrics).folds
    alarms = [(alarm.member, alarm.message) for alarm in seen.collapse.alarms]
    told = [message(alarm_of(number)) for number in (0, 1)]
    assert alarms == [(0, f"member 1, {told[0]}"), (1, f"member 2, {told[1]}")]
    assert metrics.timing.seconds_per_epoch == [9.0, 3.0] * 2


def test_trials_change_the_sentence_alone(run):
    once, seen = in_words(run[-1]), in_words(run[-1], 4)
    assert "one of 4 runs" in seen.verdict.sentence
    assert "runs tried" not in once.verdict.sentence
    assert replace(seen, verdict=once.verdict) == once


def test_figures_know_no_language_and_words_do(run):
    metrics = run[-1]
    before = json.dumps(to_plain(metrics))
    with speaking("ru"):
        seen = in_words(metrics, 4)
    assert seen.verdict.sentence.startswith("Предсказательная сила")
    for number, fold in enumerate(seen.folds):
        (alarm,) = fold.collapse.alarms
        assert alarm.message.startswith(f"эпоха {number + 1}: нет сигнала: сеть не различает окна")
        assert "MCC +0,000" in alarm.message
    assert json.dumps(to_plain(metrics)) == before and before.isascii()
