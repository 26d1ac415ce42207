"""Retrains from time to time in a separate process while this one goes on answering."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.errors import InputError
from core.i18n import _, date
from recipe.run import folder as files

LOG = "retrain.log"
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_PRIORITY = 10  # answers come first
_PATIENCE = 5  # seconds that a retraining has to end after SIGTERM


def seconds_of(span: str) -> int:
    """Returns the seconds in a span such as 12h or 7d.

    Raises:
        InputError: if it is not a span.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})([mhdw])", span)
    if not match:
        raise InputError(
            "--retrain-every must be a number with m, h, d or w, such as 7d, got {span!r}",
            span=span,
        )
    return int(match[1]) * _SECONDS[match[2]]


class Beside:
    """Starts a command at intervals, and reports when another model is to answer.

    Leaving the `with` block ends a running command. If this process is killed, the command runs to
    its end, which does no harm: the lock of the run keeps a second one out.

    Args:
        run: folder of the original run.
        answers: file of the model in use.
        command: retrains the run.
        every_s: seconds between retrainings, counted from the making of the current model or the
            last output of a retraining, whichever process started it.
        note: called with a line when one begins, and on how it ended.
        clock: returns the time in seconds since 1970.
        environment: of the command; None for that of this process.
    """

    def __init__(
        self,
        run: Path,
        answers: Path,
        command: Sequence[str],
        every_s: float,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
        environment: dict[str, str] | None = None,
    ):
        self.run, self.answers, self.command = run, answers, list(command)
        self.every_s, self.note, self.clock, self.environment = every_s, note, clock, environment
        self._process: subprocess.Popen | None = None
        paths = answers, *(run / name for name in (files.RUN, files.CURRENT, LOG))
        self._last = max(path.stat().st_mtime for path in paths if path.exists())

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def look(self) -> Path | None:
        """Notes a retraining that ended, starts one that is due, and returns a new model file.

        Returns None while the model in use stays. A retraining that cannot be started is noted, and
        due again after the interval.

        Raises:
            InputError: if the model that should answer is gone.
        """
        if self._process is not None and self._process.poll() is not None:
            self._tell(self._process.returncode)
            self._process = None
        if self._process is None and self.clock() >= self._last + self.every_s:
            self._last = self.clock()
            try:
                self._process = self._started()
            except OSError as error:
                self.note(_("no retraining can be started: {error}", error=error))
            else:
                now = date(f"{datetime.fromtimestamp(self._last, UTC):%Y-%m-%d %H:%M}")
                self.note(
                    _(
                        "{now} UTC: retraining begins, its output is in {log}",
                        now=now,
                        log=self.run / LOG,
                    )
                )
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
        last = _last_line(self.run / LOG)
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


def _last_line(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:  # somebody tidied up
        return str(error)
    return text.splitlines()[-1] if text else ""
