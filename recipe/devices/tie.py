"""Ties the processes that JAX has connected by a lifeline that strangers cannot join."""

import hmac
import ipaddress
import os
import secrets
import socket

from core.errors import InputError
from recipe.devices import lifeline

SECRET = "XLSTM_SECRET"  # environment variable with a secret that all processes share
_ADDRESS_BYTES = 256
_KEY_BYTES = 32


def tie(
    host: str, number: int, others: int, patience: float, on_lost: lifeline.OnLost
) -> lifeline.Primary | lifeline.Worker:
    """Makes the lifeline: process 0 sends its address and half of the key through JAX.

    The other half is the environment variable XLSTM_SECRET, if set: it is never sent.

    Args:
        host: of process 0.
        number: of this process.
        others: number of processes beside process 0.
        patience: seconds for all to connect.
        on_lost: as for `recipe.devices.lifeline.Primary`.

    Raises:
        InputError: if they cannot find each other, or have different secrets.
    """
    first, drawn = None, secrets.token_bytes(_KEY_BYTES)
    secret = os.environ.get(SECRET, "").encode()
    try:
        if number == 0:
            first = lifeline.Primary(_to_bind(host), others, _key(drawn, secret), on_lost)
        port = first.port if first is not None else 0
        host, port, drawn = _told_by_first(host, port, drawn)
        if first is None:
            return lifeline.Worker(host, port, number, _key(drawn, secret), on_lost)
        first.accept(patience)
        return first
    except (OSError, ValueError) as error:
        raise InputError(
            "the processes of a training must reach process 0 at {host}, with the same "
            "{secret} where one is set: {error}",
            host=host,
            secret=SECRET,
            error=error,
        ) from error


def _key(drawn: bytes, secret: bytes) -> bytes:
    return hmac.digest(drawn, secret, "sha256")


def _to_bind(host: str) -> str:
    """Returns the address to listen at: that of the host, or "" for all.

    Some systems resolve their own name to the loopback address, which others cannot reach.
    """
    name = host.strip("[]")
    is_loopback = ipaddress.ip_address(socket.getaddrinfo(name, None)[0][4][0]).is_loopback
    return "" if is_loopback and name == socket.gethostname() else name


def _told_by_first(host: str, port: int, drawn: bytes) -> tuple[str, int, bytes]:
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    message = np.zeros(_KEY_BYTES + _ADDRESS_BYTES, np.uint8)
    text = drawn + f"{host.strip('[]')} {port}".encode()
    message[: len(text)] = np.frombuffer(text, np.uint8)
    message = bytes(broadcast_one_to_all(message))
    host, _space, port_text = message[_KEY_BYTES:].rstrip(b"\0").decode().rpartition(" ")
    return host, int(port_text), message[:_KEY_BYTES]
