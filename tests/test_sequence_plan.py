import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sequences import batches_of, drawn_data, drawn_plans, make_batches, make_plan, market

from data.batches.runs import Runs

RATIOS = (0.33, 0.40, 0.33)


def weighted_shares(made):
    y, w = (np.concatenate([batch[i].ravel() for batch in made]) for i in (1, 2))
    totals = np.bincount(y, w.astype("float64"), minlength=3)
    return totals / totals.sum()


def test_the_fixed_window_lies_in_the_middle_of_the_contexts():
    runs = Runs(market()[0], sequence_length=60, labels_per_sequence=64)
    assert (runs.shortest_context, runs.num_bars) == (28, 91)  # contexts 28..91


def test_cut_points_move_so_that_a_label_is_met_with_every_context():
    data = market(segments=(60,), holes=0)
    plan = make_plan(data, labels_per_sequence=6)
    seen = np.zeros((len(data[0]), 6), int)
    for epoch in range(300):
        for index in range(plan.num_batches):
            positions = plan.sequences(epoch, index).positions
            step = np.nonzero(positions >= 0)[1]
            seen[positions[positions >= 0], step] += 1
    inner = seen[6:-6]  # of 300: binomial, mean 50, five standard deviations are 32
    assert inner.min() > 18 and inner.max() < 82


def test_sequences_go_round_the_symbols():
    data = market(segments=(500, 300, 900, 200), holes=0)
    plan = make_plan(data, batch_size=10, balance_symbols=True)
    for epoch in range(3):
        counts = []
        for index in range(plan.num_batches):
            at = plan.sequences(epoch, index).positions.max(axis=1)
            counts.append(np.bincount(data[3][at[at >= 0]], minlength=3))
        shares = np.sum(counts, axis=0) / np.sum(counts)
        assert (np.abs(counts - shares * np.sum(counts, axis=1, keepdims=True)) < 2).all()


def test_passes_go_on_across_epochs_of_a_given_number_of_steps():
    whole, short = make_plan(), make_plan(steps_per_epoch=7)
    for step in range(3 * whole.num_batches):
        expected = whole.sequences(*divmod(step, whole.num_batches)).positions
        np.testing.assert_array_equal(short.sequences(*divmod(step, 7)).positions, expected)


# --- weights


@settings(max_examples=40, deadline=None)
@given(drawn=drawn_plans, epoch=st.integers(0, 5), unique=st.booleans())
def test_weighted_class_shares_of_an_epoch_are_the_ratios(drawn, epoch, unique):
    data, options = drawn_data(drawn)
    weights = np.random.default_rng(0).uniform(0.1, 1, len(data[0])) if unique else None
    batches = make_batches(
        data, class_ratios=RATIOS, balance_classes=True, weights=weights, **options
    )
    made, ratios = batches_of(batches, epoch), np.array(RATIOS) / sum(RATIOS)
    np.testing.assert_allclose(weighted_shares(made), ratios, rtol=1e-5)  # float32
    np.testing.assert_allclose(batches.plan.class_prior, ratios, rtol=1e-12)
    total = sum(w.sum(dtype="float64") for _, _, w in made)
    assert total == pytest.approx(len(data[0]) if weights is None else weights.sum(), rel=1e-5)


def test_class_weights_leave_the_ratios_of_uniqueness_inside_a_class():
    data = market()
    weights = np.random.default_rng(0).uniform(0.1, 1, len(data[0]))
    plan = make_plan(data, weights=weights, balance_classes=True)
    for label in range(3):
        ratio = plan.label_weights(0)[data[2] == label] / weights[data[2] == label]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    plain = make_plan(data, weights=weights)
    np.testing.assert_allclose(plain.label_weights(0), weights, rtol=1e-6)
    totals = np.bincount(data[2], weights)
    np.testing.assert_allclose(plain.class_prior, totals / totals.sum())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("balance", [False, True])
