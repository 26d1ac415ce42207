"""Studies by real worker processes, over a command that stands for the training."""

import fcntl
import importlib.util
import json

import numpy as np
import pytest
from study_workers import (
    HERE,
    QUICK,
    begun,
    cell_of,
    check_that_a_killed_workers_cell_is_resumed,
    made,
    start_worker,
    wait_for,
)

import config
import core.lock
from core.errors import InputError
from core.lock import Lock
from recipe.study import plan as plans
from recipe.study.arms import first_fair_epoch, space_for
from recipe.study.launch import check_storage, progress
from recipe.study.worker import is_worked_on, take, work

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="needs the extra `study` (Optuna)"
)


@pytest.fixture(autouse=True)
def fake_command_is_found_and_quick(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("FAKE_STEP_SECONDS", "0.01")


def test_a_killed_workers_cell_is_resumed_and_every_cell_done_once(tmp_path, monkeypatch):
    plan = check_that_a_killed_workers_cell_is_resumed(tmp_path, monkeypatch)
    assert not list((plan.folder / "locks").iterdir())
    assert progress(plan) == "4 of 4 cells done, 0 running, 0 failed"


def is_held(path):
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_process_of_a_cell_ends_with_its_killed_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STEPS", "100000")  # it would go on for hours
    plan = made(tmp_path / "study", count=1)
    worker = start_worker(plan)
    wait_for(lambda: cell_of(plan, worker))
    held = plan.run("as-flagged-seed0") / "held"
    assert is_held(held)
    worker.kill()
    worker.wait()
    wait_for(lambda: not is_held(held))
    assert plan.state("as-flagged-seed0") == plans.OPEN


def test_a_cell_that_fails_is_told_with_its_reason_and_tried_again_where_that_is_removed(tmp_path):
    plan = made(tmp_path / "study", data="broken at seed 1")
    work(plan.folder, **QUICK)
    assert [plan.state(cell) for cell in plan.cells] == ["done", "failed", "done"]
    assert plan.reason("as-flagged-seed1") == "status 1: the bars are broken"
    assert progress(plan) == "2 of 3 cells done, 0 running, 1 failed"
    (plan.folder / "ended" / "as-flagged-seed1.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]


def test_a_lost_result_is_made_again_and_no_other(tmp_path):
    plan = made(tmp_path / "study")
    work(plan.folder, **QUICK)
    (plan.run("as-flagged-seed1") / "metrics.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed0"] == ["train"]
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]
    assert plan.state("as-flagged-seed1") == plans.DONE


def test_a_cell_is_taken_by_one_worker_at_a_time(tmp_path):
    plan = made(tmp_path / "study", count=2)
    first, second = take(plan), take(plan)
    assert [first[0], second[0]] == list(plan.cells) and take(plan) is None
    assert progress(plan) == "0 of 2 cells done, 2 running, 0 failed"
    first[1].let_go()
    assert take(plan)[0] == first[0]


def test_a_lock_that_a_killed_worker_left_keeps_nobody_from_its_cell(tmp_path):
    plan = made(tmp_path / "study", count=1)
    (plan.folder / "locks" / "as-flagged-seed0.lock").write_text('{"pid": 1, "host": "here"}')
    assert progress(plan) == "0 of 1 cells done, 0 running, 0 failed"
    assert take(plan)[0] == "as-flagged-seed0"


def test_a_cell_that_was_ended_meanwhile_is_not_taken(tmp_path, monkeypatch):
    plan = made(tmp_path / "study", count=1)
    lock = Lock.take

    def ended_by_another(self):
        plan.end("as-flagged-seed0", plans.FAILED, "no reason")
        return lock(self)

    monkeypatch.setattr(Lock, "take", ended_by_another)
    assert take(plan) is None and not is_worked_on(plan, "as-flagged-seed0")


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    plan = made(tmp_path / "study", count=1)
    monkeypatch.setattr(core.lock, "_locked", lambda handle: None)
    with pytest.raises(InputError, match="must be on a disk that knows file locks"):
        work(plan.folder, **QUICK)


@pytest.mark.slow
@needs_optuna
def test_a_sweep_repeats_its_draws_and_prunes(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STEP_SECONDS", "0.1")
    monkeypatch.setenv("FAKE_STEPS", "10")
    drawn = []
    for count in (9, 3):
        plan = made(tmp_path / str(count), kind="sweep", count=count)
        work(plan.folder, **QUICK)
        states = [plan.state(cell) for cell in plan.cells]
        assert set(states[:5]) == {"done"} and set(states[5:]) <= {"done", "pruned"}
        assert count < 9 or "pruned" in states
        drawn.append([plan.flags_file(cell).read_text() for cell in plan.cells])
    assert len(set(drawn[0])) == 9
    assert drawn[0][:3] == drawn[1]


def history(plan, cell, losses):
    plan.run(cell).mkdir(exist_ok=True)
    rows = [f"0,{number},{loss}" for number, loss in enumerate(losses)]
    (plan.run(cell) / "history.csv").write_text("\n".join(["fold,epoch,val_nll", *rows]))


def finish(plan, cell, losses):
    history(plan, cell, losses)
    figures = {"folds": [{"validation": {"nll": losses[-1]}}]}
    (plan.run(cell) / "metrics.json").write_text(json.dumps(figures))


@needs_optuna
def test_a_sweep_prunes_only_when_the_longest_warm_up_and_the_change_of_the_loss_are_over(tmp_path):
    from recipe.study.trials import draw, pruner

    plan = made(tmp_path / "study", kind="sweep", count=7)
    pruned_after = []
    cells = iter(plan.cells)
    for losses in [[1.0] * 10] * 5 + [[9.0] * 5 + [0.1] * 5, [9.0] * 10]:
        cell = next(cells)
        draw(plan, cell)
        hopeless, found = pruner(plan, cell), None
        for epoch in range(len(losses)):
            history(plan, cell, losses[: epoch + 1])
            if hopeless():
                found = epoch
                break
        else:
            finish(plan, cell, losses)
        pruned_after.append(found)
    # The warm-up is drawn from up to 4 epochs; the slow starter wins, the last one never would.
    assert pruned_after == [None] * 6 + [5]


@needs_optuna
def test_no_two_workers_draw_the_same_and_a_cell_keeps_what_it_was_begun_with(tmp_path):
    from recipe.study.trials import draw

    plan = made(tmp_path / "study", kind="sweep", count=3)
    drawn = [draw(plan, cell) for cell in plan.cells]
    assert len({json.dumps(values) for values in drawn}) == 3
    assert [draw(plan, cell) for cell in plan.cells] == drawn
    path = plan.flags_file("trial-0001")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"LR_BASE": "fast"}))
    with pytest.raises(InputError, match="trial-0001.json was not written by a run: LR_BASE"):
        draw(plan, "trial-0001")


