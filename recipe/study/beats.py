"""Who works on which cell: a file that its worker touches every few seconds while it lives."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from core.foreign import read_json
from recipe.run import folder as files

EVERY = 5.0  # seconds between two touches
GRACE = 60.0  # seconds without a touch after which a worker counts as dead
_KINDS = {"cell": str, "host": str, "pid": int}
_MOST_BYTES, _MOST_PID = 1 << 16, 1 << 31


@contextlib.contextmanager
def beating(folder: Path, trial: int, cell: str) -> Iterator[None]:
    """Says that this process works on a trial, until the block ends."""
    path = _path(folder, trial)
    files.write_json(path, {"cell": cell, "host": socket.gethostname(), "pid": os.getpid()})
    over = threading.Event()

    def beat() -> None:
        while not over.wait(EVERY):
            with contextlib.suppress(OSError):  # a shared folder may be away for a moment
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


def living(folder: Path) -> set[str]:
    """Returns the cells that somebody works on, by this machine's clock."""
    found = set()
    for path in folder.glob("*.json"):
        beat = _read(path)
        if beat and not _gone(beat) and time.time() - beat["touched"] < GRACE:
            found.add(beat["cell"])
    return found


class Watch:
    """Tells whether the worker of a trial died.

    On this machine its process is looked for. Elsewhere it died when its file was not touched
    for GRACE seconds of this process's own clock, so that clocks need not agree.

    Args:
        folder: of the files.
        grace: seconds.
    """

    def __init__(self, folder: Path, grace: float = GRACE):
        self._folder, self._grace = folder, grace
        self._seen: dict[int, tuple[float, float]] = {}  # touched, and when that was first seen

    def dead(self, trial: int) -> bool:
        """Returns whether nobody works on a trial that was taken."""
        beat = _read(_path(self._folder, trial))
        if beat and _gone(beat):
            return True
        touched = beat["touched"] if beat else 0.0  # taken a moment ago, or killed right then
        now = time.monotonic()
        if self._seen.get(trial, (None, 0.0))[0] != touched:
            self._seen[trial] = touched, now
        return now - self._seen[trial][1] > self._grace


def forget(folder: Path, trial: int) -> None:
    """Removes the file of a dead worker."""
    _path(folder, trial).unlink(missing_ok=True)


def _path(folder: Path, trial: int) -> Path:
    return folder / f"{trial:05d}.json"


def _read(path: Path) -> dict | None:
    try:
        beat = read_json(path, _MOST_BYTES)
        touched = path.stat().st_mtime
    except (OSError, ValueError):
        return None
    known = isinstance(beat, dict) and all(isinstance(beat.get(n), k) for n, k in _KINDS.items())
    return beat | {"touched": touched} if known and 0 < beat["pid"] < _MOST_PID else None


def _gone(beat: dict) -> bool:
    """Returns whether the process was one of this machine and is no more."""
    if beat["host"] != socket.gethostname():
        return False
    try:
        os.kill(beat["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
