"""Studies by real worker processes, over a command that stands for the training."""

import fcntl
import json
import os
import time
from pathlib import Path

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
from core.errors import InputError
from recipe.study import plan as plans
from recipe.study.launch import progress
from recipe.study.queue import JOURNAL, Queue
from recipe.study.space import first_fair_epoch
from recipe.study.worker import _follow, work


@pytest.fixture(autouse=True)
def fake_command_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def test_a_killed_workers_cell_is_resumed_and_every_cell_done_once(tmp_path, monkeypatch):
    plan = check_that_a_killed_workers_cell_is_resumed(tmp_path, monkeypatch)
    assert not list((plan.folder / "beats").iterdir())
    assert progress(plan) == "4 of 4 done, 0 running, 0 failed"


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
    assert progress(plan) == "2 of 3 done, 0 running, 1 failed"
    (plan.folder / "ended" / "as-flagged-seed1.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]


def test_a_lost_storage_is_filled_again_from_the_run_folders(tmp_path):
    plan = made(tmp_path / "study")
    work(plan.folder, **QUICK)
    (plan.folder / JOURNAL).unlink()
    (plan.run("as-flagged-seed1") / "metrics.json").unlink()
    work(plan.folder, **QUICK)
    assert begun(plan)["as-flagged-seed0"] == ["train"]
    assert begun(plan)["as-flagged-seed1"] == ["train", "resume"]
    assert plan.state("as-flagged-seed1") == plans.DONE


def damaged(damage):
    return lambda content: damage(content.splitlines(keepends=True))


@pytest.mark.parametrize(
    "damage",
    [
        damaged(lambda lines: b"".join(lines)[:60] + b"\0" * 50 + b"".join(lines)[110:]),
        damaged(lambda lines: b"[1]\n" + b"".join(lines)),
        damaged(lambda lines: b'{"op_code":99}\n' + b"".join(lines)),
        damaged(lambda lines: b"".join(lines) + b"7\n"),
        damaged(lambda lines: bytes(range(256))),
        damaged(lambda lines: b"\n" + b"".join(lines)),
    ],
    ids=["zeros", "list", "another action", "number", "noise", "empty line"],
)
def test_a_broken_journal_is_told_and_deleting_it_heals(damage, tmp_path):
    plan = made(tmp_path / "study", count=2)
    queue = Queue(plan)
    queue.refill()
    journal = plan.folder / JOURNAL
    journal.write_bytes(damage(journal.read_bytes()))
    with pytest.raises(InputError, match=f"the journal {journal} of the study is broken: delete"):
        Queue(plan)
    journal.unlink()
    healed = Queue(plan)
    healed.refill()
    assert healed.take()[1] == "as-flagged-seed0"


def test_a_journal_that_breaks_while_it_is_used_is_told(tmp_path):
    plan = made(tmp_path / "study", count=2)
    queue = Queue(plan)
    queue.refill()
    with open(plan.folder / JOURNAL, "ab") as file:
        file.write(b"7\n")
    with pytest.raises(InputError, match="is broken: delete it"):
        queue.refill()


def test_a_torn_last_line_is_cut_off(tmp_path):
    plan = made(tmp_path / "study", count=2)
    Queue(plan).refill()
    journal = plan.folder / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"work')
    queue = Queue(plan)
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,')
    queue.refill()
    assert [queue.take()[1] for _ in plan.cells] == list(plan.cells)


def test_an_error_of_our_own_is_not_told_as_a_broken_journal(tmp_path, monkeypatch):
    plan = made(tmp_path / "study", count=1)
    queue = Queue(plan)

    def fails():
        raise TypeError("our own")

    monkeypatch.setattr(queue, "_trials", fails)
    with pytest.raises(TypeError, match="our own"):
        queue.refill()


def test_the_lock_of_the_journal_leads_to_it_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets, link = [], os.symlink
    monkeypatch.setattr(os, "symlink", lambda to, at: (targets.append(to), link(to, at)))
    Queue(made(Path("study"), count=1)).refill()
    assert set(targets) == {str(tmp_path / "study" / JOURNAL)}


def test_a_cell_that_waits_twice_is_taken_once(tmp_path):
    plan = made(tmp_path / "study", count=1)
    one, two = Queue(plan), Queue(plan)
    one.refill()
    one._study.enqueue_trial({}, user_attrs={"cell": "as-flagged-seed0"})
    assert one.take()[1] == "as-flagged-seed0"
    assert two.take() is None


def test_a_worker_elsewhere_without_a_sign_is_taken_for_dead(tmp_path):
    plan = made(tmp_path / "study", count=1)
    there, here = Queue(plan), Queue(plan, grace=0.2)
    there.refill()
    trial, cell = there.take()
    beat = plan.folder / "beats" / f"{trial.number:05d}.json"
    beat.write_text(json.dumps({"cell": cell, "host": "elsewhere", "pid": os.getpid()}))
    here.refill()
    assert here.take() is None
    time.sleep(0.15)
    os.utime(beat)
    here.refill()
    time.sleep(0.15)
    here.refill()
    assert here.take() is None, "it gave a sign"
    time.sleep(0.3)
    here.refill()
    assert here.take()[1] == cell


def test_a_sweep_repeats_its_draws_and_prunes(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_STEP_SECONDS", "0.05")
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


def test_a_sweep_prunes_only_when_the_longest_warm_up_and_the_change_of_the_loss_are_over(tmp_path):
    plan = made(tmp_path / "study", kind="sweep", count=7)
    queue = Queue(plan)
    queue.refill()
    pruned_after = []
    for losses in [[1.0] * 10] * 5 + [[9.0] * 5 + [0.1] * 5, [9.0] * 10]:
        trial, cell = queue.take()
        hopeless = _follow(trial, plan, cell)
        plan.run(cell).mkdir()
        for epoch in range(len(losses)):
            rows = [f"0,{number},{loss}" for number, loss in enumerate(losses[: epoch + 1])]
            (plan.run(cell) / "history.csv").write_text("\n".join(["fold,epoch,val_nll", *rows]))
            if hopeless():
                break
        else:
            epoch = None
            figures = {"folds": [{"validation": {"nll": losses[-1]}}]}
            (plan.run(cell) / "metrics.json").write_text(json.dumps(figures))
        queue.end(trial, cell)
        pruned_after.append(epoch)
    # The warm-up is drawn from up to 4 epochs; the slow starter wins, the last one never would.
    assert pruned_after == [None] * 6 + [5]


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
        Queue(plan, "sqlite://")
    with pytest.raises(InputError, match="--storage URL"):
        Queue(made(tmp_path / "other", database=True))


def test_a_sweep_is_judged_by_the_first_fold_and_member_alone(tmp_path):
    plan = made(tmp_path / "study", kind="sweep", count=1)
    told = []

    class Trial:
        def report(self, value, step):
            told.append((step, value))

        def should_prune(self):
            return False

    (cell,) = plan.cells
    plan.run(cell).mkdir(parents=True)
    rows = ["fold,member,epoch,val_nll", "0,0,0,1.1", "0,0,1,1.0", "0,1,0,9", "1,0,0,9", "1,1,1,9"]
    (plan.run(cell) / "history.csv").write_text("\n".join(rows))
    assert not _follow(Trial(), plan, cell)()
    assert told == [(0, 1.1), (1, 1.0)]
