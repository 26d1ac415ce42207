import json

import keras
import numpy as np
import pytest
from keras import layers

from data.market.windows import subsample_by_class
from models.probabilities import cross_entropies
from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.mining import (
    HardNegativeMining,
    MiningPlan,
    class_ranks,
    hard_band,
    hard_share,
)
from models.training.optimizers import AveragedAdam


def test_hard_share_follows_the_schedule():
    shares = [hard_share(epoch, 5, 15, 0.2, 0.5) for epoch in (0, 4, 5, 10, 15, 99)]
    assert shares == pytest.approx([0, 0, 0.2, 0.35, 0.5, 0.5])


# The band


def band_of(losses, labels=None, symbols=None, rows=None, **arguments):
    """Returns the band; by default one class and no neighbours."""
    num = len(losses)
    return hard_band(
        np.asarray(losses, float),
        np.zeros(num, int) if labels is None else np.asarray(labels),
        np.zeros(num, int) if symbols is None else np.asarray(symbols),
        np.arange(num) if rows is None else np.asarray(rows),
        **{"top_k_fraction": 0.2, "trim_fraction": 0.1, **arguments},
    )


def test_band_drops_the_top_and_takes_the_next_hardest_first():
    losses = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert band_of(losses)[0].tolist() == [3, 5]
    assert band_of(losses, trim_fraction=0.0)[0].tolist() == [1, 3]
    assert band_of(losses, trim_fraction=0.3, top_k_fraction=0.3)[0].tolist() == [7, 9, 8]


def test_band_ranks_each_class_by_itself():
    losses = np.arange(20.0)
    labels = np.arange(20) % 2 * 2
    band = band_of(losses, labels)
    assert {label: found.tolist() for label, found in band.items()} == {0: [16, 14], 2: [17, 15]}


def test_a_class_of_a_single_window_has_no_band():
    assert set(band_of([1.0, 2.0, 3.0], labels=[0, 0, 2], trim_fraction=0.05)) == {0}


def test_a_loss_that_is_no_number_ranks_highest_and_is_trimmed():
    assert 3 not in band_of([1, 2, 3, np.nan, 4, 5, 6, 7, 8, 9])[0]


def test_neighbours_in_time_are_one_event():
    losses = [9, 8.9, 8.8, 8.7, 5, 4, 3, 2, 1, 0]
    arguments = {"trim_fraction": 0.0, "top_k_fraction": 0.3}
    assert band_of(losses, **arguments)[0].tolist() == [0, 1, 2]
    assert band_of(losses, spacing=3, **arguments)[0].tolist() == [0]
    assert band_of(losses, spacing=3, **arguments | {"top_k_fraction": 0.7})[0].tolist() == [
        0,
        3,
        6,
    ]


def test_a_thinned_band_is_never_filled_up_from_below():
    losses, labels = np.arange(1000.0), np.arange(1000) % 2
    for chosen in band_of(losses, labels, spacing=40).values():
        assert 1 <= len(chosen) <= 6  # 200 neighbouring rows
        assert losses[chosen].min() >= 700 and losses[chosen].max() < 900


def test_ranks_are_those_inside_the_class():
    ranks = class_ranks(np.array([1.0, 5, 3, np.nan, 5]), np.array([0, 0, 1, 1, 0]))
    assert ranks.tolist() == [2, 0, 1, 0, 1]  # ties in order; what is no number is hardest


def test_neighbouring_rows_of_two_symbols_are_two_events():
    band = band_of(
        [9, 8, 0, 0], symbols=[0, 1, 0, 1], trim_fraction=0, top_k_fraction=0.5, spacing=9
    )
    assert band[0].tolist() == [0, 1]


@pytest.mark.parametrize("spacing", [1, 4, 7])
def test_events_of_a_symbol_keep_their_distance_and_are_hardest_first(spacing):
    rng = np.random.default_rng(spacing)
    losses, symbols = rng.exponential(size=400), rng.integers(0, 3, 400)
    rows = rng.permutation(400)
    (chosen,) = band_of(losses, None, symbols, rows, spacing=spacing).values()
    for symbol in range(3):
        own = np.sort(rows[chosen][symbols[chosen] == symbol])
        assert np.all(np.diff(own) >= spacing)
    assert np.all(np.diff(losses[chosen]) <= 0)
    assert 0 < len(chosen) <= 80


