import numpy as np
import pytest

from evaluation.metrics import losses
from evaluation.paired import paired


def drawn(seed, quality=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=400)
    p = rng.dirichlet([5, 5, 5], 400) + quality * np.eye(3)[labels]
    return labels, p / p.sum(axis=1, keepdims=True)


def test_the_difference_and_its_error_are_those_of_means_of_blocks_of_one_size():
    labels, model = drawn(0)
    other = drawn(1)[1]
    blocks = np.arange(400) // 20
    found = paired(labels, model, other, blocks)
    own, theirs = losses(labels, model), losses(labels, other)
    means = (own - theirs).reshape(20, 20).mean(axis=1)
    assert found.difference == pytest.approx(means.mean())
    assert found.error == pytest.approx(means.std(ddof=1) / np.sqrt(20))
    assert found.interval[0] < found.difference < found.interval[1]
    assert (found.nll, found.other) == (pytest.approx(own.mean()), pytest.approx(theirs.mean()))


@pytest.mark.parametrize(("quality", "worse"), [(0.2, False), (0.0, False), (-0.05, True)])
def test_a_model_is_worse_only_beyond_a_standard_error(quality, worse):
    labels, other = drawn(0)
    model = np.clip(other + quality * np.eye(3)[labels], 0.01, None)
    model /= model.sum(axis=1, keepdims=True)
    assert paired(labels, model, other, np.arange(400) // 20).is_worse == worse


def test_of_one_block_nothing_can_be_told_and_the_old_model_stays():
    labels, model = drawn(0, quality=0.5)
    assert paired(labels, model, drawn(0)[1], np.zeros(400, int)).is_worse
