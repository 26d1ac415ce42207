import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.quotas import quotas
from data.sampling import BatchPlan

PRIORS = (0.33, 0.40, 0.33)


def market(num_windows=600, num_symbols=4, seed=0, shares=(0.2, 0.6, 0.2)):
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(shares), num_windows, p=shares).astype("int32")
    return labels, np.sort(rng.integers(num_symbols, size=num_windows)).astype("int16")


def make_plan(labels, symbols, *, batch_size=16, seed=0, **options):
    return BatchPlan(labels, symbols, batch_size=batch_size, seed=seed, **options)


def epoch_of(plan, epoch):
    return np.array([plan.indices(epoch, index) for index in range(plan.num_batches)])


def balanced(labels, symbols, **options):
    options = {"balance_classes": True, "balance_symbols": True} | options
    return make_plan(labels, symbols, **options)


def hardest(labels, share=0.2):
    """A pool: the first windows of each class."""
    found = {c: np.flatnonzero(labels == c) for c in np.unique(labels)}
    return {int(c): w[: max(1, int(share * len(w)))] for c, w in found.items()}


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

plans = st.fixed_dictionaries(
    {
        "num_windows": st.integers(40, 200),
        "num_symbols": st.integers(1, 5),
        "batch_size": st.integers(5, 30),
        "seed": st.integers(0, 10_000),
        "balance_classes": st.booleans(),
        "balance_symbols": st.booleans(),
        "steps_per_epoch": st.sampled_from([0, 7]),
    }
)


def plan_of(drawn, **options):
    drawn = dict(drawn)
    labels, symbols = market(
        drawn.pop("num_windows"), drawn.pop("num_symbols"), drawn["seed"], (0.35, 0.3, 0.35)
    )
    return make_plan(labels, symbols, class_ratios=PRIORS, **(drawn | options))


@settings(max_examples=40, deadline=None)
@given(drawn=plans)
def test_every_batch_has_exactly_the_class_quotas(drawn):
    plan = plan_of(drawn, balance_classes=True)
    counts = quotas(PRIORS, plan.batch_size)
    for batch in epoch_of(plan, 0):
        np.testing.assert_array_equal(np.bincount(plan.labels[batch], minlength=3), counts)
    np.testing.assert_array_equal(plan.class_prior, counts / plan.batch_size)


@settings(max_examples=40, deadline=None)
@given(drawn=plans, share=st.sampled_from([None, 0.3]))
def test_symbols_that_have_a_class_differ_by_at_most_one_inside_it(drawn, share):
    hard_share = None if share is None else lambda epoch: share
    plan = plan_of(drawn, balance_symbols=True, hard_share=hard_share)
    if share:
        plan.set_hard_pool(hardest(plan.labels, 1.0), epoch=0)
    for batch in epoch_of(plan, 1):
        for label in range(3) if drawn["balance_classes"] else [None]:
            of_class = plan.labels == label if label is not None else plan.labels >= 0
            able = np.unique(plan.symbols[of_class])
            held = plan.symbols[batch[of_class[batch]]]
            counts = [(held == symbol).sum() for symbol in able]
            assert max(counts) - min(counts) <= 1


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


def test_over_whole_rounds_symbols_of_a_class_have_exactly_equal_shares():
    labels, symbols = market(num_symbols=5)
    plan = balanced(labels, symbols, batch_size=20, steps_per_epoch=15)
    drawn = epoch_of(plan, 2).ravel()  # 15 batches: three rounds of the five symbols
    for label in range(3):
        counts = np.bincount(symbols[drawn[labels[drawn] == label]], minlength=5)
        assert np.ptp(counts) == 0


@pytest.mark.parametrize("batch_size", [16, 21, 40])
def test_symbols_are_even_over_the_whole_batch_too(batch_size):
    labels, symbols = market(num_symbols=5)
    plan = balanced(labels, symbols, batch_size=batch_size, class_ratios=PRIORS)
    for batch in epoch_of(plan, 1):
        assert np.ptp(np.bincount(symbols[batch], minlength=5)) <= 1


def test_the_order_inside_a_batch_tells_nothing_of_the_class():
    labels, symbols = market()
    plan = balanced(labels, symbols, hard_share=lambda epoch: 0.5)
    first = [labels[batch[0]] for batch in epoch_of(plan, 0)]
    assert set(first) == {0, 1, 2}


# --- hard windows


