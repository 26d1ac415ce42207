"""Files that are written whole or not at all, however many write and read them at once."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OURS = re.compile(r"\..*\.[0-9a-f]{16}\.tmp(\.[^.]*)?", re.DOTALL)
_NAMED = 40  # letters of a name that its temporary file shows


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Has `save` write a temporary file beside `path`, and renames it once it is on the disk.

    A kill or a full disk at any moment leaves what stood at `path` whole. Several may write one
    path at a time: each has a temporary file of its own, and the last to end has written it.

    Args:
        path: of the file; its folder exists.
        save: writes the file whose path it is given, which has the suffix of `path`.

    Raises:
        OSError: where the file cannot be written.
    """
    name = f".{path.stem[:_NAMED]}.{secrets.token_hex(8)}.tmp{path.suffix}"
    temporary = path.with_name(name)
    try:
        save(temporary)
        with open(temporary, "r+b") as file:  # Windows syncs only what may be written to
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def clear(folder: Path) -> None:
    """Removes the temporary files in a folder, and in those below, of writers that were killed.

    Nobody may be writing there.
    """
    for path in folder.rglob(".*.tmp*"):
        if _OURS.fullmatch(path.name) and (path.is_file() or path.is_symlink()):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Puts the names of a folder on the disk: a new name may be lost without it."""
    if os.name == "nt":  # a folder cannot be opened there, and its entries need no sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
