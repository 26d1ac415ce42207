import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_plans import PRIORS, balanced, epoch_of, hardest, make_plan, market, plan_of, plans

from data.batches.quotas import quotas
from data.batches.sampling import BatchPlan

# --- quotas


@settings(max_examples=100, deadline=None)
@given(
    ratios=st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda r: sum(r) > 1e-3),
    total=st.integers(0, 300),
)
def test_quotas_add_up_and_lie_within_one_of_the_exact_share(ratios, total):
    shares = quotas(ratios, total)
    assert shares.sum() == total
    np.testing.assert_array_less(np.abs(shares - np.array(ratios) / sum(ratios) * total), 1)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any))
def test_quotas_of_whole_shares_are_exact_at_any_scale(counts):
    ratios = np.array(counts) / 7.0
    np.testing.assert_array_equal(quotas(ratios, sum(counts)), counts)


def test_quotas_of_the_usual_ratios_worked_by_hand():
    # .33 / 1.06 * 64 = 19.92, .40 / 1.06 * 64 = 24.15: the two largest remainders are .92.
    assert quotas(PRIORS, 64).tolist() == [20, 24, 20]
    assert quotas((1, 1, 1), 64).tolist() == [22, 21, 21]


def test_equal_remainders_go_to_the_first_class():
    # .1 / .9 * 3 = .1 / .9 * 3 = 1/3 and .7 / .9 * 3 = 7/3: three remainders of 1/3.
    assert quotas((0.1, 0.1, 0.7), 3).tolist() == [1, 0, 2]


def test_quotas_refuse_negative_ratios():
    with pytest.raises(ValueError, match=r"not be negative and not all 0, got \[1.0, -1.0\]"):
        quotas((1, -1), 4)


# --- the plan


@settings(max_examples=40, deadline=None)
@given(drawn=plans)
def test_every_batch_has_exactly_the_class_quotas(drawn):
    plan = plan_of(drawn, balance_classes=True)
    counts = quotas(PRIORS, plan.batch_size)
    for batch in epoch_of(plan, 0):
        np.testing.assert_array_equal(np.bincount(plan.labels[batch], minlength=3), counts)
    np.testing.assert_array_equal(plan.class_prior, counts / plan.batch_size)


def symbol_shares(plan, label=None):
    """Returns what each symbol should have of a class's slots: P(c | s), or equal shares of all."""
    found = np.arange(plan.symbols.max() + 1)
    inside = np.ones(len(plan.labels), bool) if label is None else plan.labels == label
    shares = np.array([inside[plan.symbols == s].mean() for s in found])
    return shares / shares.sum()


@settings(max_examples=40, deadline=None)
@given(drawn=plans)
def test_every_batch_has_of_each_symbol_what_its_weight_says(drawn):
    plan = plan_of(drawn, balance_symbols=True)
    if len(np.unique(plan.symbols)) <= plan.symbols.max():
        return  # a symbol without windows
    for batch in epoch_of(plan, 1):
        for label in range(3) if drawn["balance_classes"] else [None]:
            held = batch if label is None else batch[plan.labels[batch] == label]
            shares = symbol_shares(plan, label)
            counts = np.bincount(plan.symbols[held], minlength=len(shares))
            # Whole slots: where all shares are equal, counts differ by 1.
            assert np.abs(counts - len(held) * shares).max() < (1 if label is None else 2)
            assert label is not None or np.ptp(counts) <= 1


@settings(max_examples=30, deadline=None)
@given(drawn=plans, share=st.sampled_from([None, 0.4]))
def test_a_batch_depends_on_seed_epoch_and_index_alone(drawn, share):
    hard_share = None if share is None else lambda epoch: share
    first, second = plan_of(drawn, hard_share=hard_share), plan_of(drawn, hard_share=hard_share)
    for plan in (first, second):
        plan.set_hard_pool(hardest(plan.labels), epoch=1)
    asked = [(e, i) for e in range(3) for i in range(first.num_batches)]
    in_order = {at: first.indices(*at) for at in asked}
    for at in np.random.default_rng(0).permutation(asked).tolist():
        np.testing.assert_array_equal(second.indices(*at), in_order[tuple(at)])


