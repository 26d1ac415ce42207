"""Keeps the processes of one training together: who waits for whom, and all end when one ends.

Process 0 listens, every other one keeps a connection to it. The system closes the connections of a
process however it ends, and TCP tells within half a minute of a machine that is gone. The ends of
JAX's own service are no substitute: it aborts in native code, without a word on how to go on.
"""

import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable

_END = "end"
_LOST = "lost"
_IS = "\t"  # between a word and its value
_PATIENCE = 60  # seconds that process 0 waits for the others to say that they have ended, too
# Seconds without a word, seconds between questions, and questions, until a machine counts as gone.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}

OnLost = Callable[[int, str], None]


class First:
    """The end of process 0.

    Args:
        others: how many processes there are beside it.
        on_lost: told, in another thread, the number of a process that has ended before its time,
            and why, as far as it could say so.
    """

    def __init__(self, others: int, on_lost: OnLost):
        self._server = socket.create_server(("", 0), backlog=others)
        self._num_others, self._on_lost = others, on_lost
        self._others: dict[int, socket.socket] = {}
        self._ended, self._leaves = threading.Semaphore(0), False

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.getsockname()[1]

    def accept(self) -> None:
        """Waits until all others have connected."""
        while len(self._others) < self._num_others:
            connection = _kept_alive(self._server.accept()[0])
            lines = connection.makefile()
            number = lines.readline().strip()
            if number.isdigit():  # else no process of ours
                self._others[int(number)] = connection
                _in_thread(self._listen, int(number), lines)

    def meet(self, word: str, value: str = "") -> str:
        """Lets go on those that wait for the word, and tells them a value, which is returned."""
        for connection in self._others.values():
            connection.sendall(f"{word}{_IS}{value}\n".encode())
        return value

    def leave(self, reason: str) -> None:
        """Has the others end, for a reason; their ends are no news any more."""
        self._leaves = True
        for connection in self._others.values():
            _try_to_say(connection, f"{_LOST} 0 {reason}")

    def end(self) -> None:
        """Lets the others end, and waits until they do."""
        self.meet(_END)
        for _ in self._others:
            self._ended.acquire(timeout=_PATIENCE)
        self.close()

    def close(self) -> None:
        """Lets go of the connections."""
        for connection in (self._server, *self._others.values()):
            connection.close()

    def _listen(self, number: int, lines) -> None:
        words = list(_each_word(lines))
        if words == [_END]:
            self._ended.release()
            return
        if self._leaves:
            return
        reason = _lost(words[-1])[1] if words else ""
        for other, connection in self._others.items():
            if other != number:
                _try_to_say(connection, f"{_LOST} {number} {reason}")
        self._on_lost(number, reason)


class Other:
    """The end of any other process.

    Args:
        host: where process 0 runs.
        port: where it listens.
        number: of this process.
        on_lost: as `First` takes it.
    """

    def __init__(self, host: str, port: int, number: int, on_lost: OnLost):
        self._connection = _kept_alive(socket.create_connection((host, port), timeout=_PATIENCE))
        self._connection.settimeout(None)
        self._connection.sendall(f"{number}\n".encode())
        self._number, self._on_lost = number, on_lost
        self._heard: dict[str, str] = {}
        self._leaves = False
        self._news = threading.Condition()
        _in_thread(self._listen, self._connection.makefile())

    def meet(self, word: str, value: str = "") -> str:
        """Waits until process 0 says the word, and returns the value that it has there."""
        with self._news:
            self._news.wait_for(lambda: word in self._heard)
        return self._heard[word]

    def leave(self, reason: str) -> None:
        """Has the others end, for a reason; their ends are no news any more."""
        self._leaves = True
        _try_to_say(self._connection, f"{_LOST} {self._number} {reason}")

    def end(self) -> None:
        """Waits until process 0 lets end."""
        self.meet(_END)
        self._connection.sendall(f"{_END}\n".encode())

    def close(self) -> None:
        """Lets go of the connection, as the system does at the end of the process.

        Not earlier: process 0 has the service that JAX needs up to the end, and waits for this.
        """
        with contextlib.suppress(OSError):  # the other end was quicker
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

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
    """Returns the number of the process that a line says has ended, and why."""
    _word, number, reason = f"{line} ".split(" ", 2)
    return int(number), reason.strip()


def _try_to_say(connection: socket.socket, word: str) -> None:
    with contextlib.suppress(OSError):  # it has ended, too
        connection.sendall(f"{word}\n".encode())
