"""What a run is made from, and whether it may go on: its flags, bars and store are those before.

run.json lists every origin that a run has had, the newest last; there is more than one where a
change was accepted by --force. Each checkpoint carries the one that it was trained with.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import Flags, as_dict
from core.errors import InputError
from core.i18n import _
from recipe.run import folder as files

ORIGINS = "origins"
ACCEPTED = "accepted_changes"
Origin = dict[str, Any]


def origin(flags: Flags, bars_info: Mapping[str, Any]) -> Origin:
    """Returns the flags and the digests of bars and store, as JSON holds them.

    Args:
        flags: checked.
        bars_info: what `recipe.run.market.read_market` says of the bars.
    """
    made = {"flags": as_dict(flags)}
    made |= {name: bars_info.get(name) for name in ("bars_sha256", "store_sha256")}
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


def changes_since(before: Mapping[str, Any], known: Sequence[Origin], own: Origin) -> list[str]:
    """Returns a phrase for each flag, digest and version that is not what it was.

    Args:
        before: the content of run.json.
        known: the origins that the run has had.
        own: the one that it would go on with.
    """
    then = known[-1] | {"versions": before.get("versions")}
    return files.differences(then, own | {"versions": files.versions()})


def taken_up(
    before: Mapping[str, Any],
    known: Sequence[Origin],
    own: Origin,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the content of run.json of a run that goes on.

    Args:
        before: what it was.
        known: the origins that the run has had.
        own: the one that it goes on with.
        changes: that were accepted.
    """
    run_info = {**before, "resumes": before.get("resumes", 0) + 1}
    run_info |= {ORIGINS: [*known] if own == known[-1] else [*known, own]}
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
    from models.training.callbacks.checkpoint_file import load_latest

    unknown, foreign = [], []
    parts = sorted({path.parent for path in (folder / files.CHECKPOINTS).rglob("*.checkpoint")})
    for part in parts:
        latest = load_latest(part)
        if latest is None:
            continue
        name = part.relative_to(folder).as_posix()
        found = latest[2].get("origin")
        if not found:
            unknown.append(_("the checkpoint in {name} does not say what it is of", name=name))
        elif found not in [of_part(each, *_numbers(part)) for each in known]:
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
    found = {"fold": -1, "member": 0}
    for name in part.parts[-2:]:
        what, _dash, number = name.rpartition("-")
        if what in found and number.isdigit():
            found[what] = int(number)
    return found["fold"], found["member"]
