"""Checkpoints that are never lost: one atomic, checked file for each epoch.

A file is the SHA-256 of the rest, a line break, and an uncompressed npz archive that holds all
arrays and the JSON state as bytes. Nothing is pickled. Keras's `BackupAndRestore` is not used: it
leaves out dropout seeds, loss variables and callback states, and its writes are not atomic.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.stateful import StatefulCallback, copy_of

KEPT = 2
_STATE = "state.json"
_ARRAY = "__array__"
_NAME = re.compile(r"epoch-(\d{6})\.checkpoint")


def save_checkpoint(
    folder: str | Path, epoch: int, arrays: dict[str, np.ndarray], state: dict[str, Any]
) -> Path:
    """Writes a checkpoint and returns its path; the last two are kept.

    The file appears under its name only when it is complete and on the disk, so a kill or a full
    disk at any moment leaves the older files whole.

    Args:
        folder: is made where it does not exist.
        epoch: the epoch that has just ended, counted from 0.
        arrays: by name; of numbers or texts, not of objects.
        state: whatever JSON can hold.

    Raises:
        OSError: where the file cannot be written.
        ValueError: where an array holds objects.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch:06d}.checkpoint"
    _write_atomically(path, _encode(arrays, state))
    _prune(folder, epoch)
    return path


def load_latest(
    folder: str | Path, note: Callable[[str], None] | None = None
) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
    """Returns (epoch, arrays, state) of the newest whole checkpoint, or None if there is none.

    Args:
        folder: that of `save_checkpoint`; it need not exist.
        note: told about every file that is torn or corrupt and therefore passed over.
    """
    for epoch, path in reversed(_files(Path(folder))):
        try:
            return epoch, *_decode(path.read_bytes())
        except (OSError, ValueError) as error:
            if note is not None:
                note(f"checkpoint {path.name} is passed over: {error}")
    return None


def collect_training_state(
    model: keras.Model, callbacks: dict[str, StatefulCallback]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns (arrays, state) of all that the next epoch depends on.

    That is: weights and dropout seeds of the model, slots, averages and step of the optimizer,
    variables of the loss (no list of Keras has them), and the states of the callbacks.
    """
    arrays = {
        f"{group}/{index:05d}": copy_of(variable)
        for group, variables in _variables(model).items()
        for index, variable in enumerate(variables)
    }
    states = {name: callback.get_state() for name, callback in callbacks.items()}
    return arrays, {"callbacks": _take_arrays(states, "callbacks", arrays)}


def restore_training_state(
    model: keras.Model,
    callbacks: dict[str, StatefulCallback],
    arrays: dict[str, np.ndarray],
    state: dict[str, Any],
) -> None:
    """Puts a collected state into a compiled model and into callbacks of the same names.

    Raises:
        ValueError: where the state is of another model, optimizer, loss or set of callbacks.
    """
    states = _put_arrays(state["callbacks"], arrays)
    if set(states) != set(callbacks):
        raise ValueError(
            f"the checkpoint has the callbacks {sorted(states)}, this training {sorted(callbacks)}"
        )
    pairs = []
    for group, variables in _variables(model).items():
        saved = [value for name, value in arrays.items() if name.startswith(f"{group}/")]
        if [v.shape for v in saved] != [tuple(v.shape) for v in variables]:
            raise ValueError(
                f"the checkpoint has {len(saved)} {group} variables, this training "
                f"{len(variables)}, or their shapes differ: it is of another configuration"
            )
        pairs += zip(variables, saved, strict=True)
    for variable, value in pairs:
        variable.assign(value)
    for name, callback in callbacks.items():
        callback.set_state(states[name])


class Checkpointer(keras.callbacks.Callback):
    """Saves a checkpoint at the end of each epoch; must be the last in the list of callbacks.

    `rows` has one dictionary for each epoch of the whole training, epochs before a resume
    included: `epoch` and what the callbacks before this one left in the logs.

    Args:
        folder: where the checkpoints go.
        callbacks: all callbacks that have a state, by a name that stays the same.
        details: what the run depends on (flags, digests, versions), kept in the state for the
            caller to compare at a resume; JSON values.
    """

    def __init__(
        self,
        folder: str | Path,
        callbacks: dict[str, StatefulCallback],
        details: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.folder = Path(folder)
        self.callbacks = dict(callbacks)
        self.details = details or {}
        self.rows: list[dict[str, float]] = []
        self._continues = False

    def restore(self, model: keras.Model, note: Callable[[str], None] | None = None) -> int:
        """Restores the newest whole checkpoint and returns the epoch to go on with; 0 if none.

        Call it just before `model.fit(initial_epoch=...)`, with the model compiled.
        """
        latest = load_latest(self.folder, note)
        if latest is None:
            return 0
        epoch, arrays, state = latest
        restore_training_state(model, self.callbacks, arrays, state)
        self.rows = list(state["rows"])
        self._continues = True
        return epoch + 1

    def on_train_begin(self, logs=None):
        """Forgets the rows of an earlier training, unless this one goes on with it."""
        if not self._continues:
            self.rows = []
        self._continues = False

    def on_epoch_end(self, epoch, logs=None):
        """Adds a row and saves."""
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": int(epoch), **row})
        arrays, state = collect_training_state(self.model, self.callbacks)
        state |= {"rows": self.rows, "details": self.details}
        save_checkpoint(self.folder, epoch, arrays, state)


def _variables(model: keras.Model) -> dict[str, list]:
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    in_loss = [
        v for v in getattr(model.loss, "__dict__", {}).values() if isinstance(v, keras.Variable)
    ]
    return {"model": model.variables, "optimizer": optimizer.variables, "loss": in_loss}


def _take_arrays(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns `value` with a reference in the place of each array, which goes into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, dict):
        return {key: _take_arrays(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_arrays(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    return value


def _put_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _put_arrays(item, arrays) for key, item in value.items()}
    return [_put_arrays(item, arrays) for item in value] if isinstance(value, list) else value


def _encode(arrays: dict[str, np.ndarray], state: dict[str, Any]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.hasobject:  # NumPy would pickle it
            raise ValueError(f"arrays must hold numbers or texts, {name} holds objects")
    text = np.frombuffer(json.dumps(state).encode(), dtype="uint8")
    buffer = io.BytesIO()
    np.savez(buffer, **{_STATE: text}, **arrays)
    body = buffer.getvalue()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("its checksum is wrong, it is torn or corrupt")
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays.pop(_STATE).tobytes())


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there, and its entries need no sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(folder: Path, epoch: int) -> None:
    """Removes all but the last two; those of later epochs belong to an abandoned training."""
    past = [path for number, path in _files(folder) if number <= epoch]
    later = [path for number, path in _files(folder) if number > epoch]
    for path in past[:-KEPT] + later:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[tuple[int, Path]]:
    """Returns (epoch, path) of the checkpoints in a folder, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else []
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    return sorted((int(match[1]), path) for match, path in matches if match)