def test_the_hard_share_of_each_class_s_weight_goes_to_its_pool_the_rest_to_all(share, balance):
    data = market(segments=(300, 300, 300))
    options = {"balance_classes": balance, "class_ratios": RATIOS}
    weights = np.random.default_rng(0).uniform(0.1, 1, len(data[0]))
    plan = make_plan(
        data, weights=weights, hard_share=lambda e: share if e >= 2 else 0.0, **options
    )
    plain = make_plan(data, weights=weights, **options)
    pool = {c: np.flatnonzero(data[2] == c)[::size] for c, size in [(0, 3), (2, 30)]}
    plan.set_hard_pool(pool, epoch=2)
    np.testing.assert_array_equal(plan.label_weights(1), plain.label_weights(1))
    hard, before = (p.label_weights(2).astype("float64") for p in (plan, plain))
    for label in range(3):
        of_class, total = data[2] == label, before[data[2] == label].sum()
        assert hard[of_class].sum() == pytest.approx(total, rel=1e-5)
        if label in pool:
            own = before[pool[label]].sum()
            given = min(share, 3 * own / (total - own))  # no label weighs more than four times
            assert (given < share) == (label == 2 and share > 0.1)
            others = np.setdiff1d(np.flatnonzero(of_class), pool[label])
            np.testing.assert_allclose(hard[others], (1 - given) * before[others], rtol=1e-5)
            wanted = before[pool[label]] * (1 - given + given * total / own)
            np.testing.assert_allclose(hard[pool[label]], wanted, rtol=1e-5)
        else:
            np.testing.assert_allclose(hard[of_class], before[of_class])
    np.testing.assert_allclose(plan.class_prior, plain.class_prior)


def test_a_small_share_changes_the_weights_too():
    data = market()
    plan = make_plan(data, hard_share=lambda epoch: 0.1)
    plan.set_hard_pool({c: np.flatnonzero(data[2] == c)[::2] for c in range(3)}, epoch=0)
    assert (plan.label_weights(0) != 1).all()


def test_the_natural_prior_is_that_of_the_labels_whatever_they_weigh():
    data = market()
    weights = np.random.default_rng(0).uniform(0.1, 1, len(data[0]))
    plan = make_plan(data, weights=weights, balance_classes=True, class_ratios=RATIOS)
    counts = np.bincount(data[2])
    np.testing.assert_allclose(plan.natural_prior, counts / counts.sum())


def test_pools_hold_from_their_epoch_whenever_they_were_set():
    plan, later = (make_plan(hard_share=lambda epoch: 0.5) for _ in range(2))
    of_class = np.flatnonzero(plan.labels == 0)
    later.label_weights(4)
    for each in (plan, later):
        each.set_hard_pool({0: of_class[:3]}, epoch=1)
        each.set_hard_pool({0: of_class[3:5]}, epoch=4)
    for epoch, hard in [(0, []), (2, of_class[:3]), (4, of_class[3:5])]:
        weights = plan.label_weights(epoch)
        np.testing.assert_array_equal(np.flatnonzero(weights > 1), hard)
        np.testing.assert_array_equal(later.label_weights(epoch), weights)


def test_repeats_are_mean_weights_and_json():
    plan = make_plan(balance_classes=True, class_ratios=(1, 1, 1))
    told = json.loads(json.dumps(plan.effective_repeats(0)))
    num_sell, num = int((plan.labels == 0).sum()), len(plan.labels)
    assert told["classes"]["SELL"]["windows"] == num_sell
    assert told["classes"]["SELL"]["repeats"] == pytest.approx(num / 3 / num_sell, rel=1e-5)
    assert told["reached"] == 1.0 and told["symbols"].keys() == {"0", "1", "2"}


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_per_sequence": 16}, "must have 1 to 15 labels for windows of 8 bars, got 16"),
        ({"labels_per_sequence": 0}, "must have 1 to 15 labels"),
        ({"class_ratios": (1, 1)}, "every class needs a ratio; 2 for 3 classes"),
        ({"class_ratios": (1, 1, 1, 1), "balance_classes": True}, "no training window is labelled"),
        ({"batch_size": 0}, "a batch must have at least 1 window"),
    ],
)
def test_arguments_out_of_range_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**options)


def test_ends_that_do_not_rise_are_refused():
    ends, bounds, labels, symbols = market()
    with pytest.raises(ValueError, match="windows, rising"):
        make_plan((ends[::-1], bounds, labels, symbols))


def test_a_share_or_a_batch_that_cannot_be_is_an_error():
    plan = make_plan(hard_share=lambda epoch: 1.5)
    with pytest.raises(ValueError, match="must lie in 0..1, epoch 2 has 1.5"):
        plan.label_weights(2)
    with pytest.raises(IndexError, match="got 99"):
        plan.sequences(0, 99)
    with pytest.raises(ValueError, match="hard pool of class 0 must hold windows of it alone"):
        plan.set_hard_pool({0: np.flatnonzero(plan.labels == 1)[:3]}, epoch=0)
    with pytest.raises(ValueError, match="there is no augmentation 'noise'"):
        make_batches(augmentations={"noise": 1.0})
    with pytest.raises(ValueError, match="windows of at least 2 bars, got 1"):
        Runs(np.arange(10), sequence_length=1, labels_per_sequence=1)