def test_the_top_that_is_trimmed_spreads_over_time_too():
    # One wrong label makes five windows in a row the hardest; none of them is let in.
    losses = np.linspace(1, 0, 100)
    losses[40:45] += 5
    chosen = band_of(losses, trim_fraction=0.05, top_k_fraction=0.1, spacing=2)[0]
    assert not set(range(40, 45)) & set(chosen.tolist())


# The callback


class Windows:
    """What mining reads of the training batches; records what it is given."""

    def __init__(self, x, y):
        self.x, self.window_labels = x, y
        self.window_symbols, self.window_rows = np.zeros(len(y), int), np.arange(len(y))
        self.num_windows = len(y)
        self.pools, self.scored = {}, []

    def to_score(self, limit, rng):
        scored = subsample_by_class(self.window_labels, limit, rng)

        def by_window(outputs):
            self.scored.append(scored)
            return scored, outputs

        return [(self.x[scored],)], by_window

    def pool_figures(self, epoch):
        return {label: {} for label in range(3)}

    def set_hard_pool(self, pool, *, epoch):
        self.pools[epoch] = pool


def market(num=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, num).astype("int32")
    return Windows(rng.normal(size=(num, 4)).astype("float32") + np.eye(3, 4)[y], y)


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="classifier")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(AveragedAdam(0.05, average_decay=0.9), loss)
    return model


def mining(windows, ema=None, **changes):
    settings = {
        "start_epoch": 2,
        "update_period": 3,
        "top_k_fraction": 0.3,
        "trim_fraction": 0.1,
        "max_scored": 1000,
    }
    return HardNegativeMining(windows, ema, MiningPlan(**settings | changes))


def fit(model, windows, *callbacks, epochs=10, **arguments):
    model.fit(
        windows.x,
        windows.window_labels,
        batch_size=20,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    )


@pytest.mark.parametrize(
    "start_epoch, update_period, epochs, expected",
    [
        (2, 3, 10, [2, 5, 8]),
        (5, 2, 10, [5, 7, 9]),
        (0, 2, 5, [1, 3]),  # never with an untrained network
        (3, 1, 3, []),  # an epoch that never comes needs no pool
    ],
)
def test_the_pool_is_refreshed_for_the_stated_epochs_only(
    start_epoch, update_period, epochs, expected
):
    windows = market()
    callback = mining(windows, start_epoch=start_epoch, update_period=update_period)
    fit(make_model(), windows, callback, epochs=epochs)
    assert list(windows.pools) == expected


def test_the_pool_is_the_band_of_the_training_windows_under_the_averages():
    windows, model, ema = market(), make_model(), EMAWeightsCallback()
    callback = mining(windows, ema, spacing=2)
    fit(model, windows, ema, callback, epochs=2)
    assert windows.pools == {}
    callback.params["epochs"] = 3
    callback.on_epoch_end(1)

    def band():
        losses = cross_entropies(model.predict(windows.x, verbose=0), windows.window_labels)
        return hard_band(
            losses,
            windows.window_labels,
            windows.window_symbols,
            windows.window_rows,
            top_k_fraction=0.3,
            trim_fraction=0.1,
            spacing=2,
        )

    raw = band()
    with ema.swapped(model):
        expected = band()
    for label, positions in windows.pools[2].items():
        np.testing.assert_array_equal(positions, expected[label])
    assert any(not np.array_equal(raw[label], expected[label]) for label in expected)


