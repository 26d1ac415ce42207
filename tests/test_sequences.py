import json
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batches import WindowBatches
from data.cuts import Cuts
from data.sampling import BatchPlan
from data.sequence_plan import SequencePlan
from data.sequences import SequenceBatches
from data.windows import ends_within, gather

LENGTH = 8
RATIOS = (0.33, 0.40, 0.33)
ALL = {"noise_std": 0.1, "time_shift": 2, "mask_prob": 0.5, "mask_max_t": 3}


def market(seed=0, segments=(40, 25, 60, 9, 33), holes=6):
    """Returns ends of training windows with holes, bounds, labels and symbols of the windows.

    The first two segments are of symbol 0, the next of 1, the others of 2.
    """
    rng = np.random.default_rng(seed)
    bounds = np.r_[0, np.cumsum(segments)]
    ends = ends_within(bounds, LENGTH, 2)
    if holes:  # purged windows
        ends = np.delete(ends, rng.choice(len(ends), min(holes, len(ends) - 4), replace=False))
    symbol_of_segment = np.array([0, 0, 1] + [2] * len(segments))
    symbols = symbol_of_segment[np.searchsorted(bounds, ends, side="right") - 1]
    labels = np.r_[0, 1, 2, rng.integers(3, size=len(ends) - 3)]
    return ends, bounds, labels, symbols


def make_plan(data=None, *, labels_per_sequence=6, batch_size=4, seed=0, **options):
    ends, _, labels, symbols = market() if data is None else data
    return SequencePlan(
        labels,
        symbols,
        ends,
        sequence_length=LENGTH,
        labels_per_sequence=labels_per_sequence,
        batch_size=batch_size,
        seed=seed,
        **options,
    )


def make_batches(data=None, *, augmentations=None, features=None, num_features=2, **options):
    data = market() if data is None else data
    plan = make_plan(data, **options)
    if features is None:  # every feature is the row's number
        features = np.tile(np.arange(data[1][-1], dtype="float32")[:, None], num_features)
    return SequenceBatches(
        features,
        data[0],
        plan=plan,
        sequence_length=LENGTH,
        augmentations=augmentations,
        feature_std=np.ones(num_features, "float32"),
        fill=np.full(num_features, -1, "float32"),
        seed=plan.seed,
    )


def batches_of(batches, epoch):
    batches.set_epoch(epoch)
    return [batches[index] for index in range(len(batches))]


def weighted_shares(made):
    y, w = (np.concatenate([batch[i].ravel() for batch in made]) for i in (1, 2))
    totals = np.bincount(y, w.astype("float64"), minlength=3)
    return totals / totals.sum()


drawn_plans = st.fixed_dictionaries(
    {
        "segments": st.lists(st.integers(LENGTH + 6, 60), min_size=1, max_size=6),
        "holes": st.integers(0, 12),
        "labels_per_sequence": st.integers(1, 2 * LENGTH - 1),
        "batch_size": st.integers(1, 9),
        "seed": st.integers(0, 9999),
        "balance_symbols": st.booleans(),
    }
)


def drawn_data(drawn):
    options = dict(drawn)
    data = market(options["seed"], options.pop("segments"), options.pop("holes"))
    return data, options


# --- which labels, where


@settings(max_examples=60, deadline=None)
@given(drawn=drawn_plans, epoch=st.integers(0, 50))
def test_every_training_label_is_met_exactly_once_an_epoch_with_weight_1(drawn, epoch):
    data, options = drawn_data(drawn)
    batches = make_batches(data, **options)
    ends, _, labels, _ = data
    made = batches_of(batches, epoch)
    positions = [batches.plan.sequences(epoch, i).positions for i in range(len(batches))]
    carried = np.concatenate(positions).ravel()
    np.testing.assert_array_equal(np.sort(carried[carried >= 0]), np.arange(len(ends)))
    for (x, y, w), at in zip(made, positions, strict=True):
        np.testing.assert_array_equal(w, at >= 0)
        np.testing.assert_array_equal(y, np.where(at >= 0, labels[at], 0))
        own_bars = x[:, -at.shape[1] :, 0]
        np.testing.assert_array_equal(own_bars[at >= 0], ends[at[at >= 0]])
        assert (x.dtype, y.dtype, w.dtype) == (np.float32, np.int32, np.float32)


