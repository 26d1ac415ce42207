import keras
import numpy as np
import pytest
from tiny_training import (
    Windows,
    assert_equal,
    averages_of,
    fit,
    make_model,
    validation_plan,
    weights_of,
)

from models.layers.head import CappedDense
from models.training.callbacks.best_weights import BestWeights, beyond_luck
from models.training.callbacks.ema import EMAWeightsCallback
from models.training.callbacks.epoch_tracker import EpochSchedules, EpochTracker
from models.training.callbacks.validation import ValidationMetrics, validation_metrics
from models.training.losses import CrossEntropyWeight, MixedLoss

NAMES = ("sell", "hold", "buy")


# EpochTracker


def test_tracker_sets_epoch_weight_and_cap_and_logs_them():
    batches, loss = Windows(), MixedLoss(gamma=2.0)
    shown = [CrossEntropyWeight(loss)]
    model = make_model(loss=loss, head=CappedDense(3, logit_cap=9.0), metrics=shown)
    tracker = EpochTracker(
        batches,
        EpochSchedules(
            ce_weight=lambda epoch: [1.0, 0.5, 0.25][epoch],
            logit_cap=lambda epoch: [5.0, 10.0, 0.0][epoch],
            hard_share=lambda epoch: 0.1 * epoch,
        ),
    )
    history = fit(model, tracker, epochs=3)
    assert batches.epochs == [0, 1, 2]
    assert history["ce_weight"] == [1.0, 0.5, 0.25]
    assert history["logit_cap"] == [5.0, 10.0, 0.0]
    np.testing.assert_allclose(history["hard_share"], [0.0, 0.1, 0.2])
    np.testing.assert_allclose(history["learning_rate"], [0.05] * 3)


def test_tracker_logs_the_rate_of_a_schedule_after_the_epoch():
    schedule = keras.optimizers.schedules.PolynomialDecay(1e-3, 10, 0.0)
    model = make_model()
    model.optimizer.learning_rate = schedule
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    history = fit(model, EpochTracker(Windows(), EpochSchedules()))
    np.testing.assert_allclose(history["learning_rate"], [5e-4, 0.0], atol=1e-9)
    assert set(history) == {"loss", "learning_rate"}


def test_tracker_starts_a_resumed_training_at_its_epoch():
    loss = MixedLoss()
    tracker = EpochTracker(Windows(), EpochSchedules(lambda epoch: 1 / (1 + epoch)))
    history = fit(make_model(loss=loss), tracker, epochs=4, initial_epoch=3)
    assert history["ce_weight"] == [0.25]


# BestWeights