def test_mining_leaves_the_training_bit_identical():
    windows, plain, mined = market(), make_model(), make_model()
    ema = EMAWeightsCallback()
    fit(mined, windows, ema, mining(windows, ema), epochs=4)
    fit(plain, windows, epochs=4)
    for ours, expected in zip(mined.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


def test_no_more_windows_are_scored_than_allowed_and_others_each_time():
    windows = market(200)
    fit(make_model(), windows, mining(windows, max_scored=50), epochs=7)
    assert [len(scored) for scored in windows.scored] == [50, 50]
    assert not np.array_equal(*windows.scored)
    for pool, scored in zip(windows.pools.values(), windows.scored, strict=True):
        for label, positions in pool.items():
            assert set(positions) <= set(scored)
            assert np.all(windows.window_labels[positions] == label)


def test_the_subsample_depends_on_seed_and_epoch_alone():
    first, second = market(200), market(200)
    fit(make_model(), first, mining(first, max_scored=50, seed=4), epochs=7)
    fit(make_model(), second, mining(second, max_scored=50, seed=4), epochs=7, initial_epoch=4)
    np.testing.assert_array_equal(first.scored[1], second.scored[0])


def test_windows_of_the_validation_are_never_scored():
    windows, other = market(), market(30, seed=1)
    seen = []

    class Model(keras.Model):
        def predict_on_batch(self, x):
            seen.append(x)
            return super().predict_on_batch(x)

    base = make_model()
    model = Model(base.inputs, base.outputs)
    model.compile(base.optimizer, base.loss)
    data = (other.x, other.window_labels)
    fit(model, windows, mining(windows), epochs=4, validation_data=data)
    assert len(seen) == 1
    assert {row.tobytes() for row in seen[0]} <= {row.tobytes() for row in windows.x}


def test_a_resumed_training_hands_its_pool_to_the_batches_again():
    windows, fresh = market(), market()
    callback, resumed = mining(windows), mining(fresh)
    fit(make_model(), windows, callback, epochs=4)
    resumed.set_state(json.loads(json.dumps(callback.get_state(), default=np.ndarray.tolist)))
    resumed.on_train_begin()
    assert fresh.pools.keys() == {2}
    assert resumed.refreshes == callback.refreshes and len(resumed.refreshes) == 1
    for label, positions in fresh.pools[2].items():
        np.testing.assert_array_equal(positions, windows.pools[2][label])
    resumed.on_train_begin()
    assert resumed.pool == {} and resumed.refreshes == []


def test_every_refresh_says_how_hard_its_pool_is_and_what_it_does():
    windows, model = market(300), make_model()
    windows.pool_figures = lambda epoch: {label: {"multiplier": epoch} for label in range(3)}
    callback = mining(windows, start_epoch=2, update_period=1)
    fit(model, windows, callback, epochs=4)
    assert [refresh["epoch"] for refresh in callback.refreshes] == [2, 3]
    assert callback.refreshes[1]["scored"] == 300
    callback.params["epochs"] = 6
    callback.on_epoch_end(4)  # the same weights as at the end of the training
    told, pools = callback.refreshes[2], windows.pools[5]
    losses = cross_entropies(model.predict(windows.x, verbose=0), windows.window_labels)
    for label, pool in pools.items():
        members = np.flatnonzero(windows.window_labels == label)
        ranks = (losses[members] > losses[pool][:, None]).mean(axis=1)
        figures = told["classes"][str(label)]
        assert figures["scored"] == len(members) and figures["multiplier"] == 5
        np.testing.assert_allclose(figures["ranks"], np.quantile(ranks, [0.05, 0.5, 0.95]))
        assert figures["p_true"] == pytest.approx(np.median(np.exp(-losses[pool])), rel=1e-3)


# Wrong labels


@pytest.mark.parametrize(
    "trim_fraction, spacing",
    [(0.05, 3), (0.10, 1)],  # the defaults of the flags; as much as there is wrong
)
def test_the_band_holds_at_most_half_the_wrong_labels_of_an_untrimmed_top(
    trim_fraction, spacing, record_property
):
    rng = np.random.default_rng(0)
    num = 3000
    # A strong known signal: the class decides which feature is three deviations higher.
    truth = rng.integers(0, 3, num)
    x = (rng.normal(size=(num, 4)) + 3 * np.eye(3, 4)[truth]).astype("float32")
    flipped = rng.random(num) < 0.1
    labels = np.where(flipped, (truth + rng.integers(1, 3, num)) % 3, truth).astype("int32")
    windows, model = Windows(x, labels), make_model()
    callback = mining(
        windows,
        start_epoch=3,
        trim_fraction=trim_fraction,
        top_k_fraction=0.2,
        spacing=spacing,
        max_scored=num,
    )
    fit(model, windows, EMAWeightsCallback(), callback, epochs=3)
    callback.params["epochs"] = 4
    callback.on_epoch_end(2)

    band = windows.pools[3]
    losses = cross_entropies(model.predict(x, verbose=0), labels)
    top = {}
    for label, positions in band.items():
        members = np.flatnonzero(labels == label)
        top[label] = members[np.argsort(-losses[members])][: len(positions)]
    in_band = np.mean(flipped[np.concatenate(list(band.values()))])
    in_top = np.mean(flipped[np.concatenate(list(top.values()))])
    record_property("flipped_in_band", float(in_band))
    record_property("flipped_in_untrimmed_top", float(in_top))
    print(f"flipped labels: {in_band:.1%} of the band, {in_top:.1%} of the untrimmed top")
    assert sum(map(len, band.values())) > 450
    assert in_top > 0.4  # the problem that the trimming is for
    assert in_band <= in_top / 2
