"""The folder of a feature store: who writes in it, what was finished last, what may go.

The index is checked when it is read: somebody may have edited it.

store/feature_store.json       of the columns that were finished last
      0123...ef/NAME.bin       the columns of one writer, in a folder that has a name of its own
                feature_store.json, and a lock while they are written or mapped
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import atomic
from core.contract import is_count, is_number, is_text
from core.errors import InputError, printable
from core.foreign import read_json
from core.i18n import _
from core.lock import Lock

INDEX_NAME = "feature_store.json"
_LOCK_NAME = ".feature_store.lock"
_OWN = ".feature_store."  # what names of locks and temporary files begin with
_MADE = re.compile("[0-9a-f]{32}")
_PATIENCE = 60  # seconds until another one has written an index and removed files
_MOST_ROWS = 1 << 40
_DTYPES = {"features": np.dtype(np.float32), "timestamps": np.dtype("datetime64[ns]")}


def prepare(store: Path, folder: Path) -> Lock:
    """Makes the folder of a writer in a store, and returns its lock, taken.

    Args:
        store: new, empty, or an earlier feature store.
        folder: of the writer, to be made.

    Raises:
        InputError: if the store holds anything else or cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _lock_of(store):
            names = {path.name for path in store.iterdir() if not path.name.startswith(_OWN)}
            if names and INDEX_NAME not in names:
                raise InputError(
                    "the feature store must be a new or empty folder or an earlier store; "
                    "{folder} holds {names}",
                    folder=store,
                    names=sorted(names)[0],
                )
            _remove_unused(store)
            if not _is_there(store):
                # Before any rows: a store that was broken off is still known as one.
                _write_index(store, {"rows": 0, "columns": {}})
            folder.mkdir()
            lock = Lock(folder / _LOCK_NAME, str(folder))
            lock.take()
            return lock
    except OSError as error:
        raise InputError(
            "the feature store {folder} cannot be written: {strerror}",
            folder=store,
            strerror=error.strerror,
        ) from error


def publish(store: Path, folder: Path, index: Mapping[str, Any]) -> None:
    """Has a store show the columns of a writer from now on.

    Args:
        store: its folder.
        folder: of the writer in it.
        index: what `read_index` is to return.
    """
    with _lock_of(store):
        _write_index(folder, index)
        _write_index(store, index)
        _remove_unused(store)


def read_index(folder: str | Path) -> dict[str, Any]:
    """Returns what a feature store says of itself.

    Returns:
        `rows`, `columns`, and once it is finished `facts`, `made`, a name of its own that no other
        store has, and `sha256` of all its columns.

    Raises:
        InputError: if the folder is no feature store.
    """
    index_file = Path(folder) / INDEX_NAME
    if not index_file.is_file():
        raise InputError(
            "a feature store must hold {index_name}; {folder} does not",
            index_name=INDEX_NAME,
            folder=folder,
        )
    with broken_is_refused(folder):
        return _checked(read_json(index_file))


@contextlib.contextmanager
def broken_is_refused(folder: str | Path) -> Iterator[None]:
    """Has what cannot be read in a feature store be told as an InputError with its folder."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(
            "the feature store {folder} is broken ({error}): delete it, and it is made again",
            folder=folder,
            error=str(error)[:200],
        ) from error


def check_facts(index: Mapping[str, Any]) -> None:
    """Raises ValueError where what a checked index says of its rows is not what `make_rows` says.

    Args:
        index: see `check_index`.
    """
    facts, columns, rows = (index[name] for name in ("facts", "columns", "rows"))
    if not isinstance(facts, dict):
        raise _odd("facts", facts)
    for name in ("feature_names", "symbol_names"):
        names = facts.get(name)
        if not isinstance(names, list) or not names or not all(map(is_text, names)):
            raise _odd(name, names)
    width = columns.get("features", {}).get("shape")
    if width != [len(facts["feature_names"])]:
        raise _odd("features", width)
    if not isinstance(facts.get("intraday"), bool):
        raise _odd("intraday", facts.get("intraday"))
    if not is_number(facts.get("interval_seconds"), 1e-9):
        raise _odd("interval_seconds", facts.get("interval_seconds"))
    bounds, dropped = facts.get("bounds"), facts.get("dropped")
    if not isinstance(bounds, list) or not all(is_count(place, 0, rows) for place in bounds):
        raise _odd("bounds", bounds)
    if bounds[:1] != [0] or bounds[-1] != rows or bounds != sorted(set(bounds)):
        raise _odd("bounds", bounds)
    if not isinstance(dropped, dict) or not all(map(is_count, dropped.values())):
        raise _odd("dropped", dropped)


def _is_column(column: tuple[str, Any]) -> bool:
    name, kind = column
    if not name.isidentifier() or not isinstance(kind, dict):
        return False
    dtype, shape = kind.get("dtype"), kind.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > 1:
        return False
    if not all(is_count(side, 1, 1 << 20) for side in shape):
        return False
    parsed = np.dtype(dtype)
    return parsed == _DTYPES.get(name, parsed) and parsed.kind in "fiubM"


def _odd(name: str, value: Any) -> ValueError:
    return ValueError(_("{name} cannot be {value}", name=name, value=printable(repr(value))))


def _checked(index: dict[str, Any]) -> dict[str, Any]:
    check_index(index)
    made, names = index.get("made", ""), list(index["columns"])
    if not (made == "" or _MADE.fullmatch(made)) or not all(name.isidentifier() for name in names):
        raise ValueError(f"{INDEX_NAME} names other files")
    return index


def _is_there(store: Path) -> bool:
    """Returns whether the columns that a store was last finished with are there yet."""
    try:
        return (store / read_index(store)["made"]).is_dir()
    except (InputError, KeyError):
        return False


def _remove_unused(store: Path) -> None:
    """Removes the files of writers that have ended; those of a disk without locks are left."""
    for path in store.glob("*.bin"):  # of an earlier version
        path.unlink()
    for path in store.iterdir():
        if _MADE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            lock = Lock(path / _LOCK_NAME, str(path))
            if lock.take() and lock.sure:
                shutil.rmtree(path, ignore_errors=True)
            lock.let_go()


def _lock_of(store: Path) -> Lock:
    what = _("the feature store {folder}", folder=store)
    return Lock(store / _LOCK_NAME, what, _PATIENCE)


def _write_index(folder: Path, index: Mapping[str, Any]) -> None:
    text = json.dumps(index, indent=1) + "\n"
    atomic.write(folder / INDEX_NAME, lambda temporary: temporary.write_text(text))


def check_index(index: Any) -> None:
    """Raises ValueError where an index is none that a store has.

    Args:
        index: its value of JSON, see `data.market.store_folder.read_index`.
    """
    if not isinstance(index, dict):
        raise _odd("index", index)
    rows, columns = index.get("rows"), index.get("columns")
    if not is_count(rows, 0, _MOST_ROWS):
        raise _odd("rows", rows)
    if not isinstance(columns, dict) or not all(map(_is_column, columns.items())):
        raise _odd("columns", columns)