class Figures(keras.callbacks.Callback):
    """Logs given figures."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs["val_mcc"] = self.values[epoch]


@pytest.mark.parametrize(
    "mode, figures, best_epoch",
    [
        ("max", [0.1, 0.3, 0.2], 1),
        ("min", [0.1, 0.3, 0.05], 2),
        ("max", [0.3, 0.3, 0.2], 0),
        ("max", [None, float("nan"), 0.5], 2),
    ],
)
def test_best_epoch_is_chosen_and_its_averages_restored(mode, figures, best_epoch):
    model, ema, kept = make_model(), EMAWeightsCallback(), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(averages_of(model))
    )
    best = BestWeights("val_mcc", ema, mode=mode)
    fit(model, ema, Figures(figures), best, keep, epochs=3)
    assert best.chosen["value"] == figures[best_epoch]
    assert best.restore(model) == best_epoch
    assert_equal(weights_of(model), kept[best_epoch])


def test_what_was_chosen_reproduces_its_logged_figure():
    model, ema = make_model(), EMAWeightsCallback()
    metrics = ValidationMetrics(validation_plan(Windows(seed=1)), ema)
    best = BestWeights("val_nll", ema)
    history = fit(model, ema, metrics, best, epochs=4)
    best.restore(model)
    figures = validation_metrics(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    assert figures["val_nll"] == pytest.approx(min(history["val_nll"]), abs=1e-6)


def test_training_stops_when_the_patience_is_used_up():
    best = BestWeights("val_mcc", patience=2)
    history = fit(make_model(), Figures([0.3, 0.1, 0.4, 0.2, 0.1, 0.9]), best, epochs=6)
    assert len(history["loss"]) == 5 and best.exhausted
    assert best.chosen["epoch"] == 2


def test_a_new_fit_forgets_the_best_epoch_unless_a_state_was_set():
    model, best = make_model(), BestWeights("val_mcc", patience=9)
    fit(model, Figures([0.9]), best, epochs=1)
    state = best.get_state()
    fit(model, Figures([0.2]), best, epochs=1)
    assert best.best["value"] == 0.2
    best.set_state(state)
    fit(model, Figures([0.9, 0.2]), best, epochs=2, initial_epoch=1)
    assert (best.best["value"], best.best["epoch"], best.wait) == (0.9, 0, 1)
    assert best.chosen["epoch"] == 0 and best.last["epoch"] == 1


def test_restoring_without_a_best_epoch_is_refused():
    with pytest.raises(ValueError, match="no epoch logged a finite val_mcc"):
        BestWeights("val_mcc").restore(make_model())
    with pytest.raises(ValueError, match="mode of val_mcc must be 'max' or 'min', got 'auto'"):
        BestWeights("val_mcc", mode="auto")


@pytest.mark.parametrize("figures", [[-0.03, -0.01, -0.2], [-0.3, 0.0, -0.2]])
def test_an_mcc_without_skill_chooses_nothing(figures):
    model, best = make_model(), BestWeights("val_mcc")
    fit(model, Figures(figures), best, epochs=3)
    assert best.best["epoch"] == 1 and best.chosen["epoch"] == 2
    expected = weights_of(model)
    best.restore(model)
    assert_equal(weights_of(model), expected)


BLOCKS = np.arange(600) // 100


def chosen_of(losses, monitor="val_nll", blocks=BLOCKS):
    """Returns the epoch that is chosen where the validation windows had these losses."""
    epochs = iter(losses)
    best = BestWeights(monitor, losses=lambda: next(epochs), blocks=blocks)
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_nll=losses[epoch].mean())
    )
    fit(make_model(), log, best, epochs=len(losses))
    return best.chosen["epoch"]


def test_an_earlier_epoch_is_taken_only_beyond_a_standard_error_over_blocks_of_time():
    rng = np.random.default_rng(0)
    last, swing = rng.exponential(size=600), np.repeat([1, -1, 1, -1, 1, -1], 100)
    # Lower by 0.02 in every block; and by 0.02 on average, but by 0.52 in some and not in others.
    assert chosen_of([last - 0.02, last + 0.1, last]) == 0
    assert chosen_of([last - 0.02 - 0.5 * swing, last + 0.1, last]) == 2
    assert chosen_of([last + 0.1, last]) == 1
    # Of one block no error is known.
    assert chosen_of([last - 0.02, last], blocks=np.zeros(600, int)) == 1


def test_where_the_patience_is_used_up_the_best_epoch_is_taken():
    losses = [np.ones(600), np.full(600, 1.1), np.full(600, 1.2)]
    epochs = iter(losses)
    best = BestWeights(
        "val_nll", patience=2, losses=lambda: next(epochs), blocks=np.zeros(600, int)
    )
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_nll=losses[epoch].mean())
    )
    fit(make_model(), log, best, epochs=3)
    assert best.exhausted and best.chosen["epoch"] == 0


def test_the_standard_error_is_that_of_the_mean_over_equal_blocks():
    # Of equal blocks the jackknife's error is the standard error of their means.
    means = np.array([0.3, -0.1, 0.2, 0.4, -0.2, 0.1])
    error = means.std(ddof=1) / np.sqrt(6)
    for value, expected in [(1.01 * error, True), (0.99 * error, False)]:
        last = np.repeat(means - means.mean() + value, 100)
        assert beyond_luck(np.zeros(600), last, BLOCKS) is expected
