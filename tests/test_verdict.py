import json

import numpy as np
import pytest
import scipy.stats

from data.i18n import speaking
from evaluation.metrics import mcc
from evaluation.verdict import confusions, interval, left_out, sentence, time_blocks, verdict

BAR = 900  # seconds
START = np.datetime64("2024-01-01", "ns")


def moments(num_bars, num_symbols=1):
    """Returns timestamps sorted by symbol, then time."""
    return np.tile(START + np.arange(num_bars) * np.timedelta64(BAR, "s"), num_symbols)


def answers(labels, hit_rate, rng, persistence_bars=1):
    """Returns probabilities whose argmax is right in `hit_rate` of the windows, in long runs."""
    count = -(-len(labels) // persistence_bars)
    right = np.repeat(rng.random(count) < hit_rate, persistence_bars)[: len(labels)]
    named = np.where(right, labels, rng.integers(0, 3, len(labels)))
    return 0.8 * np.eye(3)[named] + 0.2 / 3


@pytest.fixture
def market():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 6000)
    return moments(1500, 4), labels, np.tile([0.3, 0.4, 0.3], (6000, 1)), rng


def test_strong_model_beats_the_best_baseline(market):
    timestamps, labels, constant, rng = market
    baselines = {
        "constant prior": constant,
        "persistence": answers(labels, 0.2, rng),
        "logistic regression": answers(labels, 0.1, rng),
    }
    found = verdict(
        timestamps, labels, answers(labels, 0.5, rng), baselines, block_seconds=20 * BAR
    )
    assert (found["verdict"], found["no_skill"]) == ("beats", False)
    assert found["baseline"] == "persistence"
    assert found["difference"] == found["mcc"] - found["baseline_mcc"]
    low, high = found["difference_interval"]
    assert 0 < low < found["difference"] < high
    assert "beats persistence" in found["sentence"]
    assert "no skill" not in found["sentence"]
    assert found["num_blocks"] == 75


def test_random_answers_show_no_skill(market):
    timestamps, labels, constant, rng = market
    found = verdict(
        timestamps,
        labels,
        answers(labels, 0.0, rng),
        {"constant prior": constant},
        block_seconds=20 * BAR,
    )
    assert (found["verdict"], found["no_skill"]) == ("no better than", True)
    assert found["mcc_interval"][0] <= 0 <= found["mcc_interval"][1]
    assert "no better than constant prior" in found["sentence"]
    assert "no skill" in found["sentence"]


def test_constant_answer_shows_no_skill(market):
    timestamps, labels, constant, rng = market
    found = verdict(timestamps, labels, constant, {"constant prior": constant}, block_seconds=BAR)
    assert found["mcc_interval"] == found["difference_interval"] == [0, 0]
    assert (found["verdict"], found["no_skill"]) == ("no better than", True)


def test_weak_model_is_worse_than_a_strong_baseline(market):
    timestamps, labels, constant, rng = market
    found = verdict(
        timestamps,
        labels,
        answers(labels, 0.1, rng),
        {"persistence": answers(labels, 0.4, rng)},
        block_seconds=20 * BAR,
    )
    assert (found["verdict"], found["no_skill"]) == ("worse than", False)
    assert "is worse than persistence" in found["sentence"]


def test_answers_turned_round_are_worse_than_chance(market):
    timestamps, labels, constant, rng = market
    turned = np.eye(3)[(labels + 1) % 3]
    found = verdict(timestamps, labels, turned, {"constant prior": constant}, block_seconds=BAR)
    assert (found["verdict"], found["no_skill"]) == ("worse than", False)
    assert "worse than chance" in found["sentence"]


def test_without_skill_nothing_is_beaten(market):
    timestamps, labels, constant, rng = market
    turned = {"turned": np.eye(3)[(labels + 1) % 3]}
    random = answers(labels, 0.0, rng)
    found = verdict(timestamps, labels, random, turned, block_seconds=20 * BAR)
    assert found["difference_interval"][0] > 0
    assert (found["verdict"], found["no_skill"]) == ("no better than", True)


def test_several_trials_are_counted_in_the_sentence(market):
    timestamps, labels, constant, rng = market
    given = timestamps, labels, constant, {"constant prior": constant}
    assert "runs tried" not in verdict(*given, block_seconds=BAR)["sentence"]
    assert "one of 7 runs tried" in verdict(*given, block_seconds=BAR, trials=7)["sentence"]


def test_what_is_written_is_english_and_what_is_read_is_of_the_language(market):
    timestamps, labels, constant, rng = market
    given = timestamps, labels, answers(labels, 0.5, rng), {"constant prior": constant}
    expected = verdict(*given, block_seconds=100 * BAR, trials=2)
    with speaking("ru"):
        found = verdict(*given, block_seconds=100 * BAR, trials=2)
        told = sentence(found)
    assert found == expected
    assert told.startswith("Модель лучше базового прогноза «априорные доли»: MCC +0,")
    assert "15 временных блоков" in told and "один из 2 запусков" in told
    assert not set("abcdefghijklmnopqrstuvxyz") & set(told.replace("walk-forward", ""))


def test_several_folds_are_counted_in_the_sentence(market):
    timestamps, labels, constant, rng = market
    given = timestamps, labels, constant, {"constant prior": constant}
    assert "fold" not in verdict(*given, block_seconds=BAR)["sentence"]
    found = verdict(*given, block_seconds=BAR, num_folds=3)
    assert "constant prior over 3 walk-forward folds: MCC" in found["sentence"]


