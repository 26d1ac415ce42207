import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sequences import (
    ALL,
    LENGTH,
    batches_of,
    drawn_data,
    drawn_plans,
    make_batches,
    make_plan,
    market,
)

from data.batches.datasets import WindowBatches
from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.market.windows import gather

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


def test_sequences_above_the_limit_are_drawn_anew_each_time():
    batches, rng = make_batches(augmentations=ALL), np.random.default_rng(0)
    scored = []
    for _ in range(40):
        sequences, by_window = batches.to_score(13, rng)  # three sequences of six labels
        assert sequences.num_sequences == 3
        x = np.concatenate([sequences[i][0] for i in range(len(sequences))])
        positions, own_bars = by_window(x[:, -6:, 0])
        assert 0 < len(positions) <= 18 and (np.diff(positions) > 0).all()
        np.testing.assert_array_equal(own_bars, batches.window_rows[positions])
        scored.append(positions)
    assert not np.array_equal(scored[0], scored[1])
    assert len(np.unique(np.concatenate(scored))) == batches.num_windows  # each can be hard
    again = batches.to_score(13, np.random.default_rng(0))[0]
    first = batches.to_score(13, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(again[0][0], first[0][0])


def test_all_labels_are_scored_in_one_pass():
    batches = make_batches(augmentations=ALL)
    sequences, by_window = batches.to_score(0, np.random.default_rng(0))
    x = np.concatenate([sequences[i][0] for i in range(len(sequences))])
    positions, own_bars = by_window(x[:, -6:, 0])
    np.testing.assert_array_equal(positions, np.arange(batches.num_windows))
    np.testing.assert_array_equal(own_bars, batches.window_rows)


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
    inputs = keras.Input((batches.plan.runs.num_bars, 3))
    outputs = keras.layers.Dense(3)(
        keras.layers.Cropping1D((batches.plan.runs.num_bars - 6, 0))(inputs)
    )
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
