"""Marks what a person may read. Nothing is translated here: whoever shows it looks it up."""

from typing import Any, Self


def N_(message: str) -> str:
    """Returns the message; by this name it is found for the catalogues."""
    return message


class Text(str):
    """An English text that still knows the message and the values it was made of.

    So an error or a note is a plain string for everybody, and one who speaks another language can
    say it anew.

    Args:
        message: with placeholders as for `str.format`; marked by `N_`.
        values: for the placeholders, `Text` among them.
    """

    message: str
    values: dict[str, Any]

    def __new__(cls, message: str, /, **values: Any) -> Self:
        """Fills the placeholders of the message."""
        text = super().__new__(cls, message.format(**values) if values else message)
        text.message, text.values = message, values
        return text
