"""Errors in what a person gave (flags, files, bars, models), and the parts of their messages.

A message may quote what somebody else wrote: no code that steers a terminal, and no page of it.
"""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from core.i18n import _

MOST_LETTERS = 60  # of a value or a name in a message
MOST_QUOTED = 200  # of what a message quotes of a file
_MOST_FAULTS = 100
_LONGEST_LINE, _HEAD, _TAIL = 1000, 700, 250


class InputError(ValueError):
    """Input that cannot be used; the command line prints `faults`, a line each, and exits with 2.

    Args:
        faults: one sentence for each fault (what must hold, what came, where), or a single message,
            which is translated and filled as by `core.i18n._`.
        **values: of the message.

    Examples:
        >>> raise InputError("the horizon must be at least 1 bar, got {horizon}", horizon=0)
        Traceback (most recent call last):
        core.errors.InputError: the horizon must be at least 1 bar, got 0
    """

    def __init__(self, faults: str | Sequence[str], /, **values: Any):
        lines = _(faults, **values).splitlines() if isinstance(faults, str) else faults
        self.faults = [one_line(line) for line in lines[:_MOST_FAULTS]]
        super().__init__("\n".join(self.faults))


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """Returns a text as a line that a terminal may show: escaped, and cut where it is long."""
    text = text[: 2 * most]
    text = "".join(map(_visible, text))
    return text if len(text) <= most else text[: most - 3] + "..."


def one_line(text: str) -> str:
    """Returns a message as a line that a terminal may show, a long one without its middle."""
    if len(text) > _LONGEST_LINE:
        text = f"{text[:_HEAD]} ... {text[-_TAIL:]}"
    # No-break spaces group the digits of Russian numbers.
    return "".join(c if c == "\N{NO-BREAK SPACE}" else _visible(c) for c in text)


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def nearest(name: str, known: Collection[str]) -> str | None:
    """Returns the known name that is spelt most alike; None where none is alike."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def hint(name: str, known: Collection[str]) -> str:
    """Returns the end of a message: which known name may have been meant, or nothing."""
    close = nearest(name, known)
    return _("; did you mean {close}?", close=close) if close else ""
