import keras
import numpy as np
import pytest
from keras import layers, ops

from models.alarms import (
    CollapseAlarm,
    NonFiniteLoss,
    TrainingDiverged,
    first_nonfinite_layer,
    kl_divergence,
    logit_spread,
)
from models.callbacks import validation_figures
from models.stateful import copy_of

QUOTAS = (0.33, 0.40, 0.33)
NAMES = ("sell", "hold", "buy")


class Validation:
    """What the alarm reads of ValidationMetrics."""

    class_names = NAMES
    logits = None


def alarms_of(logits, labels, epoch=3, **arguments):
    validation, notes = Validation(), []
    alarm = CollapseAlarm(QUOTAS, validation, note=notes.append, **arguments)
    validation.logits = logits
    alarm.on_epoch_end(epoch, validation_figures(labels, logits, NAMES))
    assert notes == [a["message"] for a in alarm.alarms]
    return alarm.alarms


def test_equal_logits_are_no_signal():
    rng = np.random.default_rng(0)
    logits = np.array([0.0, 0.02, 0.0]) + rng.normal(0, 1e-3, (300, 3))
    (alarm,) = alarms_of(logits, rng.integers(0, 3, 300))
    assert alarm["kind"] == "no signal" and alarm["favoured"] == "HOLD" and alarm["rate"] == 1
    assert "FUTURE_WINDOW" in alarm["message"] and alarm["epoch"] == 3


def test_spread_logits_with_one_favoured_class_are_a_prior_shift():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = np.eye(3)[labels] + rng.normal(0, 0.5, (300, 3)) + np.array([0.0, 0.0, 3.0])
    (alarm,) = alarms_of(logits, labels)
    assert alarm["kind"] == "prior shift" and alarm["favoured"] == "BUY"
    assert "AFL_GAMMA" in alarm["message"] and alarm["spread"] > 0.3


def test_a_healthy_network_raises_no_alarm():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    assert alarms_of(np.eye(3)[labels] + rng.normal(0, 1, (300, 3)), labels) == []


def test_small_logits_with_skill_raise_no_alarm():
    labels = np.random.default_rng(0).integers(0, 3, 300)
    assert alarms_of(np.eye(3)[labels] * 0.01, labels) == []


def test_early_epochs_and_epochs_without_validation_are_not_watched():
    logits = np.zeros((9, 3))
    assert alarms_of(logits, np.arange(9) % 3, epoch=0, first_epoch=1) == []
    assert len(alarms_of(logits, np.arange(9) % 3, epoch=1, first_epoch=1)) == 1
    alarm = CollapseAlarm(QUOTAS, Validation())
    alarm.on_epoch_end(3, {"loss": 1.0})
    assert alarm.alarms == []


def test_state_round_trip():
    alarm, other = (CollapseAlarm(QUOTAS, Validation()) for _ in range(2))
    alarm.alarms = [{"epoch": 1, "kind": "no signal"}]
    other.set_state(alarm.get_state())
    assert other.alarms == alarm.alarms
    other.on_train_begin()
    assert other.alarms == alarm.alarms
    other.on_train_begin()
    assert other.alarms == []


def test_divergence_and_spread_by_hand():
    rates, quotas = np.array([0.0, 0.5, 0.5]), np.array([0.5, 0.25, 0.25])
    assert kl_divergence(rates, quotas) == pytest.approx(np.log(2))
    assert kl_divergence(quotas, quotas) == 0
    # Adding one number to all logits of a window changes no probability.
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]]) + np.array([[7.0], [0.0]])
    assert logit_spread(logits) == pytest.approx(1)


# NonFiniteLoss


class Windows(keras.utils.PyDataset):
    def __init__(self, broken=None):
        super().__init__()
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(5, 8, 4)).astype("float32")
        if broken is not None:
            self.x[broken, 3, 2] = np.nan

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.x[index], np.arange(8, dtype="int32") % 3


@keras.saving.register_keras_serializable(package="tests")
class Logarithm(layers.Layer):
    """Infinite for large inputs."""

    def call(self, x):
        return ops.log(ops.maximum(1000.0 - x, 0.0))


def make_model(middle=None, **compile_arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="window")
    x = layers.Dense(4, name="embedding")(inputs)
    x = (middle or layers.Activation("tanh", name="middle"))(x)
    model = keras.Model(inputs, layers.Dense(3, name="classifier")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, **compile_arguments)
    return model


def fit(model, batches, callback, **arguments):
    model.fit(batches, callbacks=[callback], shuffle=False, verbose=0, **arguments)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_nan_feature_stops_the_training_and_is_named(steps):
    batches = Windows(broken=2)
    guard = NonFiniteLoss(batches, describe=lambda epoch, batch: f"windows of {epoch}/{batch}")
    with pytest.raises(TrainingDiverged, match="feature 2 is not finite") as caught:
        fit(make_model(steps_per_execution=steps), batches, guard)
    assert (caught.value.epoch, caught.value.batch) == (0, 2)
    assert str(caught.value).startswith("training diverged in epoch 0, batch 2: the loss")
    assert "(windows of 0/2)" in str(caught.value)


def test_the_layer_at_fault_is_named_and_the_weights_of_the_epochs_start_are_back():
    batches = Windows()
    batches.x[1] += 1e6
    model = make_model(Logarithm(name="logarithm"))
    before = [copy_of(v) for v in model.variables]
    with pytest.raises(TrainingDiverged, match="layer logarithm is the first") as caught:
        fit(model, batches, NonFiniteLoss(batches))
    assert caught.value.batch == 1
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_without_the_batches_it_still_stops():
    with pytest.raises(TrainingDiverged, match="epoch 0, batch 2: the loss is not finite"):
        fit(make_model(), Windows(broken=2), NonFiniteLoss())


def test_weights_broken_by_the_last_step_of_an_epoch_are_found():
    model = make_model()

    def break_weights(batch, logs):
        if batch == 4:
            kernel = model.get_layer("classifier").kernel
            kernel.assign(kernel.numpy() * np.nan)

    class Breaker(keras.callbacks.Callback):
        on_train_batch_end = staticmethod(break_weights)

    with pytest.raises(TrainingDiverged, match="epoch 0: weight classifier/kernel"):
        model.fit(Windows(), callbacks=[Breaker(), NonFiniteLoss()], shuffle=False, verbose=0)


def test_a_healthy_training_runs_to_its_end():
    fit(make_model(), Windows(), NonFiniteLoss(Windows()), epochs=2)


def test_first_nonfinite_layer_of_a_healthy_model_is_none():
    model = make_model()
    assert first_nonfinite_layer(model, Windows().x[0]) is None
    model.get_layer("classifier").bias.assign([0.0, np.inf, 0.0])
    assert first_nonfinite_layer(model, Windows().x[0]).startswith("layer classifier")
