import tracemalloc
from typing import Any

import keras
import numpy as np
import pytest

from data.batches.datasets import WindowBatches, WindowSequence
from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.batches.sequences import SequenceBatches
from data.market.windows import gather

LENGTH = 5
ALL = {"noise_std": 0.1, "time_shift": 2, "mask_prob": 0.5, "mask_max_t": 2}


def make_rows(num_rows=120, num_features=3, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_rows, num_features)).astype("float32")
    symbols = np.repeat([0, 1], num_rows // 2).astype("int16")
    ends = np.concatenate(
        [np.arange(s + LENGTH - 1, s + num_rows // 2) for s in (0, num_rows // 2)]
    )
    labels = rng.integers(3, size=len(ends)).astype("int32")
    return features, ends, labels, symbols[ends]


def make_batches(features=None, *, hard=None, seed=0, **options):
    made, ends, labels, symbols = make_rows()
    plan = BatchPlan(
        labels,
        symbols,
        batch_size=12,
        seed=seed,
        balance_classes=True,
        balance_symbols=True,
        hard_share=hard,
    )
    return WindowBatches(
        made if features is None else features,
        ends,
        plan=plan,
        sequence_length=LENGTH,
        first_ends=np.where(symbols == 0, LENGTH - 1, 60 + LENGTH - 1),
        feature_std=np.ones(3, "float32"),
        fill=np.zeros(3, "float32"),
        seed=seed,
        **options,
    )


def make_sequence_batches(**options):
    features, ends, labels, symbols = make_rows()
    plan = SequencePlan(
        labels, symbols, ends, sequence_length=LENGTH, labels_per_sequence=4, batch_size=12, seed=0
    )
    own = {"feature_std": np.ones(3, "float32"), "fill": np.zeros(3, "float32")}
    return SequenceBatches(features, ends, plan=plan, sequence_length=LENGTH, **own, **options)


@pytest.mark.parametrize("make", [make_batches, make_sequence_batches])
def test_rows_made_apart_are_those_of_the_whole_batch(make):
    whole, parts = make(augmentations=ALL)[1], []
    for own in (slice(0, 5), slice(5, 6), slice(6, 12)):
        batches = make(augmentations=ALL)
        batches.rows = own
        parts.append(batches[1])
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), value)


def test_a_batch_holds_the_planned_windows_and_labels():
    batches = make_batches()
    batches.set_epoch(2)
    drawn = batches.plan.indices(2, 1)
    x, y = batches[1]
    np.testing.assert_array_equal(x, gather(batches.features, batches.window_rows[drawn], LENGTH))
    np.testing.assert_array_equal(y, batches.window_labels[drawn])
    assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int32, (12, LENGTH, 3))
    assert batches.describe(2, 1) == batches.window_rows[drawn].tolist()


def test_batches_depend_on_seed_epoch_and_index_alone():
    first, second = (make_batches(augmentations=ALL) for _ in range(2))
    expected = {}
    for epoch in range(2):
        first.set_epoch(epoch)
        expected |= {(epoch, i): first[i] for i in range(len(first))}
    for epoch, index in reversed(expected):
        second.set_epoch(epoch)
        for array, wanted in zip(second[index], expected[epoch, index], strict=True):
            np.testing.assert_array_equal(array, wanted)
    assert not np.array_equal(expected[0, 0][0], expected[1, 0][0])


def test_each_batch_and_epoch_has_its_own_noise():
    batches = make_batches(np.zeros((120, 3), "float32"), augmentations={"noise_std": 1.0})
    seen = set()
    for epoch in range(3):
        batches.set_epoch(epoch)
        seen |= {float(batches[i][0][0, 0, 0]) for i in range(len(batches))}
    assert len(seen) == 3 * len(batches)


def test_augmented_windows_stay_in_their_symbol():
    features = np.repeat([[0.0] * 3, [1.0] * 3], 60, axis=0).astype("float32")
    batches = make_batches(features, augmentations={"time_shift": 4})
    for index in range(len(batches)):
        x, _ = batches[index]
        assert (x == x[:, :1]).all()


