"""What a run is made from, and whether it may go on: its flags, bars and store are those before.

run.json is checked when it is read: somebody may have edited it. It lists every origin that a run
has had, the newest last; there is more than one where a change was accepted by --force. Each
checkpoint carries the one that it was trained with.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import BEFORE, Flags, as_dict
from core.contract import is_count, is_number
from core.errors import InputError, printable
from core.i18n import _
from recipe.run import folder as files

ORIGINS, START = "origins", "from"
ACCEPTED = "accepted_changes"
# What makes features, labels and network: weights of others would mean something else.
SAME_FLAGS = (
    "SEQUENCE_LENGTH",
    "FUTURE_WINDOW",
    "MAX_GAP_BARS",
    "EXTRA_COLUMNS",
    "TIMEFRAMES",
    "MARKET_FEATURES",
    "MARKET_FORMS",
    "MARKET_MIN_SYMBOLS",
    "LABEL_METHOD",
    "LABEL_REFERENCE",
    "PRICE_CHANGE_THRESHOLD",
    "TARGET_CLASS_RATIOS",
    "XLSTM_BLOCKS",
    "XLSTM_UNITS",
    "XLSTM_HEADS",
    "ROLLING_DEVIATIONS",
    "GATE_SOFT_CAP",
    "ENSEMBLE_SIZE",
)
Origin = dict[str, Any]


def origin(flags: Flags, bars_info: Mapping[str, Any]) -> Origin:
    """Returns the flags and the digests of bars and store, as JSON holds them.

    Args:
        flags: checked.
        bars_info: what `recipe.run.market.read_market` says of the bars; with what `started`
            says, where the run starts from another.
    """
    made = {"flags": as_dict(flags)}
    made |= {name: bars_info.get(name) for name in ("bars_sha256", "store_sha256")}
    if "features_sha256" in bars_info:  # of features of one's own; earlier origins have no name
        made |= {"features_sha256": bars_info["features_sha256"]}
    made |= {START: bars_info[START]["sha256"]} if START in bars_info else {}
    return json.loads(json.dumps(made))  # lists in the place of tuples


def of_part(origin: Origin, fold: int, member: int) -> Origin:
    """Returns what the checkpoints of one training of a run carry."""
    return {**origin, "fold": fold, "member": member}


def known_origins(run_info: Mapping[str, Any], config: Mapping[str, Any]) -> list[Origin]:
    """Returns the origins that a run has had.

    Args:
        run_info: the content of run.json.
        config: the content of config.json; of a run of an earlier version it is all that is known.
    """
    digests = {name: run_info.get(name) for name in ("bars_sha256", "store_sha256")}
    return run_info.get(ORIGINS) or [{"flags": dict(config), **digests}]


def changes_since(before: Mapping[str, Any], known: Sequence[Origin], current: Origin) -> list[str]:
    """Returns a phrase for each flag, digest and version that is not what it was.

    Args:
        before: the content of run.json.
        known: the origins that the run has had.
        current: the one that it would go on with.
    """
    flags: dict[str, Any] = {**BEFORE, **dict(known[-1]["flags"])}
    then = known[-1] | {"flags": flags, "versions": before.get("versions")}
    return files.differences(then, current | {"versions": files.versions()})


def taken_up(
    before: Mapping[str, Any],
    known: Sequence[Origin],
    current: Origin,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the content of run.json of a run that goes on.

    Args:
        before: what it was.
        known: the origins that the run has had.
        current: the one that it goes on with.
        changes: that were accepted.
    """
    run_info = {**before, "resumes": before.get("resumes", 0) + 1}
    run_info |= {ORIGINS: [*known] if current == known[-1] else [*known, current]}
    return run_info | ({ACCEPTED: [*before.get(ACCEPTED, []), *changes]} if changes else {})


def check_checkpoints(folder: Path, known: Sequence[Origin]) -> list[str]:
    """Checks that the checkpoints of a run are its own.

    Args:
        folder: of the run.
        known: the origins that it has had.

    Returns:
        a phrase for each that cannot be checked: earlier versions wrote no origin.

    Raises:
        InputError: where one is of another run, fold or member.
    """
    from models.training.callbacks.checkpoint import load_latest

    unknown, foreign = [], []
    parts = sorted({path.parent for path in (folder / files.CHECKPOINTS).rglob("*.checkpoint")})
    for part in parts:
        latest = load_latest(part)
        if latest is None:
            continue
        name = part.relative_to(folder).as_posix()
        stored = latest[2].get("origin")
        if not stored:
            unknown.append(_("the checkpoint in {name} does not say what it is of", name=name))
        elif stored not in [of_part(each, *_numbers(part)) for each in known]:
            foreign.append(
                _(
                    "the checkpoint in {name} is of another run, fold or member; remove the folder "
                    "to train that part anew",
                    name=folder / name,
                )
            )
    if foreign:
        raise InputError(foreign)
    return unknown


def _numbers(part: Path) -> tuple[int, int]:
    """Returns fold and member of a folder checkpoint/fold-2/member-1; one alone is member 0."""
    numbers = {"fold": -1, "member": 0}
    for name in part.parts[-2:]:
        what, _dash, number = name.rpartition("-")
        if what in numbers and number.isdigit():
            numbers[what] = int(number)
    return numbers["fold"], numbers["member"]


def check_same(run: Path, now: Mapping[str, Any]) -> None:
    """Checks that a run had the flags that its weights depend on.

    Args:
        run: folder of the run to start from.
        now: the flags of the run that is to start, by their names.

    Raises:
        InputError: with a line for each flag that differs.
    """
    before = files.read_json(run / files.CONFIG)
    pairs = {
        name: (before.get(name, BEFORE.get(name, now[name])), now[name]) for name in SAME_FLAGS
    }
    shown = {name: [list(v) if isinstance(v, tuple) else v for v in p] for name, p in pairs.items()}
    faults = [differs(run, name, *both) for name, both in shown.items() if both[0] != both[1]]
    if faults:
        raise InputError(faults)


def started(path: Path) -> dict[str, Any]:
    """Returns what run.json says of the model that a run starts from."""
    return {"model": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def differs(of: Path, name: str, before: Any, now: Any) -> str:
    """Returns in a line what is not as it was where the weights are from."""
    if isinstance(before, list) and isinstance(now, list) and len(before) + len(now) > 6:
        gone, new = ([v for v in a if v not in b] for a, b in ((before, now), (now, before)))
        before, now = (gone, new) if gone or new else (before, now)
    return _(
        "to start from {of}, {name} must be what it was there: {before}, got {now}",
        of=of,
        name=name,
        before=printable(repr(before), files.MOST_SHOWN),
        now=printable(repr(now), files.MOST_SHOWN),
    )


def read_run(folder: Path) -> dict[str, Any]:
    """Returns the content of the run.json of a run.

    Raises:
        InputError: where there is none, or a value in it cannot be one that a run wrote.
    """
    path = folder / files.RUN
    content = files.read_json(path)
    faults = [
        _(
            "{path} was not written by a run: {name} is {value}",
            path=path,
            name=name,
            value=printable(repr(value)),
        )
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
    "resumes": is_count,
    "accepted_changes": _are_texts,
    "wall_seconds": lambda value: value is None or is_number(value),
}