@needs_optuna
def test_later_draws_learn_from_the_trials_that_ended(tmp_path):
    from recipe.study.trials import draw

    told = []
    for best in (0.0, 0.5):  # of the dropout
        plan = made(tmp_path / str(best), kind="sweep", count=40)
        for cell in list(plan.cells)[:30]:
            finish(plan, cell, [1 + abs(draw(plan, cell)["DROPOUT_RNN1"] - best)])
        told.append([draw(plan, cell)["DROPOUT_RNN1"] for cell in list(plan.cells)[30:]])
    assert np.mean(told[0]) < 0.2 < 0.3 < np.mean(told[1])


@needs_optuna
def test_a_database_has_a_copy_of_the_trials_each_once(tmp_path):
    import optuna

    from recipe.study.trials import copy_to

    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    plan = made(tmp_path / "study", kind="sweep", count=3, database=True)
    work(plan.folder, storage, **QUICK)
    copy_to(plan, storage)
    copied = optuna.load_study(study_name=plan.name, storage=storage)
    assert [trial.user_attrs["cell"] for trial in copied.trials] == list(plan.cells)
    assert copied.best_value == min(plan.value(cell) for cell in plan.cells)
    assert len(copied.best_params) == len(space_for(plan.flags))
    with pytest.raises(InputError, match="cannot be opened"):
        copy_to(plan, "nonsense://")


@pytest.mark.parametrize(
    ("flags", "epoch"),
    [({}, 5), ({"AFL_WARMUP_EPOCHS": 7}, 8), ({"SUPERVISED_EPOCHS": 5}, 4)],
    ids=["drawn from 0 to 4", "change of the loss", "half of the epochs"],
)
def test_the_first_fair_epoch_follows_from_the_flags(flags, epoch):
    assert first_fair_epoch(config.load(**flags)) == epoch


def test_a_storage_that_is_not_the_studys_is_refused(tmp_path):
    plan = made(tmp_path / "study")
    with pytest.raises(InputError, match="needs no --storage"):
        check_storage(plan, "sqlite://")
    with pytest.raises(InputError, match="--storage URL"):
        check_storage(made(tmp_path / "other", database=True), "")


@needs_optuna
def test_a_sweep_is_judged_by_the_first_fold_and_member_alone(tmp_path):
    from recipe.study.trials import draw, pruner

    plan = made(tmp_path / "study", kind="sweep", count=6)
    *others, cell = plan.cells
    for other in others:
        draw(plan, other)
        finish(plan, other, [1.0] * 8)
    draw(plan, cell)
    plan.run(cell).mkdir()
    rows = [f"0,0,{epoch},1.0" for epoch in range(8)] + [f"0,1,{epoch},9" for epoch in range(8)]
    rows += [f"1,0,{epoch},9" for epoch in range(8)]
    text = "\n".join(["fold,member,epoch,val_nll", *rows])
    (plan.run(cell) / "history.csv").write_text(text)
    assert not pruner(plan, cell)()
    (plan.run(cell) / "history.csv").write_text(text.replace("0,0,7,1.0", "0,0,7,9"))
    assert not pruner(plan, cell)()  # its best counts
    (plan.run(cell) / "history.csv").write_text(text.replace("1.0", "1.1"))
    assert pruner(plan, cell)()
