import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from sampling_plans import balanced, epoch_of, hardest, make_plan, market, plan_of, plans

from data.batches.pools import MOST_MULTIPLIED
from data.batches.sequence_plan import SequencePlan


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
    pool = {c: w[: len(w) // 3] for c, w in pool.items()}  # a third may have all the slots
    plan.set_hard_pool(pool, epoch=2)
    return plan, pool


@pytest.mark.parametrize("share", [0.2, 0.5, 0.55, 1.0])
def test_the_hard_share_of_each_class_comes_from_its_pool(share):
    plan, pool = hard_plan(share)
    for batch in epoch_of(plan, 2):
        for label, windows in pool.items():
            drawn = batch[plan.labels[batch] == label]
            num_pool = np.isin(drawn, windows).sum()
            assert len(drawn) == 10 and num_pool >= np.floor(10 * share)
    # What exceeds the share are draws from all windows, of which a third is in the pool.
    hard = np.isin(epoch_of(plan, 2), np.concatenate(list(pool.values()))).mean()
    assert hard == pytest.approx(share + (1 - share) / 3, abs=0.02)


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("by_symbol", [True, False])
@pytest.mark.parametrize("share, pool_share", [(0.3, 0.2), (0.5, 0.05)])
def test_windows_are_drawn_as_often_as_the_mixture_says(by_class, by_symbol, share, pool_share):
    """A symbol with one window in the pool has it drawn as often as any other of the pool."""
    labels, symbols = market(600, 3)
    plan = make_plan(
        labels,
        symbols,
        batch_size=30,
        class_ratios=(1, 1, 1),
        balance_classes=by_class,
        balance_symbols=by_symbol,
        hard_share=lambda epoch: share,
        steps_per_epoch=2000,
    )
    rng = np.random.default_rng(0)
    pool = {}
    for label in (0, 1):  # class 2 has none
        found = rng.permutation(np.flatnonzero((labels == label) & (symbols < 2)))
        lonely = np.flatnonzero((labels == label) & (symbols == 2))[:1]
        pool[label] = np.r_[found[: int(pool_share * (labels == label).sum())], lonely]
    plan.set_hard_pool(pool, epoch=0)
    draws = np.bincount(epoch_of(plan, 0).ravel(), minlength=len(labels))

    expected = 1 / np.bincount(symbols)[symbols] if by_symbol else np.ones(len(labels))
    for label in range(3):
        of_class = labels == label
        weights = expected[of_class].copy()
        if label in pool:
            hard = np.isin(np.flatnonzero(of_class), pool[label])
            fraction = weights[hard].sum() / weights.sum()
            given = min(share, 3 * fraction / (1 - fraction))
            weights *= np.where(hard, 1 - given + given / fraction, 1 - given)
            assert weights.sum() == pytest.approx(expected[of_class].sum())
        expected[of_class] = weights / (weights.sum() if by_class else 1)
    expected *= draws.sum() / expected.sum()
    np.testing.assert_allclose(draws, expected, rtol=0.03, atol=3)


@pytest.mark.parametrize("num_windows", [10**4, 10**6])
@pytest.mark.parametrize("share, least", [(0.2, 0.6), (0.5, 0.4)])
def test_a_hard_window_is_bounded_at_any_number_of_windows(num_windows, share, least):
    rng = np.random.default_rng(0)
    labels, symbols = rng.integers(3, size=num_windows), np.sort(rng.integers(9, size=num_windows))
    ends = np.arange(num_windows)
    of_sequences = SequencePlan(
        labels,
        symbols,
        ends,
        sequence_length=60,
        labels_per_sequence=60,
        batch_size=16,
        seed=0,
        hard_share=lambda epoch: share,
    )
    plan = balanced(labels, symbols, hard_share=lambda epoch: share, steps_per_epoch=3)
    for each in (plan, of_sequences):
        for size in (3000, num_windows // 20):  # of a scoring that was limited, or of all
            each.set_hard_pool({c: np.flatnonzero(labels == c)[:size] for c in range(3)}, epoch=0)
            for figures in each.pool_figures(0).values():
                assert 1 <= figures["multiplier"] <= MOST_MULTIPLIED == 4
                assert figures["effective_size"] > least
                assert figures["share_asked"] == share >= figures["share_given"] > 0
    weights = of_sequences.label_weights(0).astype("float64")
    assert weights.max() <= MOST_MULTIPLIED + 1e-6
    assert weights.sum() ** 2 / (weights**2).sum() / num_windows > least


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
    # Exact where classes are balanced; else the walks over cells stop inside a pass.
    np.testing.assert_allclose(shares, plan.class_prior, atol=1e-12 if by_class else 0.01)


def test_hard_draws_go_evenly_through_the_pool():
    plan, pool = hard_plan(1.0, by_symbol=False)
    drawn = np.concatenate([epoch_of(plan, epoch) for epoch in range(2, 9)]).ravel()
    for windows in pool.values():
        counts = np.bincount(drawn, minlength=len(plan.labels))[windows]
        assert np.ptp(counts) <= 1


@settings(max_examples=30, deadline=None)
@given(drawn=plans)
def test_a_growing_hard_share_leaves_the_walks_over_each_cell_unbroken(drawn):
    plan = plan_of(drawn, balance_classes=True, hard_share=lambda epoch: 0.05 * epoch)
    plan.set_hard_pool(hardest(plan.labels, 0.3), epoch=0)
    counts = np.zeros(len(plan.labels), int)
    for epoch in range(6):
        np.add.at(counts, epoch_of(plan, epoch).ravel(), 1)
    in_pool = np.isin(
        np.arange(len(counts)), np.concatenate(list(hardest(plan.labels, 0.3).values()))
    )
    cells = 10 * plan.labels + plan.symbols * drawn["balance_symbols"]
    for cell in np.unique(cells):
        others = counts[(cells == cell) & ~in_pool]
        assert len(others) == 0 or np.ptp(others) <= 1


@pytest.mark.slow
def test_hundreds_of_symbols_are_planned_in_little_memory():
    num_symbols = 900
    symbols = np.repeat(np.arange(num_symbols), 6)
    labels = np.tile([0, 1, 2], 2 * num_symbols)
    tracemalloc.start()
    plan = balanced(
        labels,
        symbols,
        batch_size=15,
        hard_share=lambda epoch: 0.2 * (epoch % 3),
        steps_per_epoch=num_symbols,
    )
    for epoch in range(6):
        plan.indices(epoch, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * 3 * num_symbols  # a table of all pairs of symbols would have 6.5 MB
    drawn = np.concatenate([plan.indices(7, i) for i in range(num_symbols)])
    counts = np.bincount(symbols[drawn], minlength=num_symbols)
    assert set(counts) == {15}  # as many batches as symbols: each has had every slot


def test_hard_slots_of_a_class_without_a_pool_take_its_other_windows():
    labels, symbols = market(900)
    plan = make_plan(labels, symbols, balance_symbols=True, hard_share=lambda epoch: 1.0)
    plan.set_hard_pool({1: np.flatnonzero(labels == 1)[:200]}, epoch=0)
    drawn = np.concatenate([epoch_of(plan, 0), epoch_of(plan, 1)]).ravel()
    shares = np.bincount(labels[drawn]) / len(drawn)
    np.testing.assert_allclose(shares, plan.class_prior, atol=0.01)


def test_a_new_pool_forgets_those_of_an_abandoned_future():
    labels, symbols = market(900)
    plan = balanced(labels, symbols, batch_size=30, hard_share=lambda epoch: 1.0)
    plan.set_hard_pool({c: np.flatnonzero(labels == c)[::3] for c in range(3)}, epoch=5)
    pool = {c: np.flatnonzero(labels == c)[1::3] for c in range(3)}
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
