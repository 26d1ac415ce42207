import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef

from models.callbacks import (
    BestWeights,
    EMAWeightsCallback,
    EpochTracker,
    ValidationMetrics,
    validation_figures,
)
from models.head import CappedDense
from models.losses import MixedLoss
from models.optimizers import AveragedAdam
from models.stateful import copy_of

NAMES = ("sell", "hold", "buy")


class Windows(keras.utils.PyDataset):
    """Batches of eight windows; raises in the batch `fails_at`."""

    def __init__(self, num=40, seed=0, fails_at=None):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 3, num).astype("int32")
        self.x = rng.normal(size=(num, 4)).astype("float32") + self.y[:, None]
        self.fails_at, self.epochs = fails_at, []

    def __len__(self):
        return len(self.y) // 8

    def __getitem__(self, index):
        if index == self.fails_at:
            raise RuntimeError("no such batch")
        return self.x[8 * index : 8 * index + 8], self.y[8 * index : 8 * index + 8]

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def make_model(decay=0.9, loss=None, seed=0, head=None, **compile_arguments):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="tanh"),
            layers.Dropout(0.2, seed=3),
            head or layers.Dense(3, name="classifier"),
        ]
    )
    optimizer = AveragedAdam(0.05, average_decay=decay)
    model.compile(optimizer, loss or MixedLoss(gamma=1.0), **compile_arguments)
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    settings = {"epochs": epochs, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(Windows(), callbacks=list(callbacks), **settings).history


def weights_of(model):
    return [copy_of(v) for v in model.trainable_variables]


def averages_of(model):
    return [copy_of(v) for v in model.optimizer.averages]


def assert_equal(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(ours, expected):
    return any(not np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


class Recorder(keras.callbacks.Callback):
    """Keeps the weights at the hooks of training and testing."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def _keep(self, name):
        self.seen.setdefault(name, []).append(weights_of(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self._keep("batch")

    def on_test_begin(self, logs=None):
        self._keep("test")
        self.averages = averages_of(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._keep("epoch")


# EpochTracker


def test_tracker_sets_epoch_weight_and_cap_and_logs_them():
    batches, loss = Windows(), MixedLoss(gamma=2.0)
    model = make_model(loss=loss, head=CappedDense(3, logit_cap=9.0))
    head = model.layers[-1]
    tracker = EpochTracker(
        batches=batches,
        loss=loss,
        ce_weight_schedule=lambda epoch: [1.0, 0.5, 0.25][epoch],
        logit_cap_layer=head,
        logit_cap_schedule=lambda epoch: [5.0, 10.0, 0.0][epoch],
        hard_share=lambda epoch: 0.1 * epoch,
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
    history = fit(model, EpochTracker())
    np.testing.assert_allclose(history["learning_rate"], [5e-4, 0.0], atol=1e-9)
    assert set(history) == {"loss", "learning_rate"}


def test_tracker_starts_a_resumed_training_at_its_epoch():
    loss = MixedLoss()
    tracker = EpochTracker(loss=loss, ce_weight_schedule=lambda epoch: 1 / (1 + epoch))
    history = fit(make_model(loss=loss), tracker, epochs=4, initial_epoch=3)
    assert history["ce_weight"] == [0.25]


# EMAWeightsCallback


def test_validation_inside_fit_sees_the_averages_and_gives_the_weights_back_exactly():
    model, recorder = make_model(), Recorder()
    fit(model, EMAWeightsCallback(), recorder, validation_data=Windows(seed=1))
    assert_equal(recorder.seen["test"][-1], recorder.averages)
    assert differ(recorder.seen["test"][-1], recorder.seen["batch"][-1])
    for epoch, weights in enumerate(recorder.seen["epoch"]):
        assert_equal(weights, recorder.seen["batch"][5 * epoch + 4])


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 5}])
def test_validation_leaves_the_training_bit_identical(arguments):
    validated, plain = make_model(**arguments), make_model(**arguments)
    ema = EMAWeightsCallback()
    metrics = ValidationMetrics(Windows(seed=1), Windows(seed=1).y, ema)
    fit(validated, ema, metrics, epochs=3, validation_data=Windows(seed=1))
    fit(plain, epochs=3)
    assert_equal(weights_of(validated), weights_of(plain))
    assert_equal(
        [copy_of(v) for v in validated.optimizer.variables],
        [copy_of(v) for v in plain.optimizer.variables],
    )


def test_tiny_and_infinite_weights_survive_the_swap():
    model, ema = make_model(), EMAWeightsCallback()
    fit(model, ema)
    kernel = model.trainable_variables[0]
    special = np.full(kernel.shape, 1e-38, "float32")
    special[0, :3] = [np.inf, -np.inf, np.nan]
    kernel.assign(special)
    with ema.swapped(model):
        pass
    np.testing.assert_array_equal(kernel.numpy(), special)


def test_weights_come_back_where_the_validation_inside_fit_raises():
    model, plain = make_model(), make_model()
    with pytest.raises(Exception, match="no such batch"):
        fit(model, EMAWeightsCallback(), epochs=1, validation_data=Windows(fails_at=2))
    fit(plain, epochs=1)
    assert_equal(weights_of(model), weights_of(plain))


def test_weights_come_back_where_the_body_of_swapped_raises():
    model, ema = make_model(), EMAWeightsCallback()
    fit(model, ema)
    before = weights_of(model)
    with pytest.raises(RuntimeError, match="inside"), ema.swapped(model):
        assert differ(weights_of(model), before)
        raise RuntimeError("inside")
    assert_equal(weights_of(model), before)


def test_swapped_may_be_nested_and_used_before_any_training():
    model, ema = make_model(), EMAWeightsCallback()
    before = weights_of(model)
    with ema.swapped(model):
        assert_equal(weights_of(model), before)
    fit(model, ema)
    before = weights_of(model)
    with ema.swapped(model), ema.swapped(model):
        assert_equal(weights_of(model), averages_of(model))
    assert_equal(weights_of(model), before)


def test_switched_off_for_validation_the_weights_stay():
    model, recorder = make_model(), Recorder()
    ema = EMAWeightsCallback(use_for_validation=False)
    fit(model, ema, recorder, validation_data=Windows(seed=1))
    assert_equal(recorder.seen["test"][-1], recorder.seen["batch"][-1])
    with ema.for_validation(model):
        assert_equal(weights_of(model), recorder.seen["batch"][-1])


def test_evaluate_is_the_models_own_again_after_fit():
    model = make_model()
    fit(model, EMAWeightsCallback(), validation_data=Windows(seed=1))
    assert "evaluate" not in vars(model)


@pytest.mark.parametrize("optimizer", ["adam", AveragedAdam(0.1)])
def test_an_optimizer_without_averages_is_refused(optimizer):
    model = make_model()
    model.compile(optimizer, MixedLoss())
    message = r"need a model compiled with AveragedAdam\(average_decay > 0\)"
    with pytest.raises(ValueError, match=message):
        fit(model, EMAWeightsCallback())
    with pytest.raises(ValueError, match=message), EMAWeightsCallback().swapped(model):
        pass


# ValidationMetrics


def test_figures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 99), rng.normal(size=(99, 3)).astype("float32")
    p = np.exp(logits.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    predicted = logits.argmax(-1)
    figures = validation_figures(labels, logits, NAMES)
    expected = {
        "val_mcc": matthews_corrcoef(labels, predicted),
        "val_macro_f1": f1_score(labels, predicted, average="macro"),
        "val_nll": log_loss(labels, p),
        "val_rate_sell": np.mean(predicted == 0),
        "val_rate_hold": np.mean(predicted == 1),
        "val_rate_buy": np.mean(predicted == 2),
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-5), name


def test_figures_of_one_predicted_class_need_no_warning():
    figures = validation_figures(np.array([0, 0, 2]), np.eye(3)[[1, 1, 1]] * 50.0, NAMES)
    assert figures["val_mcc"] == 0 and figures["val_macro_f1"] == 0
    assert figures["val_rate_hold"] == 1


def test_logged_figures_are_those_of_the_averages():
    model, ema = make_model(), EMAWeightsCallback()
    metrics = ValidationMetrics(Windows(seed=1), Windows(seed=1).y, ema)
    history = fit(model, ema, metrics)
    with ema.swapped(model):
        expected = validation_figures(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    raw = validation_figures(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    assert history["val_nll"][-1] == pytest.approx(expected["val_nll"], abs=1e-6)
    assert history["val_nll"][-1] != pytest.approx(raw["val_nll"], abs=1e-4)


def test_validation_every_second_epoch_and_at_the_last():
    model = make_model()
    metrics = ValidationMetrics(Windows(seed=1), Windows(seed=1).y, every=2)
    epochs = []
    check = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append("val_mcc" in logs)
    )
    fit(model, metrics, check, epochs=5)
    assert epochs == [False, True, False, True, True]


def test_labels_of_other_windows_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(5, 3\), one row per label"):
        validation_figures(np.zeros(5, int), np.zeros((4, 3)), NAMES)


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
        ("max", [None, float("nan"), -0.5], 2),
    ],
)
def test_best_epoch_is_chosen_and_its_averages_restored(mode, figures, best_epoch):
    model, ema, kept = make_model(), EMAWeightsCallback(), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(averages_of(model))
    )
    best = BestWeights(mode=mode, ema=ema)
    fit(model, ema, Figures(figures), best, keep, epochs=3)
    assert best.best_epoch == best_epoch and best.best == figures[best_epoch]
    best.restore(model)
    assert_equal(weights_of(model), kept[best_epoch])


def test_what_was_chosen_reproduces_its_logged_figure():
    model, ema = make_model(), EMAWeightsCallback()
    metrics = ValidationMetrics(Windows(seed=1), Windows(seed=1).y, ema)
    best = BestWeights("val_nll", "min", ema)
    history = fit(model, ema, metrics, best, epochs=4)
    best.restore(model)
    figures = validation_figures(metrics.labels, model.predict(Windows(seed=1).x), NAMES)
    assert figures["val_nll"] == pytest.approx(min(history["val_nll"]), abs=1e-6)


def test_training_stops_when_the_patience_is_used_up():
    best = BestWeights(patience=2)
    history = fit(make_model(), Figures([0.3, 0.1, 0.4, 0.2, 0.1, 0.9]), best, epochs=6)
    assert len(history["loss"]) == 5 and best.exhausted
    assert best.best_epoch == 2


def test_a_new_fit_forgets_the_best_epoch_unless_a_state_was_set():
    model, best = make_model(), BestWeights(patience=9)
    fit(model, Figures([0.9]), best, epochs=1)
    state = best.get_state()
    fit(model, Figures([0.2]), best, epochs=1)
    assert best.best == 0.2
    best.set_state(state)
    fit(model, Figures([0.9, 0.2]), best, epochs=2, initial_epoch=1)
    assert (best.best, best.best_epoch, best.wait) == (0.9, 0, 1)


def test_restoring_without_a_best_epoch_is_refused():
    with pytest.raises(ValueError, match="no epoch logged a finite val_mcc"):
        BestWeights().restore(make_model())
    with pytest.raises(ValueError, match="mode must be 'max' or 'min', got 'auto'"):
        BestWeights(mode="auto")
