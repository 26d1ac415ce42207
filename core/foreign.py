"""What others wrote: files that must end, JSON that may be anything.

One boundary turns what a file made fail into an `InputError` with its name; what this project's own
lines do wrong keeps its traceback.
"""

import contextlib
import json
import lzma
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from core.errors import MOST_QUOTED, InputError, printable
from core.i18n import N_, _

MOST_LEVELS = 100  # of lists and objects inside each other in JSON
MOST_JSON_BYTES = 1 << 26
_LONGEST_NAME = 255  # bytes
_ROOT = Path(__file__).parents[1]
_ROOMS = tuple(_ROOT / room for room in ("core", "data", "models", "evaluation", "recipe"))
_FAILURES = (
    *(OSError, ValueError, RuntimeError, ArithmeticError, EOFError, MemoryError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error),
)
_KINDS = (
    (stat.S_ISDIR, N_("a folder")),
    (stat.S_ISFIFO, N_("a named pipe")),
    (stat.S_ISSOCK, N_("a socket")),
    (stat.S_ISCHR, N_("a device")),
    (stat.S_ISBLK, N_("a device")),
)


def check_regular(path: Path, name: str) -> int:
    """Returns the size of a file, in bytes.

    Args:
        path: of the file.
        name: what a message calls it.

    Raises:
        InputError: where it is a link to nowhere, a device, a pipe: nothing that ends.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if path.is_symlink():
            told = _("{file} is a link to a file that does not exist", file=name)
            raise InputError(told) from error
        raise _refusal(name, error) from error
    for of_kind, kind in _KINDS:
        if of_kind(status.st_mode):
            raise InputError("{file} must be a regular file, it is {kind}", file=name, kind=_(kind))
    return status.st_size


def check_path(path: str | Path) -> None:
    """Raises InputError for a path that no disk can have: one with a NUL, or a name too long."""
    text = str(path)
    names = [] if "\0" in text else Path(text).parts
    if "\0" in text or any(len(os.fsencode(name)) > _LONGEST_NAME for name in names):
        raise InputError(
            "a path must have names of at most 255 bytes, got {path}", path=printable(text, 200)
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a file that cannot be written inside into an InputError with its name."""
    try:
        yield
    except OSError as error:
        raise InputError(
            "{path} cannot be written: {strerror}", path=path, strerror=reason_of(error)
        ) from error


@contextlib.contextmanager
def reading(name: str, *more: type[BaseException]) -> Iterator[None]:
    """Turns what a file made fail inside into an InputError with its name.

    Libraries say with many types of exceptions that a file is broken. Those that this project's
    own lines raise, and types that only a fault of the program has, go on as they are.

    Args:
        name: what the message calls the file.
        *more: types of exceptions that the libraries used inside have for a broken file.
    """
    try:
        yield
    except InputError:
        raise
    except (*_FAILURES, *more) as error:
        if type(error) in (ValueError, RuntimeError) and raised_here(error):
            raise
        raise _refusal(name, error) from error


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text that anybody may have written.

    Raises:
        ValueError: where it is no JSON, a number is none or not finite, lists are deeper than
            `MOST_LEVELS`, or a text is none in Unicode.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check_parts(value)
    return value


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Returns the JSON value in a regular file.

    Raises:
        OSError: where it cannot be read.
        InputError: where it is no regular file.
        ValueError: where it is too long, or see `parse_json`.
    """
    path.stat()
    check_regular(path, printable(path.name))
    with path.open("rb") as file:
        text = file.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise ValueError(f"it is longer than {most_bytes:,} bytes")
    return parse_json(text)


def raised_here(error: BaseException) -> bool:
    """Says whether an exception comes from a line of this project, and of no library."""
    place: TracebackType | None = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    parents = Path(place.tb_frame.f_code.co_filename).parents
    return any(room in parents for room in _ROOMS)


def reason_of(error: BaseException) -> str:
    """Returns what an exception says, as one short line."""
    text = getattr(error, "strerror", None) or str(error)
    return printable(text.splitlines()[0] if text.strip() else type(error).__name__, MOST_QUOTED)


def _refusal(name: str, error: BaseException) -> InputError:
    return InputError("{file} cannot be read: {reason}", file=name, reason=reason_of(error))


def _no_number(text: str) -> None:
    raise ValueError(f"{printable(text)} is no number")


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)  # type: ignore


def _too_deep() -> str:
    return f"its lists and objects are nested deeper than {MOST_LEVELS}"


def _check_parts(value: Any) -> None:
    level = [value]
    for _number in range(MOST_LEVELS):
        inner: list = []
        for part in level:
            if isinstance(part, dict):
                inner += part
                inner += part.values()
            elif isinstance(part, list):
                inner += part
            elif isinstance(part, str) and not part.isascii():
                part.encode()  # a half of a pair of surrogates has no place in a file
        if not inner:
            return
        level = inner
    raise ValueError(_too_deep())