def test_the_table_of_an_epoch_is_made_once_and_cannot_be_changed():
    labels, symbols = market()
    plan = balanced(labels, symbols)
    table = plan.table(3)
    assert table is plan.table(3) and table.dtype == np.int32
    assert table.shape == (plan.num_batches, 16)
    with pytest.raises(ValueError, match="read-only"):
        plan.indices(3, 0)[0] = 1
    plan.table(4)
    assert plan.table(3) is not table  # one epoch's table is kept


def test_seeds_and_epochs_give_other_batches():
    labels, symbols = market()
    plan = balanced(labels, symbols)
    assert not np.array_equal(plan.indices(0, 0), plan.indices(1, 0))
    other = balanced(labels, symbols, seed=1)
    assert not np.array_equal(plan.indices(0, 0), other.indices(0, 0))


@settings(max_examples=30, deadline=None)
@given(num_windows=st.integers(1, 100), batch_size=st.integers(1, 20), seed=st.integers(0, 99))
def test_all_off_every_epoch_is_a_new_permutation(num_windows, batch_size, seed):
    labels, symbols = market(num_windows, seed=seed)
    plan = make_plan(labels, symbols, batch_size=batch_size, seed=seed)
    epochs = [epoch_of(plan, epoch).ravel() for epoch in range(3)]
    for drawn in epochs:
        counts = np.bincount(drawn, minlength=num_windows)
        assert counts.min() >= 1 and np.ptp(counts) <= 1
        assert counts.sum() - num_windows == -num_windows % batch_size  # to fill the last batch
    if num_windows > 30:
        assert not np.array_equal(epochs[0], epochs[1])


@settings(max_examples=30, deadline=None)
@given(drawn=plans)
def test_no_window_of_a_cell_repeats_before_all_of_it_were_drawn(drawn):
    plan = plan_of(drawn)
    counts = np.zeros(len(plan.labels), int)
    for epoch in range(3):
        if epoch == 0 or drawn["balance_classes"] or drawn["balance_symbols"]:
            np.add.at(counts, epoch_of(plan, epoch).ravel(), 1)
    cells = np.zeros(len(plan.labels), int)
    cells += 10 * plan.labels * drawn["balance_classes"] + plan.symbols * drawn["balance_symbols"]
    for cell in np.unique(cells):
        assert np.ptp(counts[cells == cell]) <= 1


def test_all_windows_are_reached_over_epochs_with_everything_on():
    labels, symbols = market()
    plan = balanced(labels, symbols, class_ratios=PRIORS, hard_share=lambda epoch: 0.5)
    plan.set_hard_pool(hardest(labels), epoch=1)
    seen = np.concatenate([epoch_of(plan, epoch).ravel() for epoch in range(6)])
    assert len(np.unique(seen)) == len(labels)


def test_over_whole_rounds_symbols_with_the_same_class_shares_are_drawn_alike():
    labels, symbols = np.tile([0, 1, 1, 2, 2, 2], 5 * 20), np.repeat(np.arange(5), 6 * 20)
    plan = balanced(labels, symbols, batch_size=20, steps_per_epoch=15)
    drawn = epoch_of(plan, 2).ravel()  # 15 batches: three rounds of the five symbols
    for label in range(3):
        counts = np.bincount(symbols[drawn[labels[drawn] == label]], minlength=5)
        assert np.ptp(counts) == 0


# --- class shares of symbols


def two_symbols():
    """Returns labels and symbols of two symbols with P(HOLD) of 0.9 and 0.2."""
    given = np.array([[0.05, 0.9, 0.05], [0.5, 0.2, 0.3]])
    counts = (given * [[400], [1600]]).round().astype(int)
    cells = [(s, c) for s in range(2) for c in range(3) for _ in range(counts[s, c])]
    symbols, labels = np.array(cells).T
    return labels, symbols, given


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("hard_share", [None, lambda epoch: 0.4])
def test_one_prior_gives_back_the_class_shares_of_every_symbol(by_class, hard_share):
    labels, symbols, given = two_symbols()
    plan = balanced(
        labels,
        symbols,
        batch_size=33,
        class_ratios=PRIORS,
        balance_classes=by_class,
        hard_share=hard_share,
        steps_per_epoch=1000,
    )
    np.testing.assert_allclose(plan.natural_prior, given.mean(axis=0))
    drawn = epoch_of(plan, 1).ravel()
    frequencies = np.zeros((2, 3))
    np.add.at(frequencies, (symbols[drawn], labels[drawn]), 1)
    np.testing.assert_allclose(frequencies.sum(axis=0) / len(drawn), plan.class_prior, atol=2e-3)
    # What a network answers that sees nothing but the symbol, then the one change of the prior.
    answers = frequencies / frequencies.sum(axis=1, keepdims=True)
    restored = answers * (plan.natural_prior / plan.class_prior)
    restored /= restored.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(restored, given, atol=0.01)


