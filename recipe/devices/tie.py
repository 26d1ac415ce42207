"""Ties the processes that JAX has connected by a lifeline that knows them from strangers."""

import hmac
import ipaddress
import os
import secrets
import socket

from core.errors import InputError
from recipe.devices import lifeline

SECRET = "XLSTM_SECRET"  # of the environment: what all processes of a training know
_ADDRESS_BYTES = 256
_KEY_BYTES = 32


def tie(
    host: str, number: int, others: int, patience: float, on_lost: lifeline.OnLost
) -> lifeline.Primary | lifeline.Worker:
    """Makes the lifeline: process 0 tells the others through JAX where it is, and half of the key.

    The other half is XLSTM_SECRET of the environment, where it is set: it is never sent.

    Args:
        host: of process 0.
        number: of this process.
        others: how many there are beside process 0.
        patience: seconds in which all must be there.
        on_lost: as `recipe.devices.lifeline.Primary` takes it.

    Raises:
        InputError: where they do not find each other, or know different secrets.
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
    """Returns where to listen: at the host, or everywhere.

    Some systems give their own name the address of the loopback, which others cannot reach.
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
