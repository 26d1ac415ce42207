"""One training over many devices and processes, on JAX: who makes which rows, who writes.

A batch is global: its rows are divided evenly over all devices of all processes, and the step is
one program over them (`keras.distribution.DataParallel`), so that loss, gradient clipping and
dropout masks are those of the whole batch. All processes know the same plan and come to the same
weights; process 0 alone writes. In a process by itself every function here answers at once.
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
_CONNECTED_IN = 300  # seconds in which all processes must have started
_NEWS_COMES_IN = 10  # seconds until it is known here that another process has ended

_line: lifeline.Primary | lifeline.Worker | None = None


@dataclass(frozen=True)
class Devices:
    """What the devices of this process do of a training.

    Attributes:
        rows: of each batch that this process makes.
        predict: from a model and windows to its outputs, divided over all devices; None: there is
            one device.
    """

    rows: slice
    predict: Callable[..., Any] | None = None


def check(coordinator: str | None, count: int | None, number: int | None) -> None:
    """Raises InputError where the options do not say together which process of how many this is."""
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
    """Starts the processes of one training; inside, the end of one ends all, with status 1.

    Standard output is that of process 0 alone.

    Args:
        coordinator: address of process 0, `slurm` to ask Slurm for all three, or None: there is
            one process.
        count: how many processes there are.
        number: of this process, from 0.
        how_to_go_on: what to say when another one has ended.

    Raises:
        InputError: where the options do not fit together, or the backend is not JAX.
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
        # Where another one has ended, it shows here first as a connection that is broken.
        time.sleep(_NEWS_COMES_IN)
        _leave(f"{type(error).__name__}: {error}")
        raise


def is_first() -> bool:
    """Returns whether this process writes and speaks."""
    return not isinstance(_line, lifeline.Worker)


def barrier(word: str, value: str = "") -> str:
    """Waits until process 0 has got here, which itself waits for nobody.

    Args:
        word: that no two barriers have in common.
        value: a line that process 0 tells the others.

    Returns:
        what process 0 gave as `value`.
    """
    return value if _line is None else _line.barrier(word, value)


def agree(what: str, value: str) -> None:
    """Checks that a text is the same in all processes.

    Raises:
        InputError: in all of them, where it is not.
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
    """Has the models that are made from now on be trained by all devices.

    In a process by itself as many devices are used as divide the batch: who asked for nothing
    must not be refused, and the batch is what results depend on. Several processes must divide
    it: who starts them counts on each.

    Args:
        batch_size: rows of a global batch.
        note: told about devices that are left out.

    Returns:
        what this process does.

    Raises:
        InputError: where the batch cannot be divided, or the backend cannot do it.
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
    """Has JAX connect the processes, then makes the lifeline between them."""
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
