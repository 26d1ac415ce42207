"""What somebody who misspelt a name may have meant."""

import difflib
from collections.abc import Collection

from core.i18n import _


def nearest(name: str, known: Collection[str]) -> str | None:
    """Returns the known name that is spelt most alike; None where none is alike."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def hint(name: str, known: Collection[str]) -> str:
    """Returns the end of a message: which known name may have been meant, or nothing."""
    close = nearest(name, known)
    return _("; did you mean {close}?", close=close) if close else ""
