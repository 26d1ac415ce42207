import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from resumable_run import EPOCHS, Interrupted, KillAt, Run, make_model

from models.training.callbacks.base import copy_of
from models.training.callbacks.checkpoint import (
    collect_training_state,
    restore_training_state,
)
from models.training.callbacks.epoch_tracker import EpochSchedules
from models.training.callbacks.nan_guard import TrainingDiverged

ROOT = Path(__file__).parent.parent


def assert_same(ours, expected):
    ours, expected = ([*run] for run in (_arrays(ours), _arrays(expected)))
    assert [name for name, _ in ours] == [name for name, _ in expected]
    for (name, a), (_, b) in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def _arrays(run):
    for variable in run.model.variables + run.model.optimizer.variables:
        yield variable.path, copy_of(variable)
    yield "ce_weight", copy_of(run.model.loss.ce_weight)
    for row in run.checkpointer.rows:
        for name, value in row.items():
            yield f"row {row['epoch']} {name}", value
    for label, positions in run.parts["mining"].pool.items():
        yield f"pool {label}", positions
    best = run.parts["best"]
    for name in ("best", "last"):
        candidate = getattr(best, name)
        yield name, [candidate["epoch"], candidate["value"], best.wait]
        yield f"{name} losses", candidate["losses"]
        for weight in candidate["weights"]:
            yield f"{name} weights", weight


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("whole")).fit()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Interrupted):
        Run(folder).fit(KillAt(3, 1))
    return folder


def test_everything_that_matters_is_on(uninterrupted):
    rows = uninterrupted.checkpointer.rows
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert {"loss", "val_mcc", "learning_rate", "ce_weight", "logit_cap"} < set(rows[0])
    assert uninterrupted.parts["mining"].pool_epoch == 4
    assert set(uninterrupted.parts["mining"].pool) == {0, 1, 2}


@pytest.mark.parametrize("epoch, batch", [(0, 2), pytest.param(2, None, marks=pytest.mark.slow)])
def test_interrupted_and_resumed_is_uninterrupted(epoch, batch, uninterrupted, tmp_path):
    with pytest.raises(Interrupted):
        Run(tmp_path).fit(KillAt(epoch, batch))
    assert_same(Run(tmp_path).resume(), uninterrupted)


def test_interrupted_twice_and_with_a_torn_file_it_is_still_the_same(
    uninterrupted, interrupted, tmp_path
):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path)
    with pytest.raises(Interrupted):
        run.fit(KillAt(4, 0), first=run.checkpointer.restore(run.model))
    newest = tmp_path / "epoch-000003.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-9])
    notes = []
    assert_same(Run(tmp_path).resume(note=notes.append), uninterrupted)
    assert len(notes) == 1 and "epoch-000003" in notes[0]


@pytest.mark.parametrize(
    "forgotten",
    [
        "hard pool",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dropout", "ce_weight", "averages")),
    ],
)
def test_the_comparison_notices_what_is_forgotten(forgotten, uninterrupted, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path)
    first = run.checkpointer.restore(run.model)
    if forgotten == "dropout":
        (seed,) = [v for v in run.model.variables if "seed" in v.path]
        seed.assign(seed.numpy() * 0)
    elif forgotten == "hard pool":
        run.parts["mining"].reset()
        run.batches.set_hard_pool({}, epoch=2)
    elif forgotten == "averages":
        run.model.optimizer.average.assign(run.model.optimizer.average.numpy() * 0)
    else:
        run.parts["epochs"].schedules = EpochSchedules()
        run.model.loss.ce_weight.assign(1.0)
    run.fit(first=first)
    with pytest.raises(AssertionError):
        assert_same(run, uninterrupted)


def test_a_killed_process_ends_like_one_that_was_not(uninterrupted, tmp_path):
    code = textwrap.dedent(
        """
        import os, signal, sys
        sys.path[:0] = [sys.argv[1], os.path.join(sys.argv[1], "tests")]
        import keras
        from resumable_run import Run

        class Kill(keras.callbacks.Callback):
            batches = 0
            def on_train_batch_end(self, batch, logs=None):
                Kill.batches += 1
                if Kill.batches == 13:
                    os.kill(os.getpid(), signal.SIGKILL)

        Run(sys.argv[2]).fit(Kill())
        """
    )
    arguments = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    killed = subprocess.run(arguments, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(os.listdir(tmp_path)) == ["epoch-000000.checkpoint", "epoch-000001.checkpoint"]
    assert_same(Run(tmp_path).resume(), uninterrupted)


def test_a_used_up_patience_is_known_after_the_restore(tmp_path):
    run = Run(tmp_path, patience=1).fit()
    resumed = Run(tmp_path, patience=1)
    first = resumed.checkpointer.restore(resumed.model)
    assert first == len(run.checkpointer.rows)
    assert resumed.parts["best"].exhausted == run.parts["best"].exhausted
    assert resumed.parts["best"].wait == run.parts["best"].wait


def test_without_a_checkpoint_training_starts_at_the_beginning(tmp_path):
    run = Run(tmp_path)
    assert run.checkpointer.restore(run.model) == 0


def test_rows_are_kept_by_the_fit_after_a_restore_and_forgotten_by_the_next(interrupted):
    run = Run(interrupted)
    run.checkpointer.restore(run.model)
    run.checkpointer.on_train_begin()
    assert [row["epoch"] for row in run.checkpointer.rows] == [0, 1, 2]
    run.checkpointer.on_train_begin()
    assert run.checkpointer.rows == []


def test_a_disk_that_is_full_stops_the_training_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    run = Run(tmp_path)

    def disk_full(*arguments):
        raise OSError(28, "No space left on device")

    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                monkeypatch.setattr(os, "fsync", disk_full)

    with pytest.raises(OSError, match="No space left"):
        run.fit(Fill())
    monkeypatch.undo()
    fresh = Run(tmp_path)
    assert fresh.checkpointer.restore(fresh.model) == 2


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path):
    run = Run(tmp_path)
    before = [copy_of(v) for v in run.model.weights]

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                run.batches.x[:, 1] = np.nan

    with pytest.raises(TrainingDiverged, match="epoch 3, batch 1: .* feature 1 is not finite"):
        run.fit(Break())
    fresh = Run(tmp_path)
    assert fresh.checkpointer.restore(fresh.model) == 2
    assert all(np.all(np.isfinite(copy_of(v))) for v in fresh.model.variables)
    assert any(
        not np.array_equal(copy_of(v), value)
        for v, value in zip(fresh.model.weights, before, strict=True)
    )


# Refusals


def test_a_checkpoint_of_another_model_or_other_callbacks_is_refused(uninterrupted):
    arrays, state = collect_training_state(uninterrupted.model, uninterrupted.parts)
    other = make_model(units=7)
    with pytest.raises(ValueError, match="shapes differ: it is of another configuration"):
        restore_training_state(other, uninterrupted.parts, arrays, state)
    some = {name: part for name, part in uninterrupted.parts.items() if name != "mining"}
    with pytest.raises(ValueError, match="the checkpoint has the callbacks .*'mining'"):
        restore_training_state(make_model(), some, arrays, state)
