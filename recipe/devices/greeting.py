"""How the processes of a training recognise each other: both ends must know the same key.

Each end answers the other's random text with its HMAC before anything else is read. A stranger at
the port is disconnected and blocks nobody. What follows is not encrypted.
"""

import contextlib
import hmac
import secrets
import socket
import time

_GREETED_IN = 20  # seconds that a new connection has to prove that it knows the key
_LONGEST = 300  # letters of a line


def listening(host: str, others: int) -> socket.socket:
    """Returns a socket listening on any port of an address of this machine, "" for all."""
    addresses = socket.getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # IPv4 if there are both: every machine speaks it.
    family, *_kind, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    return socket.create_server(address[:2], family=family, backlog=others + 16)


def ask(connection: socket.socket, key: bytes) -> int:
    """Returns the number of the process that connected, after both ends have proved the key.

    Raises:
        OSError: if the other end sends nothing.
        ValueError: if it does not know the key.
    """
    until, nonce = time.monotonic() + _GREETED_IN, secrets.token_hex(16)
    _say(connection, nonce)
    number, other_nonce, proof = _heard(connection, until).split(" ")
    if not hmac.compare_digest(proof.encode(), _proof(key, nonce, number)):
        raise ValueError("it does not know the key")
    _say(connection, _proof(key, other_nonce, "0").decode())
    connection.settimeout(None)
    return int(number)


def answer(connection: socket.socket, key: bytes, number: int) -> None:
    """Proves to process 0 that this process knows the key, and makes it prove the same.

    Raises:
        OSError: if process 0 sends nothing.
        ValueError: if it does not know the key.
    """
    until, nonce = time.monotonic() + _GREETED_IN, secrets.token_hex(16)
    other_nonce = _heard(connection, until)
    _say(connection, f"{number} {nonce} {_proof(key, other_nonce, str(number)).decode()}")
    if not hmac.compare_digest(_heard(connection, until).encode(), _proof(key, nonce, "0")):
        raise ValueError("process 0 does not know the key")
    connection.settimeout(None)


def _proof(key: bytes, nonce: str, number: str) -> bytes:
    return hmac.new(key, f"{nonce} {number}".encode(), "sha256").hexdigest().encode()


def _say(connection: socket.socket, text: str) -> None:
    connection.sendall(f"{text}\n".encode())


def _heard(connection: socket.socket, until: float) -> str:
    """Returns a line, read byte by byte: what follows it is left for the next reader."""
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(max(until - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte or len(line) > _LONGEST or time.monotonic() > until:
            raise ConnectionError("it said no line")
        line += byte
    return line.decode("ascii").strip()


def shut(connection: socket.socket) -> None:
    """Closes a connection, whatever its state."""
    with contextlib.suppress(OSError):  # the other end was quicker
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
