"""What the verdict says: answers first, one for each question, in both languages."""

from dataclasses import replace

import pytest

from core.i18n import speaking
from evaluation.figures.scores import Shares, Skill, Verdict
from evaluation.verdict_words import headline, lines, remarks, sentence


def part(mcc, interval, baseline=0.0, difference_interval=(-0.1, 0.1)):
    return Skill(mcc, list(interval), baseline, mcc - baseline, list(difference_interval))


def found(direction="yes", movement="none", better="not shown", **more):
    """Returns a verdict with these answers; the figures are those of the issue."""
    reach = {"yes": (0.231, 0.505), "not shown": (-0.161, 0.419), "none": (-0.03, 0.04)}
    verdict = Verdict(
        skill_in_direction=direction,
        skill_in_movement=movement,
        better_than_baseline=better,
        baseline="boosted trees",
        direction=part(0.368, reach[direction], baseline=0.337),
        movement=part(0.02, reach[movement]),
        mcc=0.2,
        mcc_interval=[0.1, 0.3],
        num_blocks=7,
        block_seconds=9000.0,
        num_folds=1,
        trials=1,
    )
    return replace(verdict, **more)


def test_skill_is_told_though_the_baseline_is_not_beaten():
    direction, movement, better, *rest = lines(found())
    assert direction == ("Skill in direction (SELL or BUY): yes. MCC +0.368 (+0.231 to +0.505).")
    assert movement == "Skill in movement (HOLD or not): none. MCC +0.020 (-0.030 to +0.040)."
    assert better == (
        "Better than boosted trees: not shown. Direction +0.368 against +0.337, difference "
        "+0.031 (-0.100 to +0.100)."
    )
    assert len(rest) == 1 and rest[0].startswith("In brackets: 95 % intervals over 7 time blocks")


@pytest.mark.parametrize("better", ["yes", "not shown", "worse"])
def test_better_has_three_answers(better):
    assert f"Better than boosted trees: {better}." in sentence(found(better=better))


@pytest.mark.parametrize(
    "direction, better, num_blocks, num_folds, told",
    [
        ("yes", "yes", 7, 1, None),
        ("none", "worse", 7, 1, None),
        ("not shown", "not shown", 20, 1, None),
        ("not shown", "worse", 19, 1, "too few to tell: --set WALK_FORWARD_FOLDS=5 tests over"),
        ("yes", "not shown", 7, 1, "too few to tell: --set WALK_FORWARD_FOLDS=5 tests over"),
        ("not shown", "not shown", 7, 3, "too few to tell: more bars or a shorter horizon"),
    ],
)
def test_the_time_is_too_short_only_where_an_interval_covers_0(
    direction, better, num_blocks, num_folds, told
):
    text = sentence(found(direction, better=better, num_blocks=num_blocks, num_folds=num_folds))
    assert ("too few" in text) == (told is not None)
    assert (told or "time blocks") in text


def test_who_is_as_good_as_the_baseline_needs_no_more_time():
    close = replace(found(), direction=part(0.6, (0.5, 0.7), 0.605, (-0.022, 0.013)))
    assert "not shown" in sentence(close) and "too few" not in sentence(close)


def test_movement_alone_earns_nothing():
    told = "It sees when prices move, not where to; that alone earns nothing."
    assert told in sentence(found("not shown", "yes"))
    assert told not in sentence(found("yes", "yes"))
    assert "on which side; that alone" in sentence(found("none", "yes", relative=True))


def test_worse_than_chance_is_told_where_all_of_the_interval_lies_below_0():
    below = replace(found("none"), direction=part(-0.3, (-0.4, -0.2)))
    assert "none. MCC -0.300 (-0.400 to -0.200). Worse than chance: prices tend" in sentence(below)
    assert "Worse than chance: symbols" in sentence(replace(below, relative=True))
    assert "Worse than chance" not in sentence(found("none"))


def test_what_trading_brought_follows_the_answers():
    traded = {
        "net_return": 0.605,
        "baseline_net_return": 0.097,
        "buy_and_hold_net_return": 0.307,
        "cost_bps": 5.0,
        "trades": 145,
    }
    told = lines(found(**traded))[3]
    assert told == (
        "Trading on its calls: +60.5% of the capital after costs of 5 basis points a side "
        "(boosted trees +9.7%, buy and hold +30.7%)."
    )
    assert "may well be luck" in lines(found("not shown", **traded))[3]
    assert "may well be luck" not in lines(found("none", **traded | {"net_return": -0.1}))[3]
    assert "these returns are not" in lines(found(relative=True, **traded))[3]
    assert "No trade was made" not in lines(found(**traded))[3]
    idle = traded | {"net_return": 0.0, "trades": 0}
    assert lines(found(**idle))[3].endswith("No trade was made: every call was HOLD.")


@pytest.mark.parametrize(
    "called, told",
    [
        (0.0, "SELL is never called, and 27.6% of the windows are SELL."),
        (0.003, "SELL is hardly ever called: 0.30% of the calls, 27.6% of the windows."),
    ],
)
def test_a_class_that_is_hardly_called_is_named(called, told):
    assert told in lines(found(hardly_called={"SELL": Shares(called, 0.276)}))
    assert "called" not in sentence(found(hardly_called={}))


def test_the_headline_is_the_two_answers_and_the_remarks_are_the_rest():
    given = found("not shown", "yes", trials=2)
    assert headline(given) == "Skill: not shown. Better than boosted trees: not shown."
    first, *rest = remarks(given)
    assert first.startswith("It sees when prices move") and rest == lines(given)[3:]


def test_several_trials_and_folds_are_counted():
    assert "one of 7 runs tried" in sentence(found(trials=7))
    assert "runs tried" not in sentence(found())
    assert "over 7 time blocks of 3 walk-forward folds" in sentence(found(num_folds=3))


def test_the_words_are_of_the_language():
    with speaking("ru"):
        told = sentence(found("not shown", "yes", num_blocks=15, trials=2))
    assert "Предсказательная сила, направление (SELL или BUY): не показано." in told
    assert "+0,368 (от -0,161 до +0,419)" in told
    assert "15 временных блоков" in told and "один из 2 запусков" in told
    told = told.replace("walk-forward", "").replace("--set", "")
    assert not set("abcdefghijklmnopqrstuvxyz") & set(told)
