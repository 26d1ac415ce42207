"""Keeps the rows of a market in growing arrays: in memory, or in a memory-mapped folder.

Features that are larger than memory go to a folder: each symbol's rows are appended to plain
files, which are mapped read-only afterwards, so that only the windows asked for are read.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

INDEX_NAME = "feature_store.json"


class MemoryTable:
    """Columns in memory that grow symbol by symbol without ever being held twice."""

    def __init__(self):
        self._columns: dict[str, np.ndarray] = {}

    def append(self, block: Mapping[str, np.ndarray]) -> None:
        """Adds rows: every column's array has the same first axis."""
        for name, values in block.items():
            column = self._columns.get(name)
            if column is None:
                self._columns[name] = values.copy()
                continue
            rows = len(column)
            # realloc moves the pages of a large array instead of copying them.
            column.resize((rows + len(values), *values.shape[1:]), refcheck=False)
            column[rows:] = values

    def finish(self) -> dict[str, np.ndarray]:
        """Returns the columns, each (rows, ...); nothing may be appended afterwards."""
        columns, self._columns = self._columns, {}
        return columns


class FolderTable:
    """Columns in the files of a folder that grow symbol by symbol and are mapped at the end.

    Args:
        folder: new, empty, or an earlier feature store, which is replaced.

    Raises:
        ValueError: if the folder holds anything else or cannot be written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        _prepare(self.folder)
        self._kinds: dict[str, dict] = {}
        self._rows = 0

    def append(self, block: Mapping[str, np.ndarray]) -> None:
        """Adds rows: every column's array has the same first axis."""
        for name, values in block.items():
            self._kinds[name] = {"dtype": values.dtype.str, "shape": list(values.shape[1:])}
            with open(self._path(name), "ab") as file:
                np.ascontiguousarray(values).tofile(file)
        self._rows += len(values)

    def finish(self) -> dict[str, np.ndarray]:
        """Writes the index and returns the columns mapped read-only."""
        index = {"rows": self._rows, "columns": self._kinds}
        (self.folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n")
        return open_store(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"


def open_store(folder: str | Path) -> dict[str, np.ndarray]:
    """Returns the columns of a finished feature store, mapped read-only.

    Raises:
        ValueError: if the folder is no finished feature store.
    """
    index_file = Path(folder) / INDEX_NAME
    if not index_file.is_file():
        raise ValueError(f"a feature store must hold {INDEX_NAME}; {folder} does not")
    index = json.loads(index_file.read_text())
    return {
        name: np.memmap(
            index_file.parent / f"{name}.bin",
            dtype=np.dtype(kind["dtype"]),
            mode="r",
            shape=(index["rows"], *kind["shape"]),
        )
        for name, kind in index["columns"].items()
    }


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and INDEX_NAME not in names:
            raise ValueError(
                f"the feature store must be a new or empty folder or an earlier store; {folder} "
                f"holds {sorted(names)[0]}"
            )
        # Written first and without columns: a broken-off store is still known as one.
        (folder / INDEX_NAME).write_text(json.dumps({"rows": 0, "columns": {}}) + "\n")
        for path in folder.glob("*.bin"):
            path.unlink()
    except OSError as error:
        raise ValueError(
            f"the feature store {folder} cannot be written: {error.strerror}"
        ) from error
