"""Texts of others as a terminal may show them: no codes that steer it, and no page of them."""

MOST_LETTERS = 60  # of a value or a name in a message
MOST_QUOTED = 200  # of what a message quotes of a file
_LONGEST_LINE, _HEAD, _TAIL = 1000, 700, 250


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """Returns a text as a line that a terminal may show: escaped, and cut where it is long."""
    text = text[: 2 * most]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def one_line(text: str) -> str:
    """Returns a message as a line that a terminal may show, a long one without its middle."""
    if len(text) > _LONGEST_LINE:
        text = f"{text[:_HEAD]} ... {text[-_TAIL:]}"
    return text if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    # No-break spaces group the digits of Russian numbers.
    return "".join(
        c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else c.encode("unicode_escape").decode()
        for c in text
    )