def test_without_balanced_symbols_the_natural_prior_is_that_of_all_windows():
    labels, symbols, _ = two_symbols()
    plan = balanced(labels, symbols, balance_symbols=False)
    np.testing.assert_allclose(plan.natural_prior, np.bincount(labels) / len(labels))


def test_the_order_inside_a_batch_tells_nothing_of_the_class():
    labels, symbols = market()
    plan = balanced(labels, symbols, hard_share=lambda epoch: 0.5)
    first = [labels[batch[0]] for batch in epoch_of(plan, 0)]
    assert set(first) == {0, 1, 2}


# --- figures and errors


def test_repeats_are_draws_over_windows_and_json():
    labels, symbols = market(600, shares=(0.1, 0.6, 0.3))
    plan = balanced(labels, symbols, batch_size=30, class_ratios=(1, 1, 1))
    told = json.loads(json.dumps(plan.effective_repeats(0)))
    num_sell = int((labels == 0).sum())
    assert told["classes"]["SELL"] == {
        "windows": num_sell,
        "repeats": pytest.approx(10 * plan.num_batches / num_sell),
    }
    assert told["symbols"].keys() == {"0", "1", "2", "3"}
    assert 0 < told["reached"] <= 1 < told["largest"]


def test_the_prior_without_balancing_is_the_natural_one():
    labels, symbols = market()
    plan = make_plan(labels, symbols, class_ratios=PRIORS)
    np.testing.assert_allclose(plan.class_prior, np.bincount(labels) / len(labels))


def test_the_prior_with_balanced_symbols_is_that_of_the_mean_symbol():
    labels = np.array([0] * 6 + [1] * 2 + [1] * 2)
    symbols = np.array([0] * 8 + [1] * 2)
    plan = make_plan(labels, symbols, batch_size=4, balance_symbols=True, steps_per_epoch=20)
    np.testing.assert_allclose(plan.class_prior, [0.375, 0.625])
    drawn = epoch_of(plan, 0).ravel()  # 40 of each symbol: five passes over the eight windows
    np.testing.assert_allclose(np.bincount(labels[drawn]) / len(drawn), [0.375, 0.625])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"labels": np.array([0, 0, 1, 1])}, "no training window is labelled BUY"),
        ({"batch_size": 2}, "batch size 2 is too small to hold class BUY"),
        ({"class_ratios": (1, 1)}, "every class needs a ratio; 2 for 3 classes"),
        ({"batch_size": 0}, "a batch must have at least 1 window"),
        ({"labels": np.array([0, 1, 2, -1])}, "must have a label; some have -1"),
        ({"labels": np.array([], int), "symbols": np.array([])}, "at least one window"),
        ({"symbols": np.array([0])}, "4 labels and 1 symbols"),
    ],
)
def test_quotas_that_cannot_be_filled_are_explained(options, message):
    arguments = {
        "labels": np.array([0, 1, 2, 2]),
        "symbols": np.zeros(4, int),
        "batch_size": 3,
        "class_ratios": (1, 1, 1),
    } | options
    with pytest.raises(ValueError, match=message):
        BatchPlan(**arguments, seed=0, balance_classes=True)


def test_every_class_needs_a_ratio_without_balancing_too():
    with pytest.raises(ValueError, match="2 for 3 classes"):
        make_plan([0, 1, 2], [0, 0, 0], class_ratios=(1, 1))


def test_a_hard_share_beyond_the_batch_is_an_error():
    plan = make_plan([0, 1, 2], [0, 0, 0], batch_size=3, hard_share=lambda epoch: 1.5)
    with pytest.raises(ValueError, match="must lie in 0..1, epoch 2 has 1.5"):
        plan.indices(2, 0)


def test_a_batch_outside_the_epoch_is_an_error():
    with pytest.raises(IndexError, match="need a batch from 0 to 0, got 1"):
        make_plan(np.zeros(4, int), np.zeros(4, int)).indices(0, 1)
