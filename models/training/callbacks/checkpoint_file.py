"""Checkpoint files: one atomic, checked file for each epoch, the last two kept.

A file is the SHA-256 of the rest, a line break, and an uncompressed npz archive that holds all
arrays and the JSON state as bytes. Nothing is pickled.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core import atomic
from core.i18n import _

KEPT = 2
_STATE = "state.json"
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
            return epoch, *_decode(path.read_bytes())
        except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
            if note is not None:
                reason = error.args[0] if isinstance(error, ValueError) else str(error)
                note(
                    _(
                        "checkpoint {name} is passed over: {reason}",
                        name=path.name,
                        reason=reason,
                    )
                )
    return None


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
    digest, _break, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(_("checksum mismatch: incomplete or corrupt"))
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays.pop(_STATE).tobytes())


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
