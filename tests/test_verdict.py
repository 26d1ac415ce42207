import json
import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from data.market.labels import BUY, HOLD, SELL
from evaluation.answers import Answers
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.scores import ClassRates, Shares, Verdict
from evaluation.metrics import evaluate, mcc
from evaluation.verdict import (
    _skill,
    interval,
    left_out,
    pick,
    time_blocks,
    verdict,
    with_calls,
)

BAR = 900  # seconds
START = np.datetime64("2024-01-01", "ns")
CONSTANT = evaluate(np.arange(3), np.full((3, 3), 1 / 3))


def moments(num_bars, num_symbols=1):
    """Returns timestamps sorted by symbol, then time."""
    return np.tile(START + np.arange(num_bars) * np.timedelta64(BAR, "s"), num_symbols)


def answers(labels, hit_rate, rng, persistence_bars=1):
    """Returns calls that are right in `hit_rate` of the windows, in long runs, with their sides."""
    count = -(-len(labels) // persistence_bars)
    right = np.repeat(rng.random(count) < hit_rate, persistence_bars)[: len(labels)]
    named = np.where(right, labels, rng.integers(0, 3, len(labels)))
    sides = np.where(named == HOLD, rng.choice([-1, 1], len(labels)), named - 1)
    return Answers(named, sides)


def constant(labels):
    """Returns calls of HOLD, and no side."""
    return Answers(np.full(len(labels), HOLD), np.zeros(len(labels), int))


@pytest.fixture
def market():
    rng = np.random.default_rng(0)
    return moments(1500, 4), rng.integers(0, 3, 6000), rng


def judged(timestamps, labels, model, other=None, baseline="constant prior", **settings):
    """Returns the verdict against a constant answer, or what else is given."""
    settings = {"block_seconds": 20 * BAR} | settings
    return verdict(
        timestamps, labels, model, other or constant(labels), baseline=baseline, **settings
    )


def answered(found):
    return found.skill_in_direction, found.skill_in_movement, found.better_than_baseline


def test_strong_model_beats_the_baseline(market):
    timestamps, labels, rng = market
    model, other = answers(labels, 0.5, rng), answers(labels, 0.2, rng)
    found = judged(timestamps, labels, model, other, "persistence")
    assert answered(found) == ("yes", "yes", "yes")
    assert found.baseline == "persistence"
    for skill in ("direction", "movement"):
        part = getattr(found, skill)
        assert part.difference == part.mcc - part.baseline
        low, high = part.difference_interval
        assert 0 < low < part.difference < high
        low, high = part.interval
        assert 0 < low < part.mcc < high
    assert found.num_blocks == 75


def test_both_skills_are_those_of_the_whole(market):
    timestamps, labels, rng = market
    model = answers(labels, 0.3, rng)
    probabilities = 0.3 + 0.1 * np.eye(3)[model.calls]
    probabilities[:, BUY] += 0.01 * model.sides  # the side of windows called HOLD
    whole = evaluate(labels, probabilities / probabilities.sum(axis=1, keepdims=True))
    found = judged(timestamps, labels, model)
    assert found.direction.mcc == whole.direction > 0.1
    assert found.movement.mcc == whole.movement > 0.1
    assert found.mcc == whole.mcc


def test_random_answers_show_no_skill(market):
    timestamps, labels, rng = market
    found = judged(timestamps, labels, answers(labels, 0.0, rng))
    assert answered(found)[0] in ("none", "not shown") and answered(found)[2] == "not shown"
    low, high = found.direction.interval
    assert low <= 0 <= high


def test_constant_answer_shows_no_skill(market):
    timestamps, labels, _ = market
    found = judged(timestamps, labels, constant(labels))
    for skill in (found.direction, found.movement):
        assert skill.interval == skill.difference_interval == [0, 0]
    assert answered(found) == ("none", "none", "not shown")


def test_weak_model_is_worse_than_a_strong_baseline(market):
    timestamps, labels, rng = market
    model, other = answers(labels, 0.1, rng), answers(labels, 0.4, rng)
    found = judged(timestamps, labels, model, other, "persistence")
    assert answered(found)[2] == "worse" and answered(found)[0] == "yes"


def test_answers_turned_round_are_worse_than_chance(market):
    timestamps, labels, _ = market
    found = judged(timestamps, labels, Answers(2 - labels, 1 - labels))
    assert answered(found) == ("none", "yes", "worse")
    assert found.movement.mcc == 1 and found.direction.mcc == -1


@pytest.mark.parametrize("hit_rate", [0.0, None])
def test_without_skill_in_direction_nothing_is_beaten(market, hit_rate):
    timestamps, labels, rng = market
    turned = Answers(2 - labels, 1 - labels)
    if hit_rate is None:  # mostly wrong, but less so than what it is compared with
        wrong = rng.random(len(labels)) < 0.7
        model = Answers(labels, np.where(wrong, -1, 1) * (labels - 1))
    else:
        model = answers(labels, hit_rate, rng)
    found = judged(timestamps, labels, model, turned, "turned")
    assert found.direction.difference_interval[0] > 0
    assert found.better_than_baseline == "not shown"


def clock(num_bars, num_symbols, rng):
    """Returns labels of a martingale whose volatility follows the time of day, and what it is."""
    busy = np.tile(np.arange(num_bars) // 16 % 2 == 0, num_symbols)
    share = np.where(busy, 0.42, 0.12)  # of BUY, and of SELL
    draw = rng.random(len(busy))
    return np.where(draw < share, SELL, np.where(draw < 2 * share, BUY, HOLD)), busy


def test_a_clock_of_volatility_sees_when_and_not_where_to_and_beats_nothing(market):
    timestamps, _, rng = market
    labels, busy = clock(1500, 4, rng)
    sides = np.repeat(rng.choice([-1, 1], len(labels) // 25), 25)
    model = Answers(np.where(busy, sides + 1, HOLD), sides)
    found = judged(timestamps, labels, model)
    assert found.mcc_interval[0] > 0.1  # that of three classes takes it for skill
    assert found.movement.interval[0] > 0.4
    low, high = found.direction.interval
    assert low < 0 < high
    assert answered(found)[0] != "yes" and answered(found)[1:] == ("yes", "not shown")


def test_direction_alone_is_enough_to_beat_even_where_hold_is_always_called(market):
    timestamps, _, rng = market
    labels, _ = clock(1500, 4, rng)
    known = rng.random(len(labels)) < 0.2
    sides = np.where(known & (labels != HOLD), labels - 1, rng.choice([-1, 1], len(labels)))
    found = judged(timestamps, labels, Answers(np.full(len(labels), HOLD), sides))
    assert found.movement.mcc == found.mcc == 0
    assert answered(found) == ("yes", "none", "yes")


def test_a_clock_is_taken_for_direction_as_seldom_as_chance_says():
    """A side that is kept for longer than a label is as wide as it is, over many markets."""
    rng, found = np.random.default_rng(3), []
    for _ in range(300):
        labels, busy = clock(600, 2, rng)
        sides = np.repeat(rng.choice([-1, 1], len(labels) // 10), 10)
        model = Answers(np.where(busy, sides + 1, HOLD), sides)
        found.append(judged(moments(600, 2), labels, model).direction)
    misses = np.mean([not part.interval[0] <= 0 <= part.interval[1] for part in found])
    assert 0.01 < misses < 0.09
    assert abs(np.mean([part.mcc for part in found])) < 0.01


def test_the_baseline_is_picked_by_direction_and_then_by_its_nll():
    scores = {
        "constant prior": replace(CONSTANT, direction=0.0, nll=1.05, mcc=0.0),
        "persistence": replace(CONSTANT, direction=0.0, nll=1.04, mcc=0.0),
        "trees": replace(CONSTANT, direction=-0.02, nll=1.0, mcc=0.2),
    }
    assert pick(scores) == "persistence"
    assert pick(scores | {"trees": replace(CONSTANT, direction=0.01, nll=2.0)}) == "trees"
    with pytest.raises(ValueError, match="at least one baseline"):
        pick({})


def test_rows_of_all_symbols_may_come_in_any_order(market):
    timestamps, labels, rng = market
    model = answers(labels, 0.2, rng)
    order = rng.permutation(len(labels))
    first = judged(timestamps, labels, model)
    second = judged(
        timestamps[order], labels[order], Answers(model.calls[order], model.sides[order])
    )
    assert first == second
    assert from_plain(Verdict, json.loads(json.dumps(to_plain(first), allow_nan=False))) == first


def test_a_block_holds_all_symbols_of_its_time():
    timestamps = moments(10, num_symbols=2)
    blocks = time_blocks(timestamps, 4 * BAR)
    assert blocks.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2] * 2


def test_empty_times_make_no_blocks():
    timestamps = np.concatenate([moments(2), moments(2) + np.timedelta64(365, "D")])
    assert time_blocks(timestamps, 4 * BAR).tolist() == [0, 0, 1, 1]


def test_sell_and_buy_can_change_places(market):
    timestamps, labels, rng = market
    model, other = answers(labels, 0.3, rng), answers(labels, 0.25, rng)
    turned = [Answers(2 - given.calls, -given.sides) for given in (model, other)]
    assert judged(timestamps, 2 - labels, *turned) == judged(timestamps, labels, model, other)


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
    timestamps, labels, rng = market
    model = answers(labels, 0.3, rng, persistence_bars=50)
    better = rng.random(len(labels)) < 0.05
    other = Answers(
        np.where(better, labels, model.calls), np.where(better, labels - 1, model.sides)
    )
    found = judged(timestamps, labels, model, other, block_seconds=50 * BAR)
    for skill in ("direction", "movement"):
        part = getattr(found, skill)
        assert np.ptp(part.difference_interval) < np.ptp(part.interval) / 1.5


def test_blocks_give_wider_intervals_than_single_bars_where_hits_come_in_runs(market):
    timestamps, labels, rng = market
    model = answers(labels, 0.3, rng, persistence_bars=50)
    found = [judged(timestamps, labels, model, block_seconds=n * BAR) for n in (1, 100)]
    for skill in ("direction", "movement"):
        narrow, wide = (np.ptp(getattr(part, skill).interval) for part in found)
        assert wide > 1.8 * narrow


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
    timestamps, labels, rng = market
    found = judged(timestamps, labels, answers(labels, 0.9, rng), block_seconds=1e9)
    assert (found.num_blocks, found.direction.interval) == (1, [-1, 1])
    assert answered(found) == ("not shown", "not shown", "not shown")


@pytest.mark.parametrize(
    "reach, answer",
    [
        ([0.001, 0.9], "yes"),
        ([0.0, 0.9], "not shown"),
        ([-0.1, 0.05], "not shown"),
        ([-0.1, 0.0499], "none"),
        ([0.001, 0.01], "yes"),  # little, and no chance
        ([-0.3, -0.1], "none"),
    ],
)
def test_no_skill_is_said_only_where_the_interval_leaves_room_for_none(reach, answer):
    assert _skill(reach) == answer


@pytest.mark.parametrize("called, told", [(0.0, True), (0.005, True), (0.006, False)])
def test_a_class_is_hardly_called_at_a_fiftieth_of_its_share(called, told, market):
    rates = ClassRates(predicted=[called, 0.5, 0.5 - called], true=[0.28, 0.4, 0.32])
    expected = {"SELL": Shares(called, 0.28)} if told else {}
    timestamps, labels, _ = market
    found = with_calls(
        judged(timestamps, labels, constant(labels)), replace(CONSTANT, class_rates=rates)
    )
    assert found.hardly_called == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"block_seconds": 0}, "block_seconds must be above 0, got 0"),
        ({"timestamps": moments(3)}, "each window, got (3, 6000, 6000, 6000)"),
    ],
)
def test_input_that_makes_no_sense_is_refused(market, change, message):
    timestamps, labels, _ = market
    given = {"timestamps": timestamps, "labels": labels, "model": constant(labels)}
    with pytest.raises(ValueError, match=re.escape(message)):
        judged(**{**given, **change})
