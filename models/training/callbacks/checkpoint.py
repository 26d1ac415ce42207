"""Checkpoints that are never lost: all that the next epoch depends on, saved and restored.

Keras's `BackupAndRestore` is not used: it leaves out dropout seeds, loss variables and callback
states, and its writes are not atomic.

There is one file for each epoch, and the last two are kept. A file is the SHA-256 of the rest, a
line break, and an uncompressed npz archive of all arrays and the JSON state. Nothing is pickled.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import keras
import numpy as np

from core import atomic
from core.errors import InputError
from core.foreign import reading, reason_of
from core.i18n import _
from models.training.callbacks.base import StatefulCallback, copy_of

_ARRAY = "__array__"
KEPT = 2
_STATE = "state.json"
_FAILURES = (LookupError, TypeError, AttributeError, SyntaxError, TokenError)  # of a broken array
_NAME = re.compile(r"epoch-(\d{6})\.checkpoint")


def collect_training_state(
    model: keras.Model, callbacks: dict[str, StatefulCallback]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns (arrays, state) of all that the next epoch depends on.

    That is: weights and dropout seeds of the model, slots, averages and step of the optimizer,
    the loss's own `variables` (no list of Keras has them), and the states of the callbacks.
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
        InputError: where the state is of another model, optimizer, loss or set of callbacks.
    """
    states = _put_arrays(state["callbacks"], arrays)
    if set(states) != set(callbacks):
        raise InputError(
            "the checkpoint has the callbacks {saved}, this training {now}",
            saved=sorted(states),
            now=sorted(callbacks),
        )
    pairs = []
    for group, variables in _variables(model).items():
        saved = [value for name, value in arrays.items() if name.startswith(f"{group}/")]
        if [v.shape for v in saved] != [tuple(v.shape) for v in variables]:
            raise InputError(
                "the checkpoint has {saved} {group} variables, this training {now}, or their "
                "shapes differ: it is of another configuration",
                saved=len(saved),
                group=group,
                now=len(variables),
            )
        pairs += zip(variables, saved, strict=True)
    for variable, value in pairs:
        variable.assign(value)
    for name, callback in callbacks.items():
        callback.set_state(states[name])


class Checkpointer(keras.callbacks.Callback):
    """Saves a checkpoint at the end of each epoch; must be listed after all that it saves.

    An interrupted training that is restored ends in bit-identical weights, averages and rows. What
    a training script has to do for that:

        parts = make_training_callbacks(model, batches, validation, folder)
        first = parts.checkpointer.restore(model, note) if resume else 0
        if first < epochs and not parts.best.exhausted:
            model.fit(batches, initial_epoch=first, epochs=epochs, shuffle=False,
                      callbacks=[*parts.ordered(), ...])
        parts.best.restore(model)

    The model must be built and compiled anew, by the same code and seed, before `restore`, and
    nothing may train or predict with dropout between `restore` and `fit`. `shuffle` must be False,
    and batches a pure function of (seed, epoch, index): then the only state of theirs is the hard
    pool, which the mining callback hands back. A callback of one's own has no state. The history
    that `fit` returns has the epochs after the restore alone; `rows` has all: one dictionary for
    each epoch, `epoch` and what the callbacks listed before this one left in the logs. A callback
    that writes the rows to a file comes after this one.

    Args:
        folder: where the checkpoints go; one for each fold.
        callbacks: all callbacks that have a state, by a name that stays the same.

    Attributes:
        origin: what each checkpoint is to say of itself; whatever JSON can hold.
    """

    def __init__(self, folder: str | Path, callbacks: Mapping[str, StatefulCallback]):
        super().__init__()
        self.folder = Path(folder)
        self.callbacks = dict(callbacks)
        self.saves = True  # one of several processes that train together must
        self.origin: Mapping[str, Any] = {}
        self.rows: list[dict[str, float]] = []
        self._continues = False

    def restore(
        self,
        model: keras.Model,
        note: Callable[[str], None] | None = None,
    ) -> int:
        """Restores the newest whole checkpoint and returns the epoch to go on with; 0 if none.

        Args:
            model: compiled; see above.
            note: told about a file that is passed over.

        Raises:
            InputError: where the checkpoint is of another model, optimizer, loss or set of
                callbacks, or somebody has changed it.
        """
        latest = load_latest(self.folder, note)
        if latest is None:
            return 0
        epoch, arrays, state = latest
        try:
            restore_training_state(model, self.callbacks, arrays, state)
            self.rows = [_checked_row(row) for row in state["rows"]]
        except InputError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise InputError(
                "the checkpoint of epoch {epoch} in {folder} cannot be restored ({reason}); "
                "remove it to go on from an earlier one",
                epoch=epoch + 1,
                folder=self.folder,
                reason=reason_of(error),
            ) from error
        self._continues = True
        return epoch + 1

    def on_train_begin(self, logs=None):
        """Forgets the rows of an earlier training, unless this one goes on with it."""
        if not self._continues:
            self.rows = []
        self._continues = False

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": int(epoch), **row})
        if not self.saves:
            return
        arrays, state = collect_training_state(self.model, self.callbacks)
        state |= {"rows": self.rows, "origin": dict(self.origin)}
        save_checkpoint(self.folder, epoch, arrays, state)


def _checked_row(row: Any) -> dict[str, float]:
    """Returns a row of the history; raises where it is none."""
    row = {str(name): value + 0 for name, value in row.items()}
    return row | {"epoch": int(row["epoch"])}


def _variables(model: keras.Model) -> dict[str, list]:
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    in_loss = getattr(model.loss, "variables", [])
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
    content = _encode(arrays, state)
    atomic.write(path, lambda temporary: temporary.write_bytes(content))
    _prune(folder, epoch)
    return path


def load_latest(
    folder: str | Path, note: Callable[[str], None] | None = None
) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
    """Returns (epoch, arrays, state) of the newest whole checkpoint, or None if there is none.

    Args:
        folder: that of `save_checkpoint`; it need not exist.
        note: told about every file that is incomplete or corrupt and therefore passed over.
    """
    for epoch, path in reversed(_files(Path(folder))):
        try:
            with reading(path.name, *_FAILURES):
                return epoch, *_decode(path.read_bytes())
        except ValueError as error:
            if note is not None:
                note(
                    _(
                        "checkpoint {name} is skipped: {reason}",
                        name=path.name,
                        reason=error.args[0],
                    )
                )
    return None


def _encode(arrays: dict[str, np.ndarray], state: dict[str, Any]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.hasobject:  # NumPy would pickle it
            raise ValueError(f"arrays must hold numbers or texts, {name} holds objects")
    text = np.frombuffer(json.dumps(state).encode(), dtype="uint8")
    buffer = io.BytesIO()
    np.savez(buffer, **{_STATE: text}, **arrays)  # pyright: ignore[reportArgumentType]
    return _signed(buffer.getvalue())


def _signed(body: bytes) -> bytes:
    """Returns an archive behind its checksum."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    digest, _break, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(_("checksum mismatch: incomplete or corrupt"))
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    state = json.loads(arrays.pop(_STATE).tobytes())
    if not isinstance(state, dict) or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        raise ValueError(_("its parts are not those of a checkpoint"))
    return arrays, state


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
    return sorted((int(match[1]), path) for match, path in matches if match and path.is_file())
