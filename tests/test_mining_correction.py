"""Hard windows weigh more by what was said of their label; the loss takes that out again."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from data.batches.sequence_plan import SequencePlan
from models.probabilities import cross_entropies
from models.training.callbacks.mining import class_bands, hard_band
from models.training.losses import CrossEntropyWeight, MixedLoss

BAND = {"top_k_fraction": 0.3, "trim_fraction": 0.05}


def world(num_windows=60_000, seed=0):
    """Returns true logits that vary from window to window, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1, 1, num_windows)
    logits = np.column_stack([-0.5 * place, 0.2 * np.cos(3 * place), 0.5 * place])
    chances = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random(num_windows)[:, None] > chances).sum(axis=1)
    return place, logits, labels


def mined_plan(logits, labels, spacing=1, share=0.5):
    """Returns a plan whose hard windows are those of the logits."""
    count = len(labels)
    plan = SequencePlan(
        labels,
        np.zeros(count, int),
        np.arange(count) + 20,
        sequence_length=10,
        labels_per_sequence=10,
        batch_size=16,
        seed=0,
        hard_share=lambda epoch: share if epoch else 0.0,
    )
    losses = cross_entropies(logits, labels)
    zeros = np.zeros(count, int)
    pool = hard_band(losses, labels, zeros, np.arange(count), spacing=spacing, **BAND)
    plan.set_hard_pool(pool, epoch=1, bands=class_bands(logits, labels, **BAND))
    return plan, pool


def best_answer(plan, place, epoch, *, corrected):
    """Returns places, and the answer there that minimises cross-entropy over the stream."""
    weights, offsets = plan.label_weights(epoch), plan.hard_offsets(epoch)
    bands = plan.coded(np.arange(len(place)), epoch) // 3
    cells = np.digitize(place, np.linspace(-1, 1, 21)) - 1
    # Windows of a cell, a band and a label weigh together: the loss sees no more of them.
    kinds, kind = np.unique(
        np.column_stack([cells, bands, plan.labels]), axis=0, return_inverse=True
    )
    cells, bands, labels = kinds.T
    weights = np.bincount(kind.ravel(), weights)
    x = np.eye(20)[cells]
    logits = np.zeros((20, 3))
    inside = (bands[:, None] >> np.arange(3)) & 1 == 1
    own = np.where(inside, offsets[1], offsets[0]) if corrected else 0.0
    for _ in range(300):  # gradient steps in closed form: cells do not touch each other
        p = softmax(logits[cells] + own, axis=1)
        gradient = x.T @ (weights[:, None] * (p - np.eye(3)[labels]))
        logits -= 3 * gradient / (x.T @ weights)[:, None]
    return softmax(logits, axis=1)


@pytest.mark.parametrize("spacing", [1, 3])
def test_with_the_correction_the_best_answer_is_the_true_one(spacing):
    place, logits, labels = world()
    plan, _ = mined_plan(logits, labels, spacing)
    centres = np.linspace(-0.95, 0.95, 20)
    true = np.array(
        [softmax(logits, axis=1)[np.abs(place - c) < 0.05].mean(axis=0) for c in centres]
    )
    bent = best_answer(plan, place, 1, corrected=False)
    right = best_answer(plan, place, 1, corrected=True)
    assert np.abs(right - true).max() < 0.05
    assert np.abs(bent - true).max() > 0.1
    # Without it the side is the wrong one where it matters: what is likely is called unlikely.
    side = true[:, 2] - true[:, 0]
    assert np.corrcoef(side, right[:, 2] - right[:, 0])[0, 1] > 0.95
    assert np.corrcoef(side, bent[:, 2] - bent[:, 0])[0, 1] < 0.5


def test_a_loss_that_is_no_number_ranks_highest_and_lies_in_no_band():
    logits, labels = np.array([[3.0, 0], [2, 0], [np.nan, 0], [1, 0], [0, 0]]), np.zeros(5, int)
    for trim, top, expected in (
        (0.0, 0.4, [0, 0, 0, 0, 1]),
        (0.2, 0.2, [0, 0, 0, 0, 1]),
        (0.4, 0.2, [0, 0, 0, 1, 0]),
    ):
        found = class_bands(logits, labels, top_k_fraction=top, trim_fraction=trim)
        assert found.tolist() == expected


def test_whether_a_window_is_in_a_band_does_not_depend_on_its_label():
    _, logits, labels = world(3000)
    bands = class_bands(logits, labels, **BAND)
    order = np.random.default_rng(1).permutation(3000)
    np.testing.assert_array_equal(class_bands(logits[order], labels[order], **BAND), bands[order])
    losses = cross_entropies(logits, labels)
    zeros = np.zeros(3000, int)
    for label, members in hard_band(losses, labels, zeros, np.arange(3000), **BAND).items():
        inside = np.flatnonzero((labels == label) & (bands >> label & 1 == 1))
        assert set(members) == set(inside)
    other = -log_softmax(logits, axis=1)[:, 2]
    own = other[(labels == 2) & (bands >> 2 & 1 == 1)]
    np.testing.assert_array_equal(bands >> 2 & 1 == 1, (other >= own.min()) & (other <= own.max()))


def test_targets_are_coded_from_the_first_epoch_with_a_pool_on():
    _, logits, labels = world(3000)
    plan, pool = mined_plan(logits, labels)
    for epoch in (0, 1):
        sequences = plan.sequences(epoch, 3)
        y, weights = plan.targets(sequences, epoch)
        at = sequences.positions[weights > 0]
        np.testing.assert_array_equal(y[weights > 0] % 3, labels[at])
        assert (y.max() >= 3) == (epoch == 1)
        assert plan.hard_offsets(epoch).any() == (epoch == 1)
    assert len(pool) == 3


def test_the_loss_adds_the_offsets_of_its_bands_and_at_first_changes_nothing():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)).astype("float32"), rng.integers(0, 3, 50)
    bands = rng.integers(0, 8, 50)
    settings = {"ce_weight": 0.4, "gamma": (1.0, 2.0, 1.0), "smoothing": 0.05, "reduction": None}
    plain, coded = MixedLoss(**settings), MixedLoss(hard_classes=3, **settings)
    np.testing.assert_array_equal(coded(labels + 3 * bands, logits), plain(labels, logits))
    offsets = np.array([[-0.5, -0.6, -0.7], [0.5, 0.3, 0.2]], "float32")
    coded.hard_offsets.assign(offsets)
    inside = (bands[:, None] >> np.arange(3)) & 1
    added = logits + np.take_along_axis(offsets, inside, axis=0)
    np.testing.assert_allclose(
        coded(labels + 3 * bands, logits), plain(labels, added), rtol=1e-5, atol=1e-6
    )
    assert coded.variables[1] is coded.hard_offsets and len(plain.variables) == 1
    assert any(v is coded.hard_offsets for v in CrossEntropyWeight(coded).variables)
    again = keras.losses.deserialize(keras.losses.serialize(coded))
    assert again.hard_classes == 3
