"""Texts, numbers and dates in the language of whoever reads them: English unless told otherwise.

`_` is called where a text is made, with a constant message and its values, so that Babel finds it;
.ci/messages writes what it found to core/locale, whose catalogues the standard library reads.
What a machine reads (files, keys, logs) never goes through here.
"""

import contextlib
import functools
import gettext
import numbers
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "ru")
LOCALE = Path(__file__).parent / "locale"
DOMAIN = "messages"
_ENGLISH = LANGUAGES[0]
_NO_BREAK = "\N{NO-BREAK SPACE}"
_active: ContextVar[str] = ContextVar("language", default=_ENGLISH)


def language() -> str:
    """Returns the language that is spoken now, one of `LANGUAGES`."""
    return _active.get()


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Has everything inside speak one of `LANGUAGES`."""
    before = _active.set(language)
    try:
        yield
    finally:
        _active.reset(before)


def of_locale(environment: Mapping[str, str]) -> str:
    """Returns the language of a locale as the environment gives it, English for any other."""
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    code = re.split(r"[_.@]", next(filter(None, names), ""))[0].lower()
    return code if code in LANGUAGES else _ENGLISH


def _(message: str, /, **values: Any) -> str:
    """Returns a message in the language of now, its `{placeholders}` filled as by `str.format`."""
    return _filled(_catalogue(language()).gettext(message) if message else "", values)


def ngettext(one: str, many: str, n: int, /, **values: Any) -> str:
    """Returns the form of a message that fits the number `n`, filled as by `_`; `{n}` is known."""
    return _filled(_catalogue(language()).ngettext(one, many, n), {"n": n, **values})


def N_(message: str) -> str:
    """Marks a message that is looked up later, with `_` and its name."""
    return message


def number(value: float, form: str = "") -> str:
    """Returns a number in a format of Python's, with the comma of the language."""
    return decimal_comma(format(value, form))


def decimal_comma(text: str) -> str:
    """Returns a number that Python or matplotlib has written as the language writes it."""
    if language() == _ENGLISH:
        return text
    text = text.translate({ord(","): _NO_BREAK, ord("."): ","})
    return text.replace("%", _NO_BREAK + "%")


def listed(parts: Iterable[str]) -> str:
    """Returns the parts as a list that may hold numbers: no comma stands beside a decimal one."""
    return (", " if language() == _ENGLISH else "; ").join(parts)


def date(text: str) -> str:
    """Returns a time that begins as ISO 8601 does (year, month, day, clock) as the language has it.

    Anything else is returned as it is.
    """
    text = str(text)
    if language() == _ENGLISH:
        return text
    text = re.sub(r"^(\d{4})-(\d\d)-(\d\d)(?:T(?=\d))?", r"\3.\2.\1 ", text).rstrip()
    return re.sub(r"^(\d{4})-(\d\d)$", r"\2.\1", text).replace("  ", " ")


class _Formatter(string.Formatter):
    """`str.format` with numbers and times of the language."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return number(value, format_spec)  # pyright: ignore[reportArgumentType]
        text = format(value, format_spec)
        return date(text) if hasattr(value, "strftime") else text


def _filled(message: str, values: Mapping[str, Any]) -> str:
    return _Formatter().vformat(message, (), values) if values else message


@functools.cache
def _catalogue(language: str) -> gettext.NullTranslations:
    if language == _ENGLISH:
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, LOCALE, [language])