@settings(max_examples=60, deadline=None)
@given(drawn=drawn_plans, epoch=st.integers(0, 50), shift=st.integers(0, 3))
def test_a_sequence_shows_bars_of_training_windows_of_one_run_alone(drawn, epoch, shift):
    data, options = drawn_data(drawn)
    ends, bounds, _, _ = data
    shown = np.zeros(bounds[-1], bool)
    shown[np.unique(ends[:, None] - np.arange(LENGTH))] = True
    batches = make_batches(data, augmentations={"time_shift": shift}, **options)
    for x, _, _ in batches_of(batches, epoch):
        rows = x[:, :, 0].astype(int)
        assert shown[rows].all()
        segments = np.searchsorted(bounds, rows, side="right")
        assert (segments == segments[:, :1]).all()
        steps = np.diff(rows, axis=1)  # one bar after the other; a last one may be repeated
        assert np.isin(steps, [0, 1]).all() and (np.diff(steps, axis=1) <= 0).all()


def test_the_fixed_window_lies_in_the_middle_of_the_contexts():
    cuts = Cuts(market()[0], sequence_length=60, labels_per_sequence=64)
    assert (cuts.shortest_context, cuts.num_bars) == (28, 91)  # contexts 28..91


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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), epoch=st.integers(0, 9))
def test_one_label_a_sequence_is_training_window_by_window(seed, epoch):
    data = market(seed)
    batches = make_batches(data, labels_per_sequence=1, seed=seed)
    x, y, w = (np.concatenate(parts) for parts in zip(*batches_of(batches, epoch), strict=True))
    labelled = w[:, 0] > 0
    order = np.argsort(x[labelled][:, -1, 0])
    np.testing.assert_array_equal(x[labelled][order], gather(batches.features, data[0], LENGTH))
    np.testing.assert_array_equal(y[labelled][order, 0], data[2])


def test_a_run_shorter_than_a_sequence_repeats_its_last_bar_without_label():
    # Two windows end at rows 7 and 8; a sequence of 15 labels has 8 - 7 + 15 - 1 = 15 bars.
    data = (np.array([7, 8]), np.array([0, 30]), np.array([0, 1]), np.array([0, 0]))
    batches = make_batches(data, labels_per_sequence=15, batch_size=1)
    for x, _, w in batches_of(batches, 0):
        np.testing.assert_array_equal(x[0, :, 0], np.minimum(np.arange(15), 8))
        assert not w[0, :7].any() and not w[0, 9:].any()  # rows 7 and 8 alone have labels


# --- the order


