import numpy as np
import pytest

from evaluation.answers import EVEN, answers
from evaluation.metrics import evaluate
from evaluation.skill import skill_by_part

DAY = np.timedelta64(86_400, "s")


@pytest.fixture(scope="module")
def found():
    """Two symbols over March and April 2024: A is always right, B only in April."""
    rng = np.random.default_rng(0)
    days = np.datetime64("2024-03-01", "ns") + np.arange(61) * DAY
    times, symbols = np.tile(np.repeat(days, 4), 2), np.repeat([1, 0], 244)
    times = times + np.tile(np.arange(4) * np.timedelta64(3600, "s"), 122)
    labels = rng.integers(0, 3, 488)
    march = times < np.datetime64("2024-04-01")
    said = np.where((symbols == 0) & march, rng.permutation(labels), labels)
    settings = {"block_seconds": 86_400.0}
    parts = skill_by_part(
        times, symbols, ("B", "A"), labels, answers(np.eye(3)[said], EVEN), **settings
    )
    return parts, (march, symbols, labels, said)


def test_each_part_has_the_figures_of_its_own_windows(found):
    parts, (march, symbols, labels, said) = found
    assert [part.name for part in parts.by_month] == ["2024-03", "2024-04"]
    assert [part.name for part in parts.by_year] == ["2024"]
    assert {part.name for part in parts.by_symbol} == {"A", "B"}
    first, second = parts.by_month
    for skill in ("direction", "movement"):
        of_march = evaluate(labels[march], np.eye(3)[said[march]])
        assert getattr(first, skill) == getattr(of_march, skill)
        assert getattr(second, skill) == 1 and getattr(first, skill) < 0.8
    by_name = {part.name: part for part in parts.by_symbol}
    assert by_name["A"].direction == 1 and by_name["B"].direction < 0.8
    assert sum(part.windows for part in parts.by_month) == 488
    assert [part.num_blocks for part in parts.by_month] == [31, 30]
    for skill in ("direction", "movement"):
        low, high = getattr(first, f"{skill}_interval")
        assert -1 < low < getattr(first, skill) < high < 1


def test_a_part_of_few_blocks_gets_no_interval():
    times = np.datetime64("2024-03-01", "ns") + np.arange(31) * DAY
    labels = np.arange(31) % 3
    parts = skill_by_part(
        times,
        np.zeros(31, int),
        ("A",),
        labels,
        answers(np.eye(3)[labels], EVEN),
        block_seconds=20 * 86_400.0,
    )
    assert parts.by_month[0].direction_interval is None
    assert parts.by_month[0].num_blocks == 2
