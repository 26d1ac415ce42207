"""One training over many devices and processes, on JAX: which process makes and writes what.

A batch is global: its rows are divided evenly over all devices of all processes, and the step is
one program over them (`keras.distribution.DataParallel`), so that loss, gradient clipping and
dropout masks apply to the whole batch. All processes follow the same plan and arrive at the same
weights; only process 0 writes. In a single process every function here returns at once.
"""

import contextlib
import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from core.errors import InputError
from core.i18n import _
from recipe.devices import lifeline
from recipe.devices.tie import tie

SLURM = "slurm"
FAILED = 1
_CONNECTED_IN = 300  # seconds for all processes to start
_NEWS_COMES_IN = 10  # seconds until the end of another process is known here

_line: lifeline.Primary | lifeline.Worker | None = None


@dataclass(frozen=True)
class Devices:
    """The share of this process's devices in a training.

    Attributes:
        rows: of each batch, made by this process.
        predict: from a model and windows to its outputs, divided over all devices; None if there
            is one device.
    """

    rows: slice
    predict: Callable[..., Any] | None = None


def check(coordinator: str | None, count: int | None, number: int | None) -> None:
    """Raises InputError unless the options say which process of how many this is."""
    if coordinator == SLURM:
        if (count, number) != (None, None):
            raise InputError("--coordinator slurm needs no --processes and no --process")
        if "SLURM_STEP_NODELIST" not in os.environ:
            raise InputError("--coordinator slurm must be started by srun; there is no step")
        return
    if coordinator is None and count is None and number is None:
        return
    if coordinator is None or count is None or number is None:
        raise InputError("--coordinator, --processes and --process must be given together")
    if not 0 <= number < count:
        raise InputError(
            "--process must be 0 to {last}, got {number}: there are --processes {count}",
            last=count - 1,
            number=number,
            count=count,
        )
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise InputError(
            "--coordinator must be HOST:PORT of process 0, or slurm; got {coordinator}",
            coordinator=coordinator,
        )


@contextlib.contextmanager
def together(
    coordinator: str | None, count: int | None, number: int | None, how_to_go_on: Callable[[], str]
) -> Iterator[None]:
    """Connects the processes of one training; inside, the end of one ends all, with status 1.

    Only process 0 writes to standard output.

    Args:
        coordinator: address of process 0, `slurm` to ask Slurm for all three, or None for a single
            process.
        count: number of processes.
        number: of this process, from 0.
        how_to_go_on: returns what to print when another process has ended.

    Raises:
        InputError: if the options do not fit together, or the backend is not JAX.
    """
    check(coordinator, count, number)
    if coordinator is None or count == 1:
        yield
        return
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise InputError("several processes train on JAX alone: set KERAS_BACKEND=jax")

    def end_too(lost: int, reason: str) -> None:
        text = _("process {number} has ended", number=lost)
        text += f": {reason}" if reason else ""
        print(text, how_to_go_on(), sep="; ", file=sys.stderr, flush=True)
        os._exit(FAILED)  # the other threads may wait for that process for ever

    _connect(coordinator, count, number, end_too)
    try:
        with contextlib.nullcontext() if is_first() else _silence():
            yield
        if _line is not None:
            _line.end()
    except InputError as error:
        _leave("; ".join(error.faults))
        raise
    except Exception as error:
        # The end of another process shows here first as a broken connection.
        time.sleep(_NEWS_COMES_IN)
        _leave(f"{type(error).__name__}: {error}")
        raise


def is_first() -> bool:
    """Returns whether this process writes and prints."""
    return not isinstance(_line, lifeline.Worker)


def barrier(word: str, value: str = "") -> str:
    """Waits until process 0 has arrived here, which itself waits for nobody.

    Args:
        word: unique to this barrier.
        value: a line that process 0 sends to the others.

    Returns:
        the `value` of process 0.
    """
    return value if _line is None else _line.barrier(word, value)


def agree(what: str, value: str) -> None:
    """Checks that a text is the same in all processes.

    Raises:
        InputError: in all processes, if it is not.
    """
    if _line is None:
        return
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    differing = np.flatnonzero((process_allgather(digest) != digest).any(axis=1))
    if len(differing):
        raise InputError(
            "all processes must have the same {what}; process {number} has another",
            what=what,
            number=int(differing[0]),
        )


def distribute(batch_size: int, note: Callable[[str], None]) -> Devices:
    """Makes all devices train the models that are built from now on.

    A single process uses as many devices as divide the batch evenly: a default run must not be
    refused, and results depend on the batch size. Several processes must divide it evenly: whoever
    starts them counts on each.

    Args:
        batch_size: rows of a global batch.
        note: called with a line on devices left unused.

    Returns:
        the share of this process.

    Raises:
        InputError: if the batch cannot be divided, or the backend cannot use several devices.
    """
    import keras

    if keras.backend.backend() != "jax":
        _check_single(len(keras.distribution.list_devices("gpu")))
        return Devices(slice(None))
    import jax

    count, num_devices = jax.process_count(), jax.device_count()
    if count > 1 and (batch_size % num_devices or num_devices != count * jax.local_device_count()):
        raise InputError(
            "SUPERVISED_BATCH_SIZE must be a multiple of the devices, and these as many in "
            "each process; got {batch_size} for {devices} of {count} processes",
            batch_size=batch_size,
            devices=num_devices,
            count=count,
        )
    used = max(n for n in range(1, num_devices + 1) if batch_size % n == 0)
    if used < num_devices:
        note(
            _(
                "{used} of {found} devices are used: SUPERVISED_BATCH_SIZE = {batch_size} must be "
                "divided evenly",
                used=used,
                found=num_devices,
                batch_size=batch_size,
            )
        )
    if used == 1:
        return Devices(slice(None))
    from recipe.devices.divided import predict

    devices = keras.distribution.list_devices()[:used]
    layout = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(layout)
    share, first = batch_size // count, jax.process_index() * (batch_size // count)
    return Devices(slice(first, first + share), predict)


def _check_single(num_gpus: int) -> None:
    if num_gpus > 1:
        raise InputError(
            "TensorFlow trains on one GPU, and there are {num_gpus}: KERAS_BACKEND=jax uses "
            "all, CUDA_VISIBLE_DEVICES=0 leaves one",
            num_gpus=num_gpus,
        )


def _connect(coordinator: str, count: int | None, number: int | None, on_lost) -> None:
    """Lets JAX connect the processes, then ties the lifeline between them."""
    global _line
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_recoverability", True)  # else native code ends us; see lifeline
    jax.config.update("jax_enable_preemption_service", False)  # else it swallows SIGTERM
    arguments: dict[str, Any] = {"cluster_detection_method": SLURM}
    if coordinator != SLURM:
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": count,
            "process_id": number,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=_CONNECTED_IN)
    except RuntimeError as error:
        raise InputError(
            "the {count} processes must find each other at {coordinator} within {seconds} s: "
            "{error}",
            count=count,
            coordinator=coordinator,
            seconds=_CONNECTED_IN,
            error=str(error).partition("\n")[0],
        ) from error
    host = socket.gethostname() if coordinator == SLURM else coordinator.rpartition(":")[0]
    _line = tie(host, jax.process_index(), jax.process_count() - 1, _CONNECTED_IN, on_lost)


def _leave(reason: str) -> None:
    if _line is not None:
        _line.leave(" ".join(reason.split()))  # a line


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
