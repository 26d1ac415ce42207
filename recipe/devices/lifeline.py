"""Keeps the processes of one training together: barriers, and all end when one ends.

Process 0 listens, and every other one keeps a connection to it. The system closes the connections
of a process however it ends, and TCP keep-alive detects a lost machine within half a minute.

`jax.distributed` is no substitute (tried with JAX 0.10.2): its service aborts the other processes
in native code; if that is switched off, a process outside a collective never learns that another
one has ended, and one inside sees a broken connection, but not why.

A connection must prove the key of the training before it is read from; see greeting.py.
"""

import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable

from recipe.devices import greeting

_END = "end"
_LOST = "lost"
_IS = "\t"  # between a word and its value
_PATIENCE = 60  # seconds that process 0 waits for the others to report their end
# Idle seconds before the first probe, seconds between probes, and probes until a machine is lost.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}

OnLost = Callable[[int, str], None]


class Primary:
    """The end of process 0.

    Args:
        host: the address to listen at; "": all of this machine's.
        others: how many processes there are beside it.
        key: shared by all processes of this training, and nobody else.
        on_lost: called in another thread with the number of a process that has ended early, and the
            reason if it could give one.

    Raises:
        OSError: if the host is not this machine.
    """

    def __init__(self, host: str, others: int, key: bytes, on_lost: OnLost):
        self._server = greeting.listening(host, others)
        self._num_others, self._key, self._on_lost = others, key, on_lost
        self._others: dict[int, socket.socket] = {}
        self._news = threading.Condition()
        self._ended, self._leaves, self._closed = threading.Semaphore(0), False, False

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.getsockname()[1]

    def accept(self, patience: float) -> None:
        """Waits until all others have connected, then stops listening.

        Args:
            patience: seconds.

        Raises:
            TimeoutError: if some have not.
        """
        _in_thread(self._greet_all)
        with self._news:
            self._news.wait_for(lambda: self._closed or self._all_there(), patience)
        greeting.shut(self._server)
        if not self._all_there():
            raise TimeoutError(f"{len(self._others)} of {self._num_others} have connected")

    def _all_there(self) -> bool:
        return len(self._others) == self._num_others

    def _greet_all(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                _in_thread(self._greet, self._server.accept()[0])

    def _greet(self, connection: socket.socket) -> None:
        """Accepts a process that knows the key, and disconnects anybody else."""
        number = 0
        with contextlib.suppress(OSError, ValueError):
            number = greeting.ask(connection, self._key)
        with self._news:
            if not 0 < number <= self._num_others or number in self._others:
                greeting.shut(connection)
                return
            self._others[number] = _kept_alive(connection)
            self._news.notify_all()
        _in_thread(self._listen, number, connection.makefile())

    def barrier(self, word: str, value: str = "") -> str:
        """Releases the processes waiting at the word, sends them a value, and returns it."""
        for connection in self._others.values():
            connection.sendall(f"{word}{_IS}{value}\n".encode())
        return value

    def leave(self, reason: str) -> None:
        """Makes the others end, for a reason, and no longer reports their ends."""
        self._leaves = True
        for connection in self._others.values():
            _try_to_say(connection, f"{_LOST} 0 {reason}")

    def end(self) -> None:
        """Releases the others to end, and waits until they have."""
        self.barrier(_END)
        for _ in self._others:
            self._ended.acquire(timeout=_PATIENCE)
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for connection in (self._server, *self._others.values()):
            greeting.shut(connection)

    def _listen(self, number: int, lines) -> None:
        last = ""
        for line in _each_word(lines):
            last = line
        if last == _END:
            self._ended.release()
            return
        if self._leaves:
            return
        reason = _lost(last)[1]
        for other, connection in self._others.items():
            if other != number:
                _try_to_say(connection, f"{_LOST} {number} {reason}")
        self._on_lost(number, reason)


class Worker:
    """The end of any other process.

    Args:
        host: where process 0 runs.
        port: where it listens.
        number: of this process.
        key: as `Primary` takes it.
        on_lost: as `Primary` takes it.

    Raises:
        OSError: if nobody answers there.
        ValueError: if the other end does not know the key, or rejects this process.
    """

    def __init__(self, host: str, port: int, number: int, key: bytes, on_lost: OnLost):
        self._connection = _kept_alive(socket.create_connection((host, port), timeout=_PATIENCE))
        try:
            greeting.answer(self._connection, key, number)
        except (OSError, ValueError):
            greeting.shut(self._connection)
            raise
        self._number, self._on_lost = number, on_lost
        self._heard: dict[str, str] = {}
        self._leaves = False
        self._news = threading.Condition()
        _in_thread(self._listen, self._connection.makefile())

    def barrier(self, word: str, value: str = "") -> str:
        """Waits until process 0 releases the word, and returns the value sent with it."""
        with self._news:
            self._news.wait_for(lambda: word in self._heard)
        return self._heard[word]

    def leave(self, reason: str) -> None:
        """Makes the others end, for a reason, and no longer reports their ends."""
        self._leaves = True
        _try_to_say(self._connection, f"{_LOST} {self._number} {reason}")

    def end(self) -> None:
        """Waits until process 0 releases this process to end."""
        self.barrier(_END)
        self._connection.sendall(f"{_END}\n".encode())

    def close(self) -> None:
        """Closes the connection, as the system does at the end of the process.

        Not to be called earlier: process 0 runs the service that JAX needs to the end, and waits
        for this.
        """
        greeting.shut(self._connection)

    def _listen(self, lines) -> None:
        lost = 0, ""
        for line in _each_word(lines):
            if line.startswith(_LOST):
                lost = _lost(line)
                break
            word, _is, value = line.partition(_IS)
            with self._news:
                self._heard[word] = value
                self._news.notify_all()
        if _END not in self._heard and not self._leaves:
            self._on_lost(*lost)


def _in_thread(run: Callable, *arguments) -> None:
    # In the context of the caller, which knows the language of messages.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run, *arguments), daemon=True).start()


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _each_word(lines):
    try:
        with lines:
            for line in lines:
                yield line.strip()
    except OSError:  # a broken connection is one that has ended
        return


def _lost(line: str) -> tuple[int, str]:
    """Returns the number of the process that a line reports lost, 0 if none, and the reason."""
    word, number, reason = f"{line}  ".split(" ", 2)
    return (int(number), reason.strip()) if word == _LOST and number.isdigit() else (0, "")


def _try_to_say(connection: socket.socket, word: str) -> None:
    with contextlib.suppress(OSError):  # it has ended, too
        connection.sendall(f"{word}\n".encode())
