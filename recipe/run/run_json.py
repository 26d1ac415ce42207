"""run.json, read and checked: somebody may have edited it."""

from pathlib import Path
from typing import Any

from core.errors import InputError
from core.i18n import _
from recipe.run import folder as files

_LARGEST = 1e18  # of any figure that a run writes


def is_number(value: Any) -> bool:
    """Returns whether a value of a file is a number that a run may have written."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def not_written(path: Path, name: str, value: Any) -> str:
    """Returns what to say of a value that no run writes."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return _(
        "{path} was not written by a run: {name} is {value}", path=path, name=name, value=shown
    )


def read(folder: Path) -> dict[str, Any]:
    """Returns the content of the run.json of a run.

    Raises:
        InputError: where there is none, or a value in it cannot be one that a run wrote.
    """
    path = folder / files.RUN
    content = files.read_json(path)
    faults = [
        not_written(path, name, value)
        for name, value in content.items()
        if name in _MUST_BE and not _MUST_BE[name](value)
    ]
    if faults:
        raise InputError(faults)
    return content


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _are_origins(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(part, dict) and isinstance(part.get("flags"), dict) for part in value)
    )


def _is_count(value: Any) -> bool:
    return is_number(value) and isinstance(value, int) and value >= 0


def _is_start(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(n)) for n in ("model", "sha256"))


# What later steps read of it, and what each must be; the rest is written anew.
_MUST_BE = {
    "command": _are_texts,
    "data": _is_text_or_none,
    "bars_sha256": _is_text,
    "from": _is_start,
    "store_sha256": _is_text_or_none,
    "features_sha256": _is_text,
    "origins": _are_origins,
    "versions": lambda value: isinstance(value, dict),
    "adjust_splits": lambda value: isinstance(value, bool),
    "brief": lambda value: isinstance(value, bool),
    "resumes": _is_count,
    "accepted_changes": _are_texts,
    "wall_seconds": lambda value: value is None or is_number(value),
}
