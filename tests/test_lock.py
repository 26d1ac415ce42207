import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from tiny_run import ROOT

import core.lock
from core.errors import InputError
from core.lock import Lock

HOLD = """
import pathlib, sys, time
from core.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]), "it")
assert lock.take()
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_the_second_is_told_who_has_it_and_a_killed_one_has_it_no_more(tmp_path, holder):
    told = f"the run folder is in use by process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(InputError, match=told), Lock(tmp_path / "lock", "the run folder"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with Lock(tmp_path / "lock", "the run folder"):
        assert not Lock(tmp_path / "lock", "it").take()
    assert not list(tmp_path.iterdir())


def test_who_has_patience_gets_it_when_the_other_lets_go(tmp_path):
    first, got = Lock(tmp_path / "lock", "it"), threading.Event()
    assert first.take()

    def wait():
        with Lock(tmp_path / "lock", "it", patience=60):
            got.set()

    second = threading.Thread(target=wait)
    second.start()
    assert not got.wait(0.3)
    first.let_go()
    second.join(60)
    assert got.is_set()


def test_no_two_have_it_at_once_though_each_removes_the_file(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(50):
            with Lock(tmp_path / "lock", "it", patience=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 300 and set(most) == {1}


def test_a_file_that_was_removed_between_opening_and_locking_is_no_lock(tmp_path, monkeypatch):
    first, second = Lock(tmp_path / "lock", "it"), Lock(tmp_path / "lock", "it")
    assert first.take()
    locked = core.lock._locked

    def slowly(handle):
        first.let_go()
        return locked(handle)

    monkeypatch.setattr(core.lock, "_locked", slowly)
    assert second.take()
    assert not Lock(tmp_path / "lock", "it").take()


def test_a_lock_that_is_forgotten_is_let_go(tmp_path):
    lock = Lock(tmp_path / "lock", "it")
    assert lock.take() and not Lock(tmp_path / "lock", "it").take()
    del lock
    assert Lock(tmp_path / "lock", "it").take()


def test_a_disk_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="another call on Windows")

    def none(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with Lock(tmp_path / "lock", "it") as first, Lock(tmp_path / "lock", "it") as second:
        assert not first.sure and not second.sure
    monkeypatch.undo()
    with Lock(tmp_path / "lock", "it") as lock:
        assert lock.sure


def test_who_never_had_it_or_let_go_before_removes_nothing(tmp_path):
    first, second = Lock(tmp_path / "lock", "it"), Lock(tmp_path / "lock", "it")
    assert first.take()
    second.let_go()
    assert (tmp_path / "lock").exists() and not second.take()
    first.let_go()
    assert second.take()
    first.let_go()
    assert (tmp_path / "lock").exists()


def test_a_place_without_a_folder_or_with_a_link_is_refused(tmp_path):
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "lock").symlink_to("letter")
    for path in (tmp_path / "none" / "lock", tmp_path / "lock"):
        with pytest.raises(InputError, match="cannot be written"):
            Lock(path, "it").take()
    assert (tmp_path / "letter").read_text() == "dear"
