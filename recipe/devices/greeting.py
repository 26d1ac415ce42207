"""How the processes of a training know each other: both ends of a connection show the same key.

Each answers a random text of the other with an HMAC of it, before anything else is heard. A
stranger at the port is let go, and keeps nobody waiting. What is said afterwards is not encrypted.
"""

import contextlib
import hmac
import secrets
import socket
import time

_GREETED_IN = 20  # seconds that whoever connects has to show the key
_LONGEST = 300  # letters of a line


def listening(host: str, others: int) -> socket.socket:
    """Returns a socket that listens at a host of this machine, "" for all, at any port."""
    addresses = socket.getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # The older protocol where there are both: every machine speaks it.
    family, *_kind, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    return socket.create_server(address[:2], family=family, backlog=others + 16)


def ask(connection: socket.socket, key: bytes) -> int:
    """Returns the number of whoever connected, and shows it that the key is known here.

    Raises:
        OSError: where it says nothing.
        ValueError: where it does not know the key.
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
    """Shows process 0 that the key is known, and has it show the same.

    Raises:
        OSError: where it says nothing.
        ValueError: where it does not know the key.
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
    """Returns a line, read by the byte: what comes behind it belongs to whoever reads on."""
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(max(until - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte or len(line) > _LONGEST or time.monotonic() > until:
            raise ConnectionError("it said no line")
        line += byte
    return line.decode("ascii").strip()


def shut(connection: socket.socket) -> None:
    """Ends a connection, whatever became of it."""
    with contextlib.suppress(OSError):  # the other end was quicker
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