@settings(max_examples=30, deadline=None)
@given(drawn=drawn_plans)
def test_batches_depend_on_seed_epoch_and_index_alone(drawn):
    data, options = drawn_data(drawn)
    first, second = (make_batches(data, augmentations=ALL, **options) for _ in range(2))
    expected = {(e, i): b for e in range(3) for i, b in enumerate(batches_of(first, e))}
    for epoch, index in reversed(expected):
        second.set_epoch(epoch)
        for array, wanted in zip(second[index], expected[epoch, index], strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_seeds_and_epochs_give_other_batches():
    batches, other = make_batches(), make_batches(seed=1)
    parts = [batches_of(batches, 0), batches_of(batches, 1), batches_of(other, 0)]
    xs = [np.concatenate([x for x, _, _ in made]) for made in parts]
    assert not np.array_equal(xs[0], xs[1]) and not np.array_equal(xs[0], xs[2])


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
    whole, cut = make_plan(), make_plan(steps_per_epoch=7)
    for step in range(3 * whole.num_batches):
        expected = whole.sequences(*divmod(step, whole.num_batches)).positions
        np.testing.assert_array_equal(cut.sequences(*divmod(step, 7)).positions, expected)


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


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("balance", [False, True])
def test_the_hard_band_gets_its_share_of_each_class_s_weight(share, balance):
    data = market(segments=(300, 300, 300))
    options = {"balance_classes": balance, "class_ratios": RATIOS}
    weights = np.random.default_rng(0).uniform(0.1, 1, len(data[0]))
    plan = make_plan(
        data, weights=weights, hard_share=lambda e: share if e >= 2 else 0.0, **options
    )
    plain = make_plan(data, weights=weights, **options)
    pool = {c: np.flatnonzero(data[2] == c)[:20] for c in (0, 2)}
    plan.set_hard_pool(pool, epoch=2)
    np.testing.assert_array_equal(plan.label_weights(1), plain.label_weights(1))
    hard, before = (p.label_weights(2).astype("float64") for p in (plan, plain))
    for label in range(3):
        of_class = data[2] == label
        assert hard[of_class].sum() == pytest.approx(before[of_class].sum(), rel=1e-5)
        if label in pool:
            wanted = share * before[of_class].sum()
            assert hard[pool[label]].sum() == pytest.approx(wanted, rel=1e-5)
            others = np.setdiff1d(np.flatnonzero(of_class), pool[label])
            for group in (pool[label], others):  # inside, weights keep their ratios
                np.testing.assert_allclose(
                    hard[group] * before[group][0], before[group] * hard[group][0], rtol=1e-4
                )
        else:
            np.testing.assert_allclose(hard[of_class], before[of_class])
    np.testing.assert_allclose(plan.class_prior, plain.class_prior)


def test_hard_windows_never_lose_weight():
    data = market()
    plan = make_plan(data, hard_share=lambda epoch: 0.1)
    of_class = np.flatnonzero(data[2] == 1)
    plan.set_hard_pool({1: of_class[: len(of_class) // 2]}, epoch=0)
    np.testing.assert_array_equal(plan.label_weights(0), 1)


def test_pools_hold_from_their_epoch_and_survive_resuming():
    plan, resumed = (make_plan(hard_share=lambda epoch: 0.5) for _ in range(2))
    of_class = np.flatnonzero(plan.labels == 0)
    plan.set_hard_pool({0: of_class[:3]}, epoch=1)
    plan.set_hard_pool({0: of_class[3:5]}, epoch=4)
    resumed.label_weights(4)
    resumed.set_state(plan.get_state())
    for epoch, hard in [(0, []), (2, of_class[:3]), (4, of_class[3:5])]:
        weights = plan.label_weights(epoch)
        np.testing.assert_array_equal(np.flatnonzero(weights > 1), hard)
        np.testing.assert_array_equal(resumed.label_weights(epoch), weights)


def test_repeats_are_mean_weights_and_json():
    plan = make_plan(balance_classes=True, class_ratios=(1, 1, 1))
    told = json.loads(json.dumps(plan.effective_repeats(0)))
    num_sell, num = int((plan.labels == 0).sum()), len(plan.labels)
    assert told["classes"]["SELL"]["windows"] == num_sell
    assert told["classes"]["SELL"]["repeats"] == pytest.approx(num / 3 / num_sell, rel=1e-5)
    assert told["reached"] == 1.0 and told["symbols"].keys() == {"0", "1", "2"}


# --- augmentation


def test_a_shift_reads_earlier_bars_never_later_and_uses_all_delays():
    data = market(segments=(200, 40, 200), holes=0)
    batches = make_batches(data, augmentations={"time_shift": 3})
    seen = set()
    for index, (x, _, w) in enumerate(batches_of(batches, 0)):
        at = batches.plan.sequences(0, index).positions
        own_bars = x[:, -at.shape[1] :, 0][w > 0]
        seen |= set((data[0][at[at >= 0]] - own_bars).tolist())
    assert seen == {0, 1, 2, 3}


def test_noise_and_masks_change_no_label_and_no_feature():
    plain, batches = make_batches(), make_batches(augmentations=ALL | {"time_shift": 0})
    before, num_masked, num_bars = batches.features.copy(), 0, 0
    for (x, y, w), (real, labels, weights) in zip(
        batches_of(batches, 1), batches_of(plain, 1), strict=True
    ):
        np.testing.assert_array_equal(y, labels)
        np.testing.assert_array_equal(w, weights)
        masked = (x == -1).all(axis=2)
        assert not masked[:, -1].any() and masked.sum(axis=1).max() <= 3
        noise = (x - real)[~masked]
        assert noise.any(axis=1).all() and np.abs(noise).max() < 0.6
        num_masked, num_bars = num_masked + masked.any(axis=1).sum(), num_bars + len(x)
    assert 0.2 < num_masked / num_bars < 0.8
    np.testing.assert_array_equal(batches.features, before)


# --- what Keras and mining ask for


def test_all_labels_in_order_to_score_them():
    batches = make_batches(augmentations=ALL)
    ordered = batches.in_order(batch_size=4)
    x = np.concatenate([ordered[i][0] for i in range(len(ordered))])
    assert {len(ordered[i][0]) for i in range(len(ordered))} == {4}
    positions, own_bars = ordered.by_window(x[:, -6:, :1])
    np.testing.assert_array_equal(positions, np.arange(batches.num_windows))
    np.testing.assert_array_equal(own_bars[:, 0], batches.window_rows)
    few = batches.in_order(batch_size=4, limit=3)
    assert len(few) == 1 and 0 < len(few.by_window(np.zeros((4, 6, 3)))[0]) <= 18


def test_windows_can_be_had_too():
    batches = make_batches(augmentations=ALL)
    (x,) = batches.window_batches(np.array([3, 41]))[0]
    np.testing.assert_array_equal(x[:, -1, 0], batches.window_rows[[3, 41]])
    assert batches.num_windows == len(batches.window_labels) == len(batches.window_symbols)


def test_a_batch_is_described_by_the_bars_of_its_labels():
    batches = make_batches()
    x, _, w = batches_of(batches, 1)[2]
    np.testing.assert_array_equal(batches.describe(1, 2), x[:, -6:, 0][w > 0])


def test_memory_mapped_features_give_the_same_batches(tmp_path):
    features = np.random.default_rng(0).normal(size=(167, 2)).astype("float32")
    features.tofile(tmp_path / "features.bin")
    mapped = np.memmap(tmp_path / "features.bin", "float32", mode="r", shape=features.shape)
    made, expected = (make_batches(features=f, augmentations=ALL)[0][0] for f in (mapped, features))
    assert type(made) is np.ndarray
    np.testing.assert_array_equal(made, expected)


def test_memory_is_that_of_a_pass_and_a_batch():
    num_rows, length, num_features = 40_000, 60, 25
    features = np.random.default_rng(0).standard_normal((num_rows, num_features), np.float32)
    ends = np.arange(length - 1, num_rows, dtype=np.int32)
    labels = np.arange(len(ends), dtype=np.int32) % 3
    symbols = (np.arange(len(ends)) * 10 // len(ends)).astype(np.int16)
    tracemalloc.start()
    plan = SequencePlan(
        labels,
        symbols,
        ends,
        sequence_length=length,
        labels_per_sequence=64,
        batch_size=16,
        seed=0,
        balance_classes=True,
        balance_symbols=True,
        hard_share=lambda epoch: 0.5,
    )
    batches = SequenceBatches(features, ends, plan=plan, sequence_length=length, augmentations=ALL)
    plan.set_hard_pool({0: np.flatnonzero(labels == 0)[:100]}, epoch=0)
    made = batches_of(batches, 0)
    held = sum(part.nbytes for batch in made for part in batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The list above holds an epoch; the sequences read each bar one and a half times.
    assert held < 1.6 * features.nbytes and peak < held + 40 * len(ends) + 4 * held / len(made)


@pytest.mark.parametrize("stream", [False, True])
def test_keras_trains_on_each_epoch_s_own_sequences(stream):
    batches, asked = make_batches(augmentations=ALL, num_features=3), []
    sequences = batches.plan.sequences
    batches.plan.sequences = lambda e, i: asked.append((e, i)) or sequences(e, i)
    inputs = keras.Input((batches.num_bars, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Cropping1D((batches.num_bars - 6, 0))(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss, steps_per_execution=1)
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: batches.set_epoch(e))
    given = batches.stream() if stream else batches
    model.fit(given, epochs=3, shuffle=False, verbose=0, callbacks=[begin])
    for epoch in range(3):
        assert {(epoch, i) for i in range(len(batches))} <= set(asked)
    assert int(model.optimizer.iterations) == 3 * len(batches)
    assert (batches.ready > 0).all()


def test_windows_and_sequences_answer_the_same_questions():
    ends, _, labels, symbols = market()
    plan = BatchPlan(labels, symbols, batch_size=4, seed=0)
    windows = WindowBatches(np.zeros((167, 2), "float32"), ends, plan=plan, sequence_length=LENGTH)

    def names(thing):
        return {name for name in dir(thing) if not name.startswith("_")}

    assert names(windows) <= names(make_batches())
    assert names(plan) - {"table"} <= names(make_plan())


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
    with pytest.raises(IndexError, match="there is none at 99"):
        plan.sequences(0, 99)
    with pytest.raises(ValueError, match="hard pool of class 0 must hold windows of it alone"):
        plan.set_hard_pool({0: np.flatnonzero(plan.labels == 1)[:3]}, epoch=0)
    with pytest.raises(ValueError, match="there is no augmentation 'noise'"):
        make_batches(augmentations={"noise": 1.0})
    with pytest.raises(ValueError, match="windows of at least 2 bars, got 1"):
        Cuts(np.arange(10), sequence_length=1, labels_per_sequence=1)