def test_a_shifted_window_never_shows_a_bar_after_its_own_last():
    features = np.tile(np.arange(120, dtype="float32")[:, None], 3)
    batches = make_batches(features, augmentations={"time_shift": 3})
    shifts = []
    for index in range(len(batches)):
        x, _ = batches[index]
        shifts.append(np.array(batches.describe(0, index)) - x[:, -1, 0])
    assert set(np.concatenate(shifts)) == {0, 1, 2, 3}


def test_augmentations_leave_the_features_untouched():
    batches = make_batches(augmentations=ALL)
    before = batches.features.copy()
    for index in range(len(batches)):
        batches[index]
    np.testing.assert_array_equal(batches.features, before)


def test_weights_follow_their_windows():
    weights = np.linspace(0.5, 1.5, 112)
    batches = make_batches(weights=weights)
    _, y, w = batches[0]
    ratios = w / weights[batches.plan.indices(0, 0)]
    for label in range(3):  # one number for each class: it keeps the class's mean at 1
        np.testing.assert_allclose(ratios[y == label], ratios[y == label][0], rtol=1e-6)
    assert w.dtype == np.float32


def test_memory_mapped_features_give_the_same_batches(tmp_path):
    features = make_rows()[0]
    features.tofile(tmp_path / "features.bin")
    mapped = np.memmap(tmp_path / "features.bin", "float32", mode="r", shape=features.shape)
    for made in (features, mapped):
        x, _ = make_batches(made, augmentations=ALL)[0]
        assert type(x) is np.ndarray
        np.testing.assert_array_equal(x, make_batches(augmentations=ALL)[0][0])
    whole = WindowSequence(mapped, np.array([9, 4]), sequence_length=LENGTH, batch_size=8)
    np.testing.assert_array_equal(whole[0][0], features[[range(5, 10), range(5)]])


def test_a_hard_pool_reaches_the_batches():
    batches = make_batches(hard=lambda epoch: 1.0)
    pool = {c: np.flatnonzero(batches.window_labels == c)[::3] for c in range(3)}
    batches.set_hard_pool(pool, epoch=1)
    rows = batches.window_rows[np.concatenate(list(pool.values()))]
    assert np.isin(batches.describe(1, 0), rows).all()


def test_windows_to_mine_come_in_order_and_unaugmented():
    batches = make_batches(augmentations=ALL)
    chosen = np.array([3, 90, 41])
    sequence = batches.window_batches(chosen)
    (x,) = sequence[0]
    np.testing.assert_array_equal(x, gather(batches.features, batches.window_rows[chosen], LENGTH))
    assert batches.num_windows == len(batches.window_labels) == len(batches.window_symbols) == 112


def test_windows_are_scored_by_what_predicts_them():
    batches = make_batches(augmentations=ALL)
    given, by_window = batches.to_score(9, np.random.default_rng(0))
    positions, last_bars = by_window(
        np.concatenate([given[i][0][:, -1, 0] for i in range(len(given))])
    )
    assert len(positions) == 9
    np.testing.assert_array_equal(last_bars, batches.features[batches.window_rows[positions], 0])
    everything, by_window = batches.to_score(0, np.random.default_rng(0))
    np.testing.assert_array_equal(by_window(everything)[0], np.arange(batches.num_windows))


def test_a_sequence_covers_all_windows_in_order_with_a_short_last_batch():
    features, ends, _, _ = make_rows()
    sequence = WindowSequence(features, ends, sequence_length=LENGTH, batch_size=25)
    parts = [x for (x,) in (sequence[i] for i in range(len(sequence)))]
    assert [len(x) for x in parts] == [25, 25, 25, 25, 12]
    np.testing.assert_array_equal(np.concatenate(parts), gather(features, ends, 5))


