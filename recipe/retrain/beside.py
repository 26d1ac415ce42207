"""Retrains in a process beside, from time to time, while this one goes on answering."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import InputError
from core.i18n import _
from recipe.run import folder as files

LOG = "retrain.log"
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_PRIORITY = 10  # answers come first


def seconds_of(span: str) -> int:
    """Returns the seconds of a span such as 12h or 7d.

    Raises:
        InputError: where it is none.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})([mhdw])", span)
    if not match:
        raise InputError(
            "--retrain-every must be a number with m, h, d or w, such as 7d, got {span!r}",
            span=span,
        )
    return int(match[1]) * _SECONDS[match[2]]


class Beside:
    """Starts a command every so often, and says when another model is to answer.

    A `with` block ends the command with itself. Whoever is killed leaves the command to end by
    itself, which harms nothing: the lock of the run keeps two apart.

    Args:
        run: the run folder that all began with.
        command: that retrains it.
        every_s: seconds from one retraining to the next; the first is due so long after the last
            model was made.
        note: told how each ended.
        clock: the time, in seconds since 1970.
        environment: of the command; None: that of this process.
    """

    def __init__(
        self,
        run: Path,
        command: Sequence[str],
        every_s: float,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        environment: dict[str, str] | None = None,
    ):
        self.run, self.command, self.every_s = run, list(command), every_s
        self.note, self.clock, self.environment = note, clock, environment
        self.answers = files.current_model(run)
        self._process: subprocess.Popen | None = None
        self._last = max(path.stat().st_mtime for path in (self.answers, run / files.RUN))

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def look(self) -> Path | None:
        """Tells what ended, starts what is due, and returns a model file that is to answer now.

        None: the one that answered before goes on.
        """
        if self._process is not None and self._process.poll() is not None:
            self._tell(self._process.returncode)
            self._process = None
        if self._process is None and self.clock() >= self._last + self.every_s:
            self._last = self.clock()
            self._process = self._started()
        current = files.current_model(self.run)
        if current == self.answers:
            return None
        self.answers = current
        return current

    def _started(self) -> subprocess.Popen:
        with open(self.run / LOG, "wb") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for this process, which ends it
            )
        with contextlib.suppress(OSError, AttributeError):  # no priorities here, or it has ended
            os.setpriority(os.PRIO_PROCESS, process.pid, _PRIORITY)
        return process

    def _tell(self, status: int) -> None:
        text = (self.run / LOG).read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1] if text else ""
        if status == 0:
            self.note(last)
        else:
            self.note(
                _(
                    "no new model: {last} (status {status}; see {log}); the old one goes on",
                    last=last,
                    status=status,
                    log=self.run / LOG,
                )
            )