@pytest.mark.parametrize(
    "block_bars, num_folds, expected",
    [
        (75, 1, None),  # 20 blocks
        (76, 1, "too short to tell weak skill from none; a walk-forward gives more."),
        (76, 3, "too short to tell weak skill from none, also of all folds together."),
    ],
)
def test_below_20_blocks_the_sentence_says_that_the_test_time_is_too_short(
    market, block_bars, num_folds, expected
):
    timestamps, labels, constant, rng = market
    # Whole blocks only.
    kept = timestamps < START + np.timedelta64(1500 // block_bars * block_bars * BAR, "s")
    found = verdict(
        timestamps[kept],
        labels[kept],
        constant[kept],
        {"persistence": answers(labels[kept], 0.1, rng)},
        block_seconds=block_bars * BAR,
        num_folds=num_folds,
    )
    assert found["num_blocks"] == 1500 // block_bars
    assert ("too short" in found["sentence"]) == (expected is not None)
    assert (expected or "20 time blocks") in found["sentence"]


def test_rows_of_all_symbols_may_come_in_any_order(market):
    timestamps, labels, constant, rng = market
    model = answers(labels, 0.2, rng)
    order = rng.permutation(len(labels))
    settings = {"block_seconds": 20 * BAR}
    first = verdict(timestamps, labels, model, {"constant prior": constant}, **settings)
    second = verdict(
        timestamps[order],
        labels[order],
        model[order],
        {"constant prior": constant[order]},
        **settings,
    )
    assert first == second
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_a_block_holds_all_symbols_of_its_time():
    timestamps = moments(10, num_symbols=2)
    blocks = time_blocks(timestamps, 4 * BAR)
    assert blocks.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2] * 2


def test_empty_times_make_no_blocks():
    timestamps = np.concatenate([moments(2), moments(2) + np.timedelta64(365, "D")])
    assert time_blocks(timestamps, 4 * BAR).tolist() == [0, 0, 1, 1]


def test_block_matrices_sum_to_the_whole(market):
    timestamps, labels, _, rng = market
    model = answers(labels, 0.3, rng)
    tables = confusions(time_blocks(timestamps, 30 * BAR), labels, model)
    expected = np.zeros((3, 3))
    np.add.at(expected, (labels, model.argmax(axis=1)), 1)
    np.testing.assert_array_equal(tables.sum(axis=0), expected)
    first = timestamps < START + np.timedelta64(30 * BAR, "s")
    assert tables[0].sum() == first.sum()


def test_blocks_are_left_out_one_by_one():
    tables = np.random.default_rng(0).integers(0, 9, (2, 5, 3, 3))
    found = left_out(tables)
    for model in range(2):
        expected = [mcc(np.delete(tables[model], block, axis=0).sum(axis=0)) for block in range(5)]
        np.testing.assert_allclose(found[model], expected)


def test_interval_of_a_mean_is_that_of_students_t():
    values = np.random.default_rng(0).normal(size=7)
    without = (values.sum() - values) / 6
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(values.mean(), without, widest=9.0), expected)


def test_interval_ends_at_the_widest():
    assert interval(0.9, np.array([0.1, 0.9, -0.5]), widest=1.0) == [-1.0, 1.0]


def test_model_and_baseline_share_their_blocks(market):
    timestamps, labels, _, rng = market
    model = answers(labels, 0.3, rng, persistence_bars=50)
    other = np.where(rng.random(len(labels))[:, None] < 0.05, np.eye(3)[labels], model)
    found = verdict(timestamps, labels, model, {"alike": other}, block_seconds=50 * BAR)
    assert np.ptp(found["difference_interval"]) < np.ptp(found["mcc_interval"]) / 2


def test_blocks_give_wider_intervals_than_single_bars_where_hits_come_in_runs(market):
    timestamps, labels, constant, rng = market
    model = answers(labels, 0.3, rng, persistence_bars=50)
    widths = []
    for block_bars in (1, 100):
        found = verdict(
            timestamps,
            labels,
            model,
            {"constant prior": constant},
            block_seconds=block_bars * BAR,
        )
        widths.append(np.ptp(found["mcc_interval"]))
    assert widths[1] > 2 * widths[0]


def test_interval_covers_the_truth_in_about_95_percent_with_few_blocks():
    rng = np.random.default_rng(0)
    truth = np.array([[4.0, 2, 2], [2, 4, 2], [2, 2, 4]])
    covered = 0
    for _ in range(1000):
        # A block has its own skill, so its windows are no independent draws.
        skill = rng.normal(0, 0.8, 8)[:, None, None] * np.eye(3) + truth
        tables = rng.poisson(10 * np.maximum(skill, 0))
        low, high = interval(mcc(tables.sum(axis=0)), left_out(tables[None])[0], widest=1.0)
        covered += low <= mcc(truth) <= high
    assert 0.93 < covered / 1000 < 0.97


def test_a_single_block_says_nothing(market):
    timestamps, labels, constant, rng = market
    found = verdict(
        timestamps,
        labels,
        answers(labels, 0.9, rng),
        {"constant prior": constant},
        block_seconds=1e9,
    )
    assert (found["num_blocks"], found["mcc_interval"]) == (1, [-1, 1])
    assert (found["verdict"], found["no_skill"]) == ("no better than", True)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"baselines": {}}, "at least one baseline"),
        ({"block_seconds": 0}, "block_seconds must be above 0, got 0"),
        ({"timestamps": moments(3)}, "need a timestamp for each window, got 3 for 6000"),
    ],
)
def test_input_that_makes_no_sense_is_refused(market, change, message):
    timestamps, labels, constant, _ = market
    given = {
        "timestamps": timestamps,
        "labels": labels,
        "probabilities": constant,
        "baselines": {"constant prior": constant},
        "block_seconds": BAR,
    }
    with pytest.raises(ValueError, match=message):
        verdict(**{**given, **change})
