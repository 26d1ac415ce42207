import keras
import numpy as np
import pytest
from keras import layers, ops

from models.training.callbacks.base import copy_of
from models.training.callbacks.nan_guard import (
    NonFiniteLoss,
    TrainingDiverged,
    first_nonfinite_layer,
)


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
    optimizer = keras.optimizers.Adam(global_clipnorm=1.0)
    model.compile(optimizer, loss, **compile_arguments)
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
    assert str(caught.value).startswith("training diverged in epoch 1, batch 3: the loss")
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


@keras.saving.register_keras_serializable(package="tests")
class Root(layers.Layer):
    """Finite, but its gradient is none below 0."""

    def call(self, x):
        positive = x - ops.stop_gradient(ops.minimum(x, 0.0))  # JAX's own relu would stop a NaN
        return ops.sqrt(ops.square(positive))


def with_gradients_broken_by(batch):
    """Returns a model, and batches of which one gives it a gradient that is not finite."""
    batches = Windows()
    batches.x[:] = np.abs(batches.x) + 1
    batches.x[batch] = -100.0
    model = make_model(Root(name="root"))
    model.get_layer("embedding").kernel.assign(np.eye(4))
    return model, batches


def test_weights_broken_by_the_last_step_of_an_epoch_are_found():
    model, batches = with_gradients_broken_by(4)
    guard = NonFiniteLoss(batches)
    guard.on_train_batch_end = lambda batch, logs=None: None  # which sees it first, but on JAX
    with pytest.raises(TrainingDiverged, match="epoch 1: weight embedding/kernel"):
        fit(model, batches, guard)


def test_a_healthy_training_runs_to_its_end():
    fit(make_model(), Windows(), NonFiniteLoss(Windows()), epochs=2)


def test_first_nonfinite_layer_of_a_healthy_model_is_none():
    model = make_model()
    assert first_nonfinite_layer(model, Windows().x[0]) is None
    model.get_layer("classifier").bias.assign([0.0, np.inf, 0.0])
    assert first_nonfinite_layer(model, Windows().x[0]).startswith("layer classifier")


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="weights reach no variable there")
def test_a_gradient_that_is_not_finite_is_found_in_its_own_batch():
    model, batches = with_gradients_broken_by(3)
    with pytest.raises(TrainingDiverged, match="steps since then are at fault") as caught:
        fit(model, batches, NonFiniteLoss(batches))
    assert caught.value.batch == 3
    assert "batch 4: the weights are not finite after its step; with" in str(caught.value)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="found in its own batch")
def test_a_gradient_that_is_not_finite_is_found_in_the_next_batch():
    model, batches = with_gradients_broken_by(3)
    with pytest.raises(TrainingDiverged, match="steps since then are at fault") as caught:
        fit(model, batches, NonFiniteLoss(batches))
    assert caught.value.batch == 4
    assert "batch 5: the loss is not finite; with" in str(caught.value)


def test_the_message_is_one_line_that_names_feature_and_windows():
    guard = NonFiniteLoss(
        Windows(broken=2),
        describe=lambda epoch, batch: "windows of AAPL 2024-01-02 to 2024-01-05",
        feature_names=("return_1", "range", "volume", "hour"),
    )
    with pytest.raises(TrainingDiverged) as caught:
        fit(make_model(), Windows(broken=2), guard)
    assert str(caught.value) == (
        "training diverged in epoch 1, batch 3: the loss is not finite; input feature 2 (volume) "
        "is not finite (windows of AAPL 2024-01-02 to 2024-01-05)"
    )


def test_it_stops_under_xla():
    with pytest.raises(TrainingDiverged, match="feature 2 is not finite"):
        fit(make_model(jit_compile=True), Windows(broken=2), NonFiniteLoss(Windows(broken=2)))
