import threading

import keras
import numpy as np
import pytest

from models.training.callbacks.compile_beside import CompileBeside
from models.training.callbacks.validation import ValidationMetrics

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
pytestmark = pytest.mark.skipif(not ON_TENSORFLOW, reason="nothing is compiled beside elsewhere")


class Part(keras.callbacks.Callback):
    """Compiles once training has begun, and notes in which thread and when."""

    def __init__(self, error=None):
        super().__init__()
        self.error, self.stepped, self.seen = error, threading.Event(), []

    def compile(self):
        self.seen.append(threading.current_thread() is threading.main_thread())
        assert self.stepped.wait(60)
        self.seen.append("compiled")
        if self.error:
            raise self.error

    def on_train_batch_end(self, batch, logs=None):
        self.stepped.set()

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)


def train(part, epochs=2):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    beside = CompileBeside([part, None])
    x = np.zeros((4, 2), "float32")
    model.fit(x, x[:, :1], epochs=epochs, verbose=0, callbacks=[beside, part])
    return beside


def test_a_part_compiles_beside_the_first_steps_and_is_waited_for():
    part = Part()
    beside = train(part)
    assert part.seen == [False, "compiled", 0, 1]
    assert beside.seconds >= 0


def test_what_goes_wrong_is_raised_at_the_end_of_the_epoch():
    part = Part(RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        train(part)
    assert part.seen == [False, "compiled"]


def test_a_validation_that_was_compiled_is_not_traced_again():
    traces = []

    class Traced(keras.layers.Dense):
        def call(self, inputs, training=None):
            traces.append(inputs.shape)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((2,)), Traced(3)])
    validation = ValidationMetrics(np.zeros((5, 2), "float32"), np.arange(5) % 3, "abc")
    validation.set_model(model)
    before = len(traces)
    validation.compile()
    compiled = len(traces)
    validation.on_epoch_end(0, {})
    assert before < compiled == len(traces)
