"""Dataclasses as JSON holds them: what is written, and what is read back and checked."""

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
_LARGEST = 1e18  # of any number that a run writes


class Mismatch(ValueError):
    """JSON that does not hold what a dataclass declares.

    Attributes:
        name: of the value that does not fit, such as "folds.0.validation.nll".
        value: what came; None where nothing did.
    """

    def __init__(self, name: str, value: Any):
        super().__init__(f"{name} is {value!r}")
        self.name, self.value = name, value


def to_plain(value: Any) -> Any:
    """Returns dataclasses, mappings and sequences of them as dictionaries and lists.

    A field whose default is None is left out while it is None; every other field is written.

        >>> to_plain(Chosen(metric="val_nll"))
        {'metric': 'val_nll'}
    """
    if dataclasses.is_dataclass(value):
        values = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            field.name: to_plain(part)
            for field, part in values.items()
            if part is not None or field.default is not None
        }
    if isinstance(value, Mapping):
        return {name: to_plain(part) for name, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def from_plain(kind: type[T], content: Any) -> T:
    """Returns the dataclass that JSON holds; keys that it does not declare are passed over.

    A class may thus declare only what somebody reads, and so read files of other versions.

        >>> from_plain(Chosen, {"metric": "val_nll", "epoch": 3, "note": "of another version"})
        Chosen(metric='val_nll', epoch=3)

    Raises:
        Mismatch: for a field that is missing and has no default, or has a value of another type.
    """
    return cast(T, _read(kind, content, ""))


def _read(kind: Any, content: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return content
    if origin in (Union, types.UnionType):
        return _read_union(arguments, content, name)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(cast(type, kind), content, name)
    if origin is list and isinstance(content, list):
        return [_read(arguments[0], part, _below(name, n)) for n, part in enumerate(content)]
    if origin is dict and isinstance(content, dict):
        return {key: _read(arguments[1], part, _below(name, key)) for key, part in content.items()}
    if not _is_plain(kind, content):
        raise Mismatch(name, content)
    return content


def _read_dataclass(kind: type, content: Any, name: str) -> Any:
    if not isinstance(content, dict):
        raise Mismatch(name, content)
    values = {}
    for field, hint in _fields(kind):
        if field.name in content or not _has_default(field):
            values[field.name] = _read(hint, content.get(field.name), _below(name, field.name))
    try:
        return kind(**values)
    except Mismatch as mismatch:  # what the class itself asks of its fields
        raise Mismatch(_below(name, mismatch.name), mismatch.value) from None


def _read_union(kinds: tuple[Any, ...], content: Any, name: str) -> Any:
    """Returns what the first of the types reads that fits; where none does, the last one speaks."""
    if content is None and type(None) in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not type(None))
    for kind in others:
        try:
            return _read(kind, content, name)
        except Mismatch:
            pass
    return _read(last, content, name)


def _is_plain(kind: Any, content: Any) -> bool:
    if kind in (int, float):
        numbers = int if kind is int else (int, float)
        known = isinstance(content, numbers) and not isinstance(content, bool)
        return known and abs(content) < _LARGEST
    return kind in (str, bool) and isinstance(content, kind)


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


@cache
def _fields(kind: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _below(name: str, part: str | int) -> str:
    return f"{name}.{part}" if name else str(part)