def hard_plan(share, *, by_class=True, by_symbol=True, batch_size=30):
    labels, symbols = market(3000, 5)
    plan = make_plan(
        labels,
        symbols,
        batch_size=batch_size,
        class_ratios=(1, 1, 1),
        balance_classes=by_class,
        balance_symbols=by_symbol,
        hard_share=lambda epoch: share if epoch >= 2 else 0.0,
    )
    pool = {c: np.random.default_rng(c).permutation(w) for c, w in hardest(labels, 1.0).items()}
    pool = {c: w[:50] for c, w in pool.items()}
    plan.set_hard_pool(pool, epoch=2)
    return plan, pool


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_the_hard_share_of_each_class_comes_from_its_pool(share):
    plan, pool = hard_plan(share)
    for batch in epoch_of(plan, 2):
        for label, windows in pool.items():
            drawn = batch[plan.labels[batch] == label]
            num_pool = np.isin(drawn, windows).sum()
            assert len(drawn) == 10 and num_pool >= 10 * share
    # What exceeds the share are normal draws that happen to be in the pool.
    hard = np.isin(epoch_of(plan, 2), np.concatenate(list(pool.values()))).mean()
    assert share <= hard <= share + (1 - share) * 0.2


def test_no_hard_windows_before_their_epoch():
    plan, _ = hard_plan(0.5)
    plain = balanced(plan.labels, plan.symbols, batch_size=30, class_ratios=(1, 1, 1))
    np.testing.assert_array_equal(epoch_of(plan, 1), epoch_of(plain, 1))


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("by_symbol", [True, False])
def test_hard_windows_leave_the_class_distribution_of_the_stream(by_class, by_symbol):
    plan, _ = hard_plan(0.5, by_class=by_class, by_symbol=by_symbol)
    drawn = epoch_of(plan, 2).ravel()
    shares = np.bincount(plan.labels[drawn], minlength=3) / len(drawn)
    # Binomial deviation of the 3000 draws; exact where classes are balanced.
    np.testing.assert_allclose(shares, plan.class_prior, atol=0 if by_class else 0.03)


def test_hard_draws_go_evenly_through_the_pool():
    plan, pool = hard_plan(1.0, by_symbol=False)
    drawn = np.concatenate([epoch_of(plan, 2), epoch_of(plan, 3)]).ravel()
    for windows in pool.values():
        counts = np.bincount(drawn, minlength=len(plan.labels))[windows]
        assert np.ptp(counts) <= 1


@settings(max_examples=30, deadline=None)
@given(drawn=plans)
def test_a_growing_hard_share_leaves_the_walks_over_each_cell_unbroken(drawn):
    plan = plan_of(drawn, balance_classes=True, hard_share=lambda epoch: 0.1 * epoch)
    plan.set_hard_pool(hardest(plan.labels), epoch=0)
    counts = np.zeros(len(plan.labels), int)
    for epoch in range(6):
        np.add.at(counts, epoch_of(plan, epoch).ravel(), 1)
    in_pool = np.isin(np.arange(len(counts)), np.concatenate(list(hardest(plan.labels).values())))
    cells = 10 * plan.labels + plan.symbols * drawn["balance_symbols"]
    for cell in np.unique(cells):
        others = counts[(cells == cell) & ~in_pool]
        assert len(others) == 0 or np.ptp(others) <= 1


