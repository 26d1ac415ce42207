"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Has `save` write a temporary file beside `path`, and renames it once it is on the disk.

    A kill or a full disk at any moment leaves what stood at `path` whole.

    Args:
        path: of the file; its folder exists.
        save: writes the file whose path it is given, which has the suffix of `path`.

    Raises:
        OSError: where the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        save(temporary)
        with open(temporary, "r+b") as file:  # Windows syncs only what may be written to
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Puts the names of a folder on the disk: a new name may be lost without it."""
    if os.name == "nt":  # a folder cannot be opened there, and its entries need no sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
