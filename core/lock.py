"""A lock that one process holds at a time; the others are told which one it is."""

import contextlib
import errno
import json
import os
import socket
import stat
import time
import weakref
from pathlib import Path
from typing import Any, Self

from core.errors import InputError

_PAUSE = 0.05  # seconds between two tries
_FAR = 1 << 30  # the byte that is locked on Windows, behind all that is ever read
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # what a link points to must not be emptied
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class Lock:
    """The lock of a file, which is made and goes with it. A `with` block takes it and lets it go.

    The system lets go of it however a process ends, so that one that was killed holds nothing: no
    file has to be removed by hand. Nobody waits without an end. Two locks of one file exclude each
    other in one process, too. A disk without locks (some network folders) has none here either:
    whoever asks gets it, and `sure` is False.

    Args:
        path: of the file; its folder exists.
        what: for the message: what a process must have for itself.
        patience: seconds to wait for another one to let go.
    """

    def __init__(self, path: Path, what: str, patience: float = 0.0):
        self.path, self._what, self._patience = path, what, patience
        self._closed: weakref.finalize | None = None
        self.sure = False

    def take(self) -> bool:
        """Returns whether this process has the lock now; it does not wait.

        Raises:
            InputError: where the file cannot be made.
        """
        while True:
            handle = self._open()
            locked = _locked(handle)
            if locked is False:
                os.close(handle)
                return False
            if _stands_at(handle, self.path):
                break
            os.close(handle)  # the one before has just removed it
        self.sure = locked is True
        self._closed = weakref.finalize(self, os.close, handle)
        self._closed.atexit = False  # the system does it
        os.ftruncate(handle, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.write(handle, json.dumps(holder).encode())
        return True

    def let_go(self) -> None:
        """Removes the file and lets go, if this has the lock."""
        if self._closed is None or not self._closed.alive:
            return
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            self.path.unlink(missing_ok=True)
        self._closed()

    def __enter__(self) -> Self:
        """Takes the lock.

        Raises:
            InputError: where another one still has it when the patience is at its end.
        """
        until = time.monotonic() + self._patience
        while not self.take():
            if time.monotonic() >= until:
                raise InputError(
                    "{what} is in use by process {pid} on {host}; wait until it has ended",
                    what=self._what,
                    **self._holder(),
                )
            time.sleep(_PAUSE)
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()

    def _open(self) -> int:
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return handle
            os.close(handle)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        except OSError as error:
            raise InputError(
                "{path} cannot be written: {strerror}", path=self.path, strerror=error.strerror
            ) from error

    def _holder(self) -> dict[str, Any]:
        """Returns what the one that has it wrote, question marks where that was not read."""
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: str(holder[name])[:80] for name in ("pid", "host")}
        except (OSError, ValueError, KeyError, TypeError):  # it has just got it, or let go
            return {"pid": "?", "host": "?"}


def _locked(handle: int) -> bool | None:
    """Locks an open file; returns False where another one has, None where the disk has no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _stands_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
