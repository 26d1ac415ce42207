import numpy as np
import pytest

from models.training.callbacks import step_timer as timing
from models.training.callbacks.step_timer import StepTimer


class Batches:
    def __init__(self):
        self.ready = np.zeros(2)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def run_epoch(timer, clock, ready=(-9.0, -9.0)):
    """Two steps of 3 s, 1 s before each, 2 s after the last; then 5 s of validation."""
    timer.on_epoch_begin(0)
    for index in range(2):
        clock[0] += 1
        timer.on_train_batch_begin(index)
        timer.batches.ready[index] = clock[0] + ready[index]
        clock[0] += 3
        timer.on_train_batch_end(index)
    clock[0] += 2
    timer.on_epoch_end(0)
    clock[0] += 5
    timer.on_train_end()


def test_time_between_the_steps_is_outside(clock):
    timer = StepTimer(Batches())
    run_epoch(timer, clock)
    assert timer.epochs == [{"training": 10.0, "outside": 4.0, "all": 15.0}]


def test_waiting_for_a_batch_is_outside_and_making_it_beside_the_step_before_is_not(clock):
    timer = StepTimer(Batches())
    run_epoch(timer, clock)  # compiles
    run_epoch(timer, clock, ready=(-0.5, 1.5))
    assert timer.epochs[1] == {"training": 10.0, "outside": 5.5, "all": 15.0}


def test_compiling_the_first_step_is_no_waiting(clock):
    timer = StepTimer(Batches())
    run_epoch(timer, clock, ready=(2.5, 0.0))
    assert timer.epochs[0]["outside"] == 4.0


def test_a_later_epoch_begins_anew(clock):
    timer = StepTimer(Batches())
    for _ in range(2):
        run_epoch(timer, clock)
    assert timer.epochs[1] == timer.epochs[0]


def test_compilation_is_what_the_first_step_took_more(clock):
    timer = StepTimer(Batches())
    assert timer.compilation == 0
    timer.on_epoch_begin(0)
    for index, seconds in enumerate([9.0, 2.0]):
        timer.on_train_batch_begin(index)
        clock[0] += seconds
        timer.on_train_batch_end(index)
        assert timer.compilation == (9.0 if index == 0 else 7.0)
