"""How things are printed: a name and a text, a table, a bar.

On a terminal, texts are wrapped at its width, 120 columns at most; elsewhere a text is one line,
which is easier to search, unless COLUMNS sets a width.
"""

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from core.errors import one_line
from core.i18n import _

OWN = "xLSTM"  # name of the model's row in tables
_NAME = 10  # columns
_WIDEST = 120  # columns; longer lines are hard to read
_NARROWEST = 40
_PIPED = 80  # columns of a table in a file or a pipe


def log(name: str, text: str) -> None:
    """Prints a name and a text."""
    paragraphs(name, [text])


def paragraphs(name: str, texts: Sequence[str]) -> None:
    """Prints a name and several texts, each on a line of its own."""
    head, width = f"{name:<{_NAME}} ", _width()
    for text in texts:
        lines = [one_line(text)]
        if width:
            lines = textwrap.wrap(
                lines[0],
                width - len(head),
                break_long_words=False,
                break_on_hyphens=False,
            )
        for line in lines or [""]:
            print(head + line, flush=True)
            head = " " * len(head)


def note(text: str) -> None:
    """Prints a remark."""
    log(_("note"), text)


def _width() -> int | None:
    """Returns the width of a line in columns, or None for no limit."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)


def table(widths: dict[str, int], rows: list[list[str]]) -> None:
    """Prints a table: drawn on a terminal, aligned text elsewhere.

    The text is at most 80 columns wide, its head on several lines if needed, unless the cells
    themselves are wider: they are never cut.

    Args:
        widths: least widths of the columns by name; the first column is left-aligned.
        rows: of texts.
    """
    rows = [[one_line(text) for text in row] for row in rows]
    if sys.stdout.isatty():
        drawn_table(list(widths), rows)
        return
    head = [list(widths)]
    places = [max(both) for both in zip(widths.values(), _needed(head + rows), strict=True)]
    if sum(places) > _PIPED:
        places = _needed(head + rows)
    if sum(places) > _PIPED:
        head = [list(words) for words in zip_longest(*map(str.split, widths), fillvalue="")]
        places = _needed(head + rows)
    for row in head + rows:
        first, *others = zip(row, places, strict=True)
        line = f"{first[0]:<{first[1]}}" + "".join(f"{text:>{width}}" for text, width in others)
        print(line.rstrip())


def _needed(lines: list[list[str]]) -> list[int]:
    """Returns the width that each column needs, including the space before it."""
    return [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]


def drawn_table(names: list[str], rows: list[list[str]]) -> None:
    """Prints a table for a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(names):
        drawn.add_column(Text(name), justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        drawn.add_row(*map(Text, row), style="bold" if row[0] == OWN else "")
    Console().print(drawn)


@contextlib.contextmanager
def working(name: str, text: str) -> Iterator[Callable[[float], None]]:
    """Announces a long step: prints a line, and on a terminal a `bar` below it until it ends."""
    log(name, text)
    with bar() as done:
        yield done


@contextlib.contextmanager
def bar() -> Iterator[Callable[[float], None]]:
    """Shows a spinner with a clock on a terminal.

    Yields:
        A function that takes the share done, 0 to 1, and adds a bar with the time left. A share
        below the last one starts a new bar, for the next step.
    """
    if not sys.stdout.isatty():
        yield lambda share: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=None)

        def done(share: float) -> None:
            if share < progress.tasks[0].completed:
                progress.reset(task)
            progress.update(task, total=1.0, completed=share)

        yield done
