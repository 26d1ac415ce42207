"""Keeps the rows of a market in growing arrays: in memory, or in a memory-mapped folder.

Features that are larger than memory go to a folder: each symbol's rows are appended to plain
files, which are mapped read-only afterwards, so that only the windows asked for are read.
"""

import hashlib
import json
import math
import os
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.market import store_folder
from data.market.store_folder import broken_is_refused, read_index

Kind = tuple[type, tuple[int, ...]]  # dtype and shape of a row


class MemoryTable:
    """Columns in memory that grow symbol by symbol without ever being held twice.

    Args:
        capacity: rows to make room for at once; more are taken as well.
    """

    def __init__(self, capacity: int = 0):
        self._columns: dict[str, np.ndarray] = {}
        self._capacity, self._rows = capacity, 0

    def grow(self, num_rows: int, kinds: Mapping[str, Kind]) -> dict[str, np.ndarray]:
        """Returns the columns of so many new rows, to be filled before anything else is called."""
        start, self._rows = self._rows, self._rows + num_rows
        for name, (dtype, shape) in kinds.items():
            if name not in self._columns:
                room = max(self._capacity, self._rows)
                self._columns[name] = np.empty((room, *shape), dtype)
            elif len(self._columns[name]) < self._rows:
                # realloc moves the pages of a large array instead of copying them.
                self._columns[name].resize((self._rows, *shape), refcheck=False)
        return {name: self._columns[name][start : self._rows] for name in kinds}

    def revise(self, change: Callable[[Mapping[str, np.ndarray]], None]) -> None:
        """Calls `change` with the columns of all rows so far, which it may change in place."""
        change({name: values[: self._rows] for name, values in self._columns.items()})

    def finish(self, facts: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Returns the columns, each (rows, ...); nothing may be appended afterwards.

        Args:
            facts: what else is known of the rows; not kept in memory.
        """
        columns, self._columns = self._columns, {}
        return {name: values[: self._rows] for name, values in columns.items()}


class FolderTable:
    """Columns in the files of a folder that grow symbol by symbol and are mapped at the end.

    Many may write one store at a time: the files of each are in a folder of its own inside the
    store, which is removed by a later writer once nobody writes or maps them. The index of the
    store says which of them was finished last.

    Args:
        folder: new, empty, or an earlier feature store, which is replaced.

    Raises:
        InputError: if the folder holds anything else or cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.store, self._made = Path(folder), uuid.uuid4().hex
        self.folder = self.store / self._made
        self._kinds: dict[str, dict] = {}
        self._hashes: dict[str, Any] = {}
        self._new: dict[str, np.ndarray] = {}
        self._rows = 0
        self._lock = store_folder.prepare(self.store, self.folder)

    def grow(self, num_rows: int, kinds: Mapping[str, Kind]) -> dict[str, np.ndarray]:
        """Returns the columns of so many new rows, to be filled before anything else is called."""
        self._write()
        self._new = {
            name: np.empty((num_rows, *shape), dtype) for name, (dtype, shape) in kinds.items()
        }
        return self._new

    def _write(self) -> None:
        """Appends the rows that were filled to the files: a full disk is an error, not a crash."""
        for name, values in self._new.items():
            self._kinds[name] = {"dtype": values.dtype.str, "shape": list(values.shape[1:])}
            self._hashes.setdefault(name, hashlib.sha256()).update(values.view(np.uint8))
            with open(self.folder / f"{name}.bin", "ab") as file:
                values.tofile(file)
        self._rows += len(next(iter(self._new.values()), ()))
        self._new = {}

    def revise(self, change: Callable[[Mapping[str, np.ndarray]], None]) -> None:
        """Calls `change` with the columns of all rows so far, which it may change in place."""
        self._write()
        columns = {
            name: np.memmap(
                self.folder / f"{name}.bin",
                dtype=kind["dtype"],
                mode="r+",
                shape=(self._rows, *kind["shape"]),
            )
            for name, kind in self._kinds.items()
        }
        change(columns)
        for name, values in columns.items():
            values.flush()
            self._hashes[name] = hashlib.sha256(values.reshape(-1).view(np.uint8).data)

    def finish(self, facts: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Writes the index and returns the columns mapped read-only.

        Args:
            facts: what else is known of the rows: names and values that JSON can hold.
        """
        self._write()
        for name in self._kinds:
            with open(self.folder / f"{name}.bin", "r+b") as file:
                os.fsync(file.fileno())
        index = {"rows": self._rows, "columns": self._kinds, "made": self._made}
        index |= {"sha256": self._digest(), "facts": facts or {}}
        store_folder.publish(self.store, self.folder, index)
        columns = open_store(self.folder)
        for values in columns.values():  # keeps the lock until the last of them is let go
            weakref.finalize(values.base, lambda lock: None, self._lock).atexit = False
        return dict(columns)

    def _digest(self) -> str:
        """Returns the SHA-256 of all columns: their names, kinds and values."""
        digests = {n: [kind, self._hashes[n].hexdigest()] for n, kind in self._kinds.items()}
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def folder_of(column: np.ndarray) -> Path:
    """Returns the folder with the files of a column of a store: no other writer changes them."""
    if not isinstance(column, np.memmap):
        raise TypeError("the column must be mapped from a feature store")
    return Path(str(column.filename)).parent


def open_store(folder: str | Path) -> dict[str, np.memmap]:
    """Returns the columns of a finished feature store, mapped read-only.

    Args:
        folder: of the store, for those that were finished last; or what `folder_of` returns.

    Raises:
        InputError: if the folder is no finished feature store.
    """
    index = read_index(folder)
    files = Path(folder) / index.get("made", "")
    files = files if files.is_dir() else Path(folder)
    with broken_is_refused(folder):
        return {
            name: _mapped(files / f"{name}.bin", index["rows"], kind)
            for name, kind in index["columns"].items()
        }


def _mapped(path: Path, num_rows: int, kind: Mapping[str, Any]) -> np.memmap:
    dtype, shape = np.dtype(kind["dtype"]), (num_rows, *kind["shape"])
    size = path.stat().st_size
    if dtype.hasobject or size != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{path.name} has {size} bytes")
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)
