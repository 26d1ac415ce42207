import keras
import numpy as np
import pytest
from tiny_training import (
    Windows,
    assert_equal,
    averages_of,
    differ,
    fit,
    make_model,
    validation_plan,
    weights_of,
)

from models.training.callbacks.base import copy_of
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights
from models.training.callbacks.validation import ValidationMetrics
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam


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


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_averages_of_a_training_are_the_closed_form(decay):
    model, recorder = make_model(decay), Recorder()
    fit(model, EMAWeightsCallback(), recorder, validation_data=Windows(seed=1))
    steps = recorder.seen["batch"]
    decays = [0.0] + [min(decay, (1 + t) / (10 + t)) for t in range(1, len(steps))]
    for index, average in enumerate(averages_of(model)):
        expected = np.zeros_like(average, dtype="float64")
        for step, kept in zip(steps, decays, strict=True):
            expected = kept * expected + (1 - kept) * step[index]
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_without_a_callback_the_weights_stay():
    model, ema = make_model(), EMAWeightsCallback()
    fit(model, ema)
    before = weights_of(model)
    with averaged_weights(None, model):
        assert_equal(weights_of(model), before)
    with averaged_weights(ema, model):
        assert_equal(weights_of(model), averages_of(model))
    assert_equal(weights_of(model), before)


def test_validation_inside_fit_sees_the_averages_and_gives_the_weights_back_exactly():
    model, recorder = make_model(), Recorder()
    fit(model, EMAWeightsCallback(), recorder, validation_data=Windows(seed=1))
    assert_equal(recorder.seen["test"][-1], recorder.averages)
    assert differ(recorder.seen["test"][-1], recorder.seen["batch"][-1])
    for epoch, weights in enumerate(recorder.seen["epoch"]):
        assert_equal(weights, recorder.seen["batch"][5 * epoch + 4])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param({"steps_per_execution": 5}, marks=pytest.mark.slow),
    ],
)
def test_validation_leaves_the_training_bit_identical(arguments):
    validated, plain = make_model(**arguments), make_model(**arguments)
    ema = EMAWeightsCallback()
    metrics = ValidationMetrics(validation_plan(Windows(seed=1)), ema)
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


def failing_validation():
    """Returns a model and its callback after a validation inside `fit` that raised."""
    model, ema = make_model(), EMAWeightsCallback()
    with pytest.raises(Exception, match="no such batch"):
        fit(model, ema, epochs=1, validation_data=Windows(fails_at=2))
    return model, ema


def test_where_the_validation_inside_fit_raises_the_weights_come_back_when_it_is_ended():
    (model, ema), plain = failing_validation(), make_model()
    fit(plain, epochs=1)
    assert differ(weights_of(model), weights_of(plain))
    ema.on_test_end()
    assert_equal(weights_of(model), weights_of(plain))


def test_a_fit_after_a_validation_that_raised_goes_on_with_the_raw_weights():
    (model, ema), plain = failing_validation(), make_model()
    fit(model, ema, epochs=2, initial_epoch=1)
    fit(plain, epochs=2)
    assert_equal(weights_of(model), weights_of(plain))


def test_a_restored_model_keeps_what_it_was_given_after_a_validation_that_raised():
    model, ema = failing_validation()
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() * 0 + 1)
    given = weights_of(model)
    ema.set_state({})
    seen = []
    first = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *a: seen.append(weights_of(model)))
    fit(model, ema, first, epochs=1)
    assert_equal(seen[0], given)


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


@pytest.mark.parametrize("optimizer", ["adam", AveragedAdam(0.1)])
def test_an_optimizer_without_averages_is_refused(optimizer):
    model = make_model()
    model.compile(optimizer, MixedLoss())
    message = r"need a model compiled with AveragedAdam\(average_decay > 0\)"
    with pytest.raises(ValueError, match=message):
        fit(model, EMAWeightsCallback())
    with pytest.raises(ValueError, match=message), EMAWeightsCallback().swapped(model):
        pass