def test_hundreds_of_symbols_are_planned_in_little_memory():
    num_symbols = 900
    symbols = np.repeat(np.arange(num_symbols), 6)
    labels = np.tile([0, 1, 2], 2 * num_symbols)
    tracemalloc.start()
    plan = balanced(
        labels, symbols, hard_share=lambda epoch: 0.1 * epoch, steps_per_epoch=num_symbols
    )
    for epoch in range(6):
        plan.indices(epoch, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * 3 * num_symbols  # a table of all pairs of symbols would have 6.5 MB
    drawn = np.concatenate([plan.indices(7, i) for i in range(num_symbols)])
    counts = np.bincount(symbols[drawn], minlength=num_symbols)
    assert set(counts) == {16}  # as many batches as symbols: each has had every slot


def test_hard_draws_take_each_symbol_alike():
    plan, pool = hard_plan(0.5, batch_size=15)
    drawn = epoch_of(plan, 2)
    hard = np.isin(drawn, np.concatenate(list(pool.values())))
    counts = np.bincount(plan.symbols[drawn[hard]], minlength=5)
    assert counts.min() > 0.8 * counts.mean()


def test_a_symbol_without_hard_windows_takes_them_from_the_class():
    labels, symbols = market(300, 3)
    plan = balanced(labels, symbols, batch_size=30, hard_share=lambda epoch: 1.0)
    pool = {c: np.flatnonzero((labels == c) & (symbols == 0))[:8] for c in range(3)}
    plan.set_hard_pool(pool, epoch=0)
    drawn = epoch_of(plan, 0)
    assert np.isin(drawn, np.concatenate(list(pool.values()))).all()


def test_symbols_that_share_a_class_s_hard_windows_take_turns():
    labels, symbols = market(900, 3)
    plan = balanced(labels, symbols, batch_size=27, hard_share=lambda epoch: 1.0)
    plan.set_hard_pool(
        {c: np.flatnonzero((labels == c) & (symbols == 0)) for c in range(3)}, epoch=0
    )
    distinct = [len(np.unique(batch[labels[batch] == 1])) for batch in epoch_of(plan, 0)]
    # Of nine draws three are by the symbol's own walk; six would be distinct if the other two
    # symbols drew the same windows.
    assert np.mean(distinct) > 8


def test_hard_slots_of_a_class_without_a_pool_take_its_other_windows():
    labels, symbols = market(900)
    plan = make_plan(labels, symbols, balance_symbols=True, hard_share=lambda epoch: 1.0)
    plan.set_hard_pool({1: np.flatnonzero(labels == 1)[:50]}, epoch=0)
    drawn = np.concatenate([epoch_of(plan, 0), epoch_of(plan, 1)]).ravel()
    shares = np.bincount(labels[drawn]) / len(drawn)
    # Binomial: five standard deviations of 1824 draws are at most .06.
    np.testing.assert_allclose(shares, plan.class_prior, atol=0.06)


def test_a_new_pool_forgets_those_of_an_abandoned_future():
    labels, symbols = market(900)
    plan = balanced(labels, symbols, batch_size=30, hard_share=lambda epoch: 1.0)
    plan.set_hard_pool({c: np.flatnonzero(labels == c)[:20] for c in range(3)}, epoch=5)
    pool = {c: np.flatnonzero(labels == c)[20:40] for c in range(3)}
    plan.set_hard_pool(pool, epoch=3)
    assert np.isin(epoch_of(plan, 6), np.concatenate(list(pool.values()))).all()


def test_a_pool_holds_from_its_epoch_until_the_next():
    labels, symbols = market(900)
    plan = balanced(labels, symbols, batch_size=30, hard_share=lambda epoch: 1.0)
    groups = [{c: np.flatnonzero(labels == c)[i::2] for c in range(3)} for i in range(2)]
    plan.set_hard_pool(groups[0], epoch=1)
    plan.set_hard_pool(groups[1], epoch=3)
    for epoch, group in [(1, 0), (2, 0), (3, 1), (4, 1)]:
        allowed = np.concatenate(list(groups[group].values()))
        assert np.isin(epoch_of(plan, epoch), allowed).all()


def test_state_restores_every_batch_of_a_resumed_run():
    plan, _ = hard_plan(0.5)
    plan.set_hard_pool(hardest(plan.labels), epoch=4)
    resumed, _ = hard_plan(0.5)
    resumed.set_state(plan.get_state())
    for epoch in (2, 4, 6):
        np.testing.assert_array_equal(epoch_of(resumed, epoch), epoch_of(plan, epoch))


def test_an_empty_state_takes_the_pool_away():
    labels, symbols = market()
    plan, fresh = (balanced(labels, symbols, hard_share=lambda epoch: 1.0) for _ in range(2))
    empty = plan.get_state()
    plan.set_hard_pool(hardest(labels), epoch=0)
    assert not np.array_equal(epoch_of(plan, 0), epoch_of(fresh, 0))
    plan.set_state(empty)
    np.testing.assert_array_equal(epoch_of(plan, 0), epoch_of(fresh, 0))


def test_the_last_pool_alone_suffices_to_go_on():
    plan, _ = hard_plan(0.5)
    last = hardest(plan.labels)
    plan.set_hard_pool(last, epoch=4)
    resumed = make_plan(
        plan.labels,
        plan.symbols,
        batch_size=30,
        class_ratios=(1, 1, 1),
        balance_classes=True,
        balance_symbols=True,
        hard_share=plan.hard_share,
    )
    resumed.set_hard_pool(last, epoch=4)
    np.testing.assert_array_equal(epoch_of(resumed, 5), epoch_of(plan, 5))


def test_a_pool_with_windows_of_another_class_is_refused():
    labels, symbols = market()
    plan = balanced(labels, symbols)
    with pytest.raises(ValueError, match="hard pool of class 0 must hold windows of it alone"):
        plan.set_hard_pool({0: np.flatnonzero(labels == 1)[:3]}, epoch=0)
    with pytest.raises(ValueError, match="hard pool of class 0"):
        plan.set_hard_pool({0: np.array([len(labels)])}, epoch=0)


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
        ({"batch_size": 2}, "a batch of 2 has no place for class BUY"),
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
    with pytest.raises(IndexError, match="has 1 batches; there is none at 1"):
        make_plan(np.zeros(4, int), np.zeros(4, int)).indices(0, 1)