def test_memory_is_that_of_the_feature_rows_and_a_batch_not_of_the_windows():
    num_rows, length, num_features = 40_000, 60, 25
    rng = np.random.default_rng(0)
    features = rng.standard_normal((num_rows, num_features), np.float32)
    ends = np.arange(length - 1, num_rows, dtype=np.int32)
    labels = rng.integers(3, size=len(ends), dtype=np.int32)
    symbols = np.sort(rng.integers(10, size=len(ends))).astype(np.int16)
    options = {"balance_classes": True, "balance_symbols": True, "hard_share": lambda epoch: 0.5}
    tracemalloc.start()
    plan = BatchPlan(labels, symbols, batch_size=64, seed=0, **options)
    batches = WindowBatches(
        features,
        ends,
        plan=plan,
        sequence_length=length,
        first_ends=np.full(len(ends), length - 1),
        augmentations=ALL,
    )
    for index in range(100):
        batches[index]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A window has 6,000 bytes; features and windows themselves were made before.
    assert peak < 40 * len(ends) + 4 * 64 * length * num_features * 4


def tiny_model():
    model = keras.Sequential([keras.Input((LENGTH, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3, kernel_initializer="zeros"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, steps_per_execution=1)
    return model


class Recorder(keras.callbacks.Callback):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)


@pytest.mark.parametrize("stream", [False, True])
def test_keras_trains_on_each_epoch_s_own_batches(stream):
    batches = make_batches(augmentations=ALL)
    asked = []
    plan_indices = batches.plan.indices
    batches.plan.indices = lambda e, i: asked.append((e, i)) or plan_indices(e, i)
    model = tiny_model()
    given = batches.stream() if stream else batches
    model.fit(given, epochs=3, shuffle=False, verbose=0, callbacks=[Recorder(batches)])
    for epoch in range(3):
        assert {(epoch, i) for i in range(len(batches))} <= set(asked)
    assert int(model.optimizer.iterations) == 3 * len(batches)
    assert (batches.ready > 0).all()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a stream of tf.data")
@pytest.mark.parametrize("weights", [None, np.linspace(0, 1, 112)])
def test_the_stream_has_the_batches_of_an_epoch(weights):
    features, ends, labels, symbols = make_rows()
    plan = BatchPlan(labels, symbols, batch_size=16, seed=0)
    batches = WindowBatches(features, ends, plan=plan, sequence_length=LENGTH, weights=weights)
    stream: Any = batches.stream()
    assert int(stream.cardinality()) == len(batches)
    assert {part.shape[0] for part in stream.element_spec} == {16}  # an open shape compiles longer
    assert stream.options().autotune.enabled is False
    for epoch in range(2):
        batches.set_epoch(epoch)
        for index, streamed in enumerate(stream):
            made = batches[index]
            assert len(streamed) == len(made)
            for theirs, ours in zip(streamed, made, strict=True):
                np.testing.assert_array_equal(theirs, ours)
        assert index == len(batches) - 1


def test_threads_of_keras_get_the_same_batches():
    weights = []
    for workers in (1, 3):
        batches = make_batches(augmentations=ALL)
        batches.workers = workers
        model = tiny_model()
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[Recorder(batches)])
        weights.append(model.layers[-1].kernel.numpy())
    np.testing.assert_array_equal(*weights)


def test_keras_predicts_a_sequence_in_order():
    features, ends, _, _ = make_rows()
    sequence = WindowSequence(features, ends, sequence_length=LENGTH, batch_size=25)
    model = tiny_model()
    model.layers[-1].kernel.assign(np.random.default_rng(0).normal(size=(15, 3)))
    expected = gather(features, ends, LENGTH).reshape(-1, 15) @ model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(model.predict(sequence, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="there is no augmentation 'noise'"):
        make_batches(augmentations={"noise": 1.0})
    features, ends, labels, symbols = make_rows()
    plan = BatchPlan(labels, symbols, batch_size=4, seed=0)
    arguments = {"plan": plan, "sequence_length": LENGTH}
    with pytest.raises(ValueError, match="plan's 112 windows, got 100"):
        WindowBatches(features, ends[:100], **arguments)
    with pytest.raises(ValueError, match="a time shift needs first_ends"):
        WindowBatches(features, ends, augmentations={"time_shift": 1}, **arguments)
    with pytest.raises(ValueError, match="at least 1 window, got 0"):
        WindowSequence(features, ends, sequence_length=LENGTH, batch_size=0)
