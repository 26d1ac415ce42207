import contextlib
import importlib.util
import queue
import socket
import subprocess
import sys
import threading
import time

import keras
import pytest
from tiny_run import ROOT

import train_model
from core.errors import InputError
from recipe.devices import greeting, lifeline, processes

WAIT = 20  # seconds
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("host:1", 2, None), "must be given together"),
        ((None, None, 1), "must be given together"),
        (("host:1", 2, 2), "--process must be 0 to 1, got 2"),
        (("host", 2, 0), "must be HOST:PORT"),
        (("host:port", 2, 0), "must be HOST:PORT"),
        (("slurm", 2, None), "needs no --processes"),
        (("slurm", None, None), "started by srun"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, told, monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    with pytest.raises(InputError, match=told):
        processes.check(*options)


def test_several_processes_are_refused_on_tensorflow(bars_file, capsys):
    asked = ["--data", str(bars_file), "--coordinator", "localhost:1"]
    assert train_model.main([*asked, "--processes", "2", "--process", "0"]) == 2
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err


def test_several_gpus_are_refused_on_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0", "gpu:1"])
    with pytest.raises(InputError, match="there are 2: KERAS_BACKEND=jax uses all"):
        processes.distribute(16, print)


@needs_jax
@pytest.mark.parametrize(("batch_size", "own"), [(15, 1), (16, 3)])
def test_several_processes_must_divide_the_batch(batch_size, own, monkeypatch):
    import jax

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for name, value in {"process": 2, "device": 2, "local_device": own}.items():
        monkeypatch.setattr(jax, f"{name}_count", lambda value=value: value)
    told = f"multiple of the devices, .* got {batch_size} for 2 of 2 processes"
    with pytest.raises(InputError, match=told):
        processes.distribute(batch_size, print)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "9" * 5000, "²", "-1"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(InputError, match="must be HOST:PORT"):
        processes.check(f"localhost:{port}", 2, 0)


KEY = b"of this training"


@pytest.fixture
def first():
    """The end of process 0, which waits for one other, and what it was told of its end."""
    lost = queue.Queue()
    first = lifeline.Primary("localhost", 1, KEY, lambda *told: lost.put(told))

    def accept():
        with contextlib.suppress(TimeoutError):  # where no other one came
            first.accept(WAIT)

    accepted = threading.Thread(target=accept)
    accepted.start()
    yield first, accepted, lost
    first.close()
    accepted.join(WAIT)


@pytest.fixture
def line(first):
    """The ends of processes 0 and 1, and what each was told of others that ended."""
    first, accepted, lost = first
    others = queue.Queue()
    other = lifeline.Worker("localhost", first.port, 1, KEY, lambda *told: others.put(told))
    accepted.join(WAIT)
    yield first, other, (lost, others)
    other.close()


def stranger(first, *lines):
    connection = socket.create_connection(("localhost", first.port))
    connection.recv(100)
    for text in lines:
        connection.sendall(text)
    return connection


@pytest.mark.parametrize(
    "said",
    [b"1\n", b"99\n", b"1 a b\n", b"1 a\n", b"\n", b"\xff\0\n", b"x" * 10_000, b"end\nlost 1 x\n"],
)
def test_a_stranger_at_the_port_is_let_go_and_takes_nobodys_place(said, first):
    first, accepted, lost = first
    silent = stranger(first)
    talker = stranger(first, said)
    talker.settimeout(WAIT)
    with contextlib.suppress(ConnectionError):  # or it is told by a reset
        assert talker.recv(100) == b""
    other = lifeline.Worker("localhost", first.port, 1, KEY, lambda *told: None)
    accepted.join(WAIT)
    assert not accepted.is_alive() and lost.empty()
    for each in (silent, talker, other):
        each.close()


@pytest.mark.parametrize(("number", "key"), [(1, b"another"), (2, KEY), (0, KEY), (-1, KEY)])
def test_who_has_another_key_or_number_is_let_go(number, key, first):
    first, accepted, _ = first
    lost = queue.Queue()
    with contextlib.suppress(OSError, ValueError):  # told at once, or when it is let go
        other = lifeline.Worker("localhost", first.port, number, key, lambda *told: lost.put(told))
        assert lost.get(timeout=WAIT) == (0, "")
        other.close()
    assert accepted.is_alive() and first._others == {}


def test_who_takes_a_place_that_is_taken_is_let_go_and_the_port_is_shut_when_all_are_there(line):
    first, other, (lost, others) = line
    with pytest.raises(OSError):
        lifeline.Worker("localhost", first.port, 1, KEY, lambda *told: None)
    assert lost.empty() and others.empty()
    assert first.barrier("on") == "" and other.barrier("on") == ""


def test_a_process_does_not_follow_a_stranger_in_the_place_of_the_first():
    with socket.create_server(("localhost", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.sendall(b"nonce\n")
            connection.recv(1000)
            connection.sendall(b"0" * 64 + b"\nend\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ValueError, match="process 0 does not know the key"):
            lifeline.Worker("localhost", server.getsockname()[1], 1, KEY, lambda *told: None)


def test_only_the_host_that_was_given_is_listened_at_and_who_does_not_come_is_told(first):
    first, *_ = first
    assert first._server.getsockname()[0] == "127.0.0.1"
    alone = lifeline.Primary("localhost", 2, KEY, lambda *told: None)
    with pytest.raises(TimeoutError, match="0 of 2 have connected"):
        alone.accept(0.05)


def test_a_silent_stranger_is_let_go_in_time(first, monkeypatch):
    monkeypatch.setattr(greeting, "_GREETED_IN", 0.2)
    with stranger(first[0]) as silent:
        silent.settimeout(WAIT)
        assert silent.recv(100) == b""
    with stranger(first[0]) as slow:  # a byte at a time
        slow.settimeout(WAIT)
        with pytest.raises(OSError):
            for _ in range(200):
                slow.sendall(b"1")
                time.sleep(0.05)


def test_processes_wait_for_each_other_and_end_together(line):
    first, other, lost = line
    met = queue.Queue()

    def work():
        met.put(other.barrier("fold 0"))
        other.end()
        other.close()

    beside = threading.Thread(target=work)
    beside.start()
    with pytest.raises(queue.Empty):
        met.get(timeout=0.2)
    assert first.barrier("fold 0", '{"a value": 1}') == '{"a value": 1}'
    assert met.get(timeout=WAIT) == '{"a value": 1}'
    first.end()
    beside.join(WAIT)
    assert not beside.is_alive() and lost[0].empty() and lost[1].empty()


def elsewhere(code):
    """Starts a process with one end of a lifeline; returns it when it has printed a line."""
    code = f"import time; from recipe.devices import lifeline; {code}; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    return process, process.stdout.readline().decode().strip()


def kill(process):
    process.kill()
    process.communicate()


def test_a_worker_that_is_killed_is_told_to_process_0(first):
    first, accepted, lost = first
    worker, _ = elsewhere(
        f"w = lifeline.Worker('localhost', {first.port}, 1, {KEY}, print); print('', flush=True)"
    )
    accepted.join(WAIT)
    assert lost.empty()
    kill(worker)
    assert lost.get(timeout=WAIT) == (1, "")


def test_a_process_0_that_is_killed_is_told_to_its_worker():
    primary, port = elsewhere(
        f"p = lifeline.Primary('localhost', 1, {KEY}, print); print(p.port, flush=True); "
        "p.accept(60)"
    )
    lost = queue.Queue()
    worker = lifeline.Worker("localhost", int(port), 1, KEY, lambda *told: lost.put(told))
    assert lost.empty()
    kill(primary)
    assert lost.get(timeout=WAIT) == (0, "")
    worker.close()


@pytest.mark.parametrize("ended", [0, 1])
def test_the_reason_of_an_end_is_told_to_the_other(line, ended):
    first, other, lost = line
    (first, other)[ended].leave("a disk is full")
    (first, other)[ended].close()
    assert lost[1 - ended].get(timeout=WAIT) == (ended, "a disk is full")
