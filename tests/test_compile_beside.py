import threading

import keras
import numpy as np
import pytest

from models.training.callbacks import callback_list
from models.training.callbacks.callback_list import CompileBeside
from models.training.callbacks.mining import HardNegativeMining, MiningPlan
from models.training.callbacks.validation import ValidationMetrics, ValidationPlan

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
pytestmark = pytest.mark.skipif(not ON_TENSORFLOW, reason="nothing is compiled beside elsewhere")

BEGIN = [("trace", True), ("compile", False)]


class Part(keras.callbacks.Callback):
    """Notes in which thread it traces and compiles, and when; its compilation waits for a step."""

    def __init__(self, error=None):
        super().__init__()
        self.error, self.stepped, self.seen = error, threading.Event(), []

    def trace(self):
        self.seen.append(("trace", threading.current_thread() is threading.main_thread()))

    def compile(self):
        self.seen.append(("compile", threading.current_thread() is threading.main_thread()))
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
    train(part)
    assert part.seen == [*BEGIN, "compiled", 0, 1]


def test_what_the_compiler_left_is_given_up_once_it_is_done(monkeypatch):
    part = Part()
    monkeypatch.setattr(callback_list, "release_memory", lambda: part.seen.append("given up"))
    train(part, epochs=4)
    assert part.seen == [*BEGIN, "compiled", 0, "given up", 1, 2, 3]  # with what ends the first


def test_what_goes_wrong_is_raised_at_the_end_of_the_epoch():
    part = Part(RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        train(part)
    assert part.seen == [*BEGIN, "compiled"]


def counting_model():
    """Returns a model, and the list that gets longer by each trace of it."""
    traces = []

    class Traced(keras.layers.Dense):
        def call(self, inputs, training=None):
            traces.append(inputs.shape)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((2,)), Traced(3)])
    traces.clear()
    return model, traces


def test_a_validation_is_traced_once():
    model, traces = counting_model()
    validation = ValidationMetrics(
        ValidationPlan(np.zeros((5, 2), "float32"), np.arange(5) % 3, "abc", [1, 1, 1])
    )
    validation.set_model(model)
    validation.trace()
    assert len(traces) == 1
    validation.compile()
    validation.on_epoch_end(0, {})
    assert len(traces) == 1


class ToScore:
    """Training windows that mining scores, three at a time."""

    window_labels, window_symbols, window_rows = np.arange(6) % 3, np.zeros(6, int), np.arange(6)

    def to_score(self, limit, rng):
        return np.zeros((6, 2), "float32"), lambda logits: (np.arange(6), logits)

    def pool_figures(self, epoch):
        return {label: {} for label in range(3)}

    def set_hard_pool(self, pool, epoch):
        self.pool = pool


def test_what_mining_scores_is_traced_when_it_is_compiled_and_not_again():
    model, traces = counting_model()
    batches = ToScore()
    plan = MiningPlan(
        start_epoch=1, update_period=1, top_k_fraction=0.5, trim_fraction=0.0, max_scored=6
    )
    mining = HardNegativeMining(batches, None, plan)
    mining.set_model(model)
    mining.set_params({"epochs": 3})
    mining.trace()
    assert len(traces) == 0
    mining.compile()
    assert len(traces) == 1
    mining.on_epoch_end(0, {})
    assert len(traces) == 1
    assert set(batches.pool) == {0, 1, 2}
