"""run.json, read and checked: somebody may have edited it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.i18n import _
from recipe.run import folder as files


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _origins(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(part, dict) and isinstance(part.get("flags"), dict) for part in value)
    )


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _named(value: Any) -> bool:
    return isinstance(value, dict)


def _one(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


# What later steps read of it, and what each must be; the rest is written anew.
_MUST_BE = {
    "command": _texts,
    "data": _one(str, type(None)),
    "bars_sha256": _text,
    "store_sha256": _one(str, type(None)),
    "origins": _origins,
    "versions": _named,
    "brief": _one(bool),
    "resumes": _count,
    "accepted_changes": _texts,
}


def read(folder: Path) -> dict[str, Any]:
    """Returns the content of the run.json of a run.

    Raises:
        InputError: where there is none, or a value in it cannot be one that a run wrote.
    """
    path = folder / files.RUN
    content = files.read_json(path)
    faults = [
        _("{path} was not written by a run: {name} is {value}", path=path, name=n, value=_short(v))
        for n, v in content.items()
        if n in _MUST_BE and not _MUST_BE[n](v)
    ]
    if faults:
        raise InputError(faults)
    return content


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
