"""Keeps the rows of a market in growing arrays: in memory, or in a memory-mapped folder.

Features that are larger than memory go to a folder: each symbol's rows are appended to plain
files, which are mapped read-only afterwards, so that only the windows asked for are read.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.i18n import _

INDEX_NAME = "feature_store.json"
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

    def finish(self, facts: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Returns the columns, each (rows, ...); nothing may be appended afterwards.

        Args:
            facts: what else is known of the rows; not kept in memory.
        """
        columns, self._columns = self._columns, {}
        return {name: values[: self._rows] for name, values in columns.items()}


class FolderTable:
    """Columns in the files of a folder that grow symbol by symbol and are mapped at the end.

    Args:
        folder: new, empty, or an earlier feature store, which is replaced.

    Raises:
        InputError: if the folder holds anything else or cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        _prepare(self.folder)
        self._kinds: dict[str, dict] = {}
        self._new: dict[str, np.ndarray] = {}
        self._rows = 0

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
            with open(self._path(name), "ab") as file:
                values.tofile(file)
        self._rows += len(next(iter(self._new.values()), ()))
        self._new = {}

    def finish(self, facts: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Writes the index and returns the columns mapped read-only.

        Args:
            facts: what else is known of the rows: names and values that JSON can hold.
        """
        self._write()
        index = {"rows": self._rows, "columns": self._kinds, "made": uuid.uuid4().hex}
        index |= {"facts": facts or {}}
        (self.folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n")
        return open_store(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"


def open_store(folder: str | Path) -> dict[str, np.ndarray]:
    """Returns the columns of a finished feature store, mapped read-only.

    Raises:
        InputError: if the folder is no finished feature store.
    """
    index = read_index(folder)
    return {
        name: np.memmap(
            Path(folder) / f"{name}.bin",
            dtype=np.dtype(kind["dtype"]),
            mode="r",
            shape=(index["rows"], *kind["shape"]),
        )
        for name, kind in index["columns"].items()
    }


def read_index(folder: str | Path) -> dict[str, Any]:
    """Returns what a feature store says of itself.

    Returns:
        `rows`, `columns`, and once it is finished `facts` and `made`, a name of its own that no
        other store has.

    Raises:
        InputError: if the folder is no feature store.
    """
    index_file = Path(folder) / INDEX_NAME
    if not index_file.is_file():
        raise InputError(
            _(
                "a feature store must hold {index_name}; {folder} does not",
                index_name=INDEX_NAME,
                folder=folder,
            )
        )
    return json.loads(index_file.read_text())


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and INDEX_NAME not in names:
            raise InputError(
                _(
                    "the feature store must be a new or empty folder or an earlier store; "
                    "{folder} holds {names}",
                    folder=folder,
                    names=sorted(names)[0],
                )
            )
        # Written first and without columns: a broken-off store is still known as one.
        (folder / INDEX_NAME).write_text(json.dumps({"rows": 0, "columns": {}}) + "\n")
        for path in folder.glob("*.bin"):
            path.unlink()
    except OSError as error:
        raise InputError(
            _(
                "the feature store {folder} cannot be written: {strerror}",
                folder=folder,
                strerror=error.strerror,
            )
        ) from error
