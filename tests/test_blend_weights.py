"""Weights of a blend: what they find, and when they stay equal."""

import numpy as np
import pytest

from evaluation.blend.weights import blend_weights


def said(rng, skill, labels, sharpness=1.0):
    """Returns probabilities of three classes that know the label with a skill."""
    logits = rng.normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += skill
    p = np.exp(sharpness * logits)
    return p / p.sum(axis=1, keepdims=True)


def own(members, labels):
    return np.stack([p[np.arange(len(labels)), labels] for p in members], axis=1)


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 3, 4000)


def test_a_member_that_knows_nothing_gets_next_to_no_weight(labels):
    rng = np.random.default_rng(1)
    p = own([said(rng, 2.0, labels), np.full((4000, 3), 1 / 3), said(rng, 2.0, labels)], labels)
    weights = blend_weights(p, np.arange(4000) // 100)
    assert weights[1] < 0.05 and weights.sum() == pytest.approx(1)
    assert abs(weights[0] - weights[2]) < 0.2


def test_weights_that_fit_are_those_of_the_lowest_nll(labels):
    rng = np.random.default_rng(2)
    p = own([said(rng, 1.5, labels), said(rng, 1.0, labels)], labels)
    (first, _) = blend_weights(p, np.arange(4000) // 100)
    grid = np.linspace(0, 1, 201)
    nll = [-np.log(w * p[:, 0] + (1 - w) * p[:, 1]).mean() for w in grid]
    assert first == pytest.approx(grid[int(np.argmin(nll))], abs=0.02) and first > 0.6


def test_what_is_luck_of_blocks_leaves_weights_equal(labels):
    """Each member is right in blocks of its own: all is luck, and the last blocks another's."""
    rng = np.random.default_rng(3)
    blocks = np.arange(4000) // 500
    favoured = np.array([0, 1, 0, 1, 0, 1, 0, 0])[blocks]
    members = [said(rng, np.where(favoured == m, 2.0, -0.5), labels) for m in (0, 1)]
    p = own(members, labels)
    assert blend_weights(p, blocks).tolist() == [0.5, 0.5]
    assert blend_weights(p, rng.permutation(4000))[0] > 0.52  # as if windows were independent


def test_one_block_of_time_says_nothing(labels):
    p = own([said(np.random.default_rng(4), s, labels) for s in (2.0, 0.0)], labels)
    assert blend_weights(p, np.zeros(4000, int)).tolist() == [0.5, 0.5]


def test_a_member_is_found_wherever_it_stands(labels):
    rng = np.random.default_rng(5)
    p = own([said(rng, s, labels) for s in (1.5, 0.5, 0.8)], labels)
    blocks = np.arange(4000) // 100
    for order in ([1, 2, 0], [2, 0, 1]):
        np.testing.assert_allclose(
            blend_weights(p[:, order], blocks), blend_weights(p, blocks)[order], atol=5e-3
        )
