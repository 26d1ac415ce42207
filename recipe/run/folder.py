"""The files of a run folder, each written atomically, and what a run depends on."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import foreign
from core.atomic import write
from core.errors import InputError, printable
from core.i18n import N_, _
from core.lock import Lock

CONFIG = "config.json"
RUN = "run.json"
HISTORY = "history.csv"
MODEL = "model.keras"
JUDGED = "judged.keras"  # the model of the verdict, if a different one is shipped
START = "start.keras"  # the model that the run started from
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
VALIDATION = "validation.parquet"
REPORT = "report.html"
CHECKPOINTS = "checkpoint"
RETRAINED = "retrained"  # folder of the retrainings of this run
CURRENT = "current.json"  # names the retrained model in use
MOST_SHOWN = 200  # letters of a value that differs
_LOCK = ".lock"
_PATIENCE = 5  # seconds: a process just killed may not have ended yet

_LIBRARIES = ("keras", "tensorflow", "numpy", "pandas", "scikit-learn", "scipy", "ta-lib")


def default_folder() -> Path:
    """Returns `runs/<UTC time>`."""
    return Path("runs") / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def check_absent(folder: Path, what: str = N_("run folder")) -> None:
    """Raises InputError if the folder exists, or cannot be created where it should be."""
    if folder.exists() or folder.is_symlink():
        _check_free(folder)
        raise InputError(
            "the {what} must not exist yet; {folder} does", what=_(what), folder=folder
        )
    place = folder.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            "the {what} {folder} cannot be made: {place} cannot be written to",
            what=_(what),
            folder=folder,
            place=place,
        )


def check_new_file(path: Path) -> None:
    """Raises InputError if the file exists, or its folder does not."""
    if path.exists():
        raise InputError("the file {path} must not exist yet; it does", path=path)
    if not path.absolute().parent.is_dir():
        raise InputError("the file {path} cannot be made: its folder does not exist", path=path)


def current_model(run: Path) -> Path:
    """Returns the model file of a run that is in use: the newest retrained one, or its own.

    Raises:
        InputError: where there is none.
    """
    path = run / MODEL
    if (run / CURRENT).exists():
        named = str(read_json(run / CURRENT).get("model"))
        path = run / RETRAINED / Path(named).parent.name / MODEL
    if not path.is_file():
        raise InputError(
            "{folder} has no {name}: is it a finished run?", folder=run, name=path.relative_to(run)
        )
    return path


def make(folder: Path) -> None:
    """Makes the folder.

    Raises:
        InputError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        _check_free(folder)
        raise InputError(
            "the folder {folder} cannot be made: {strerror}", folder=folder, strerror=error.strerror
        ) from error


def lock(folder: Path, patience: float = _PATIENCE) -> Lock:
    """Returns the lock of a run folder; whatever writes to the folder must hold it."""
    return Lock(folder / _LOCK, _("the run folder {folder}", folder=folder), patience)


def _check_free(folder: Path) -> None:
    """Raises InputError if a run is under way in the folder."""
    if (folder / _LOCK).is_file():
        with lock(folder, patience=0):
            pass


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its keys in order and without NaN."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        InputError: where there is none.
    """
    try:
        content = foreign.read_json(path)
    except OSError as error:
        raise InputError(
            "need a run folder with {name}; {path}: {strerror}",
            name=path.name,
            path=path,
            strerror=error.strerror,
        ) from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            "{path} must hold a JSON object: {error}", path=path, error=printable(str(error), 200)
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            "{path} must hold a JSON object, got {name}", path=path, name=type(content).__name__
        )
    return content


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a line for each epoch, with floats in full, so that equal runs give equal files."""
    import pandas as pd  # here: the command line must respond at once

    frame = pd.DataFrame(rows)
    write(path, lambda temporary: frame.to_csv(temporary, index=False))


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that affect results."""
    numbers = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            numbers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            numbers[name] = "not installed"
    return numbers


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Returns a phrase for each value that has changed; both sides are compared as JSON."""
    before, now = (json.loads(json.dumps(dict(side))) for side in (before, now))
    phrases = []
    for name in [*before, *(name for name in now if name not in before)]:
        then, value = before.get(name), now.get(name)
        if isinstance(then, dict) and isinstance(value, dict):
            phrases += differences(then, value, f"{path}{name}.")
        elif then != value:
            shown = [printable(json.dumps(side), MOST_SHOWN) for side in (then, value)]
            phrases.append(f"{path}{name} was {shown[0]} and is {shown[1]}")
    return phrases


def git_commit() -> str | None:
    """Returns the commit of this source tree, with `+` if files differ from it, or None."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():  # a wheel: git would find the repository around it
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit and git("status", "--porcelain", "--untracked-files=no"):
        return commit + "+"
    return commit or None


def peak_memory_bytes() -> int | None:
    """Returns the largest resident memory of this process so far; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def other_runs_on(folder: Path, bars_sha256: str) -> int:
    """Returns how many finished runs beside `folder` used the same bars, as trials to count.

    Copies of a run, as `XLSTMClassifier.save` makes them, have one run.json and count once.
    """
    trials = set()
    for path in folder.absolute().parent.glob(f"*/{RUN}"):
        if path.parent.name == folder.name or not (path.parent / METRICS).exists():
            continue
        try:
            content = read_json(path)
        except InputError:
            continue  # not a run of ours; it says nothing about trials
        if content.get("bars_sha256") == bars_sha256:
            trials.add(json.dumps(content))
    return len(trials)
