"""The faults of bars as a person reads them: a line each, with file, symbol and row."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from core.errors import InputError, printable
from core.i18n import _, ngettext

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
COLUMNS = ("timestamp", *NUMBERS)
_MOST_LETTERS = 400  # of the names of columns in a message


class Faults:
    """Collects what is wrong with the bars of one file.

    Args:
        source: the file's name.
        symbols: of the bars, (bars,).
    """

    def __init__(self, source: str, symbols: pd.Categorical):
        self.source, self.symbols = source, symbols
        self.lines: list[str] = []

    def add(self, bad: np.ndarray, what: str, shown=None) -> None:
        """Adds a line for the first bar that is bad, and says how many more there are.

        Args:
            bad: bool (bars,).
            what: must hold.
            shown: the values as the file has them, (bars,): the first bad one is named.
        """
        if not bad.any():
            return
        row = int(bad.argmax())
        line = f"{self.place(row)}: {what}"
        if shown is not None:
            value = shown.iloc[row] if isinstance(shown, pd.Series) else shown[row]
            line += _(", got {value}", value=_shown(value))
        more = int(bad.sum()) - 1
        if more:
            line += ngettext(" (and {n} more rows)", " (and {n} more rows)", more)
        self.lines.append(line)

    def place(self, row: int) -> str:
        """Returns where a row is, counted from 1."""
        return _(
            "{source}, symbol {symbol}, row {row}",
            source=self.source,
            symbol=self.symbols[row],
            row=row + 1,
        )


def check_columns(columns: Mapping[str, Sequence[str]], names: Sequence, source: str) -> None:
    """Raises InputError with a line for each role that several columns have, and one for none.

    Args:
        columns: by role the names of the columns that have it, as the file writes them.
        names: of all columns.
        source: the file's name.
    """
    faults = [
        several_columns(role, written, source)
        for role, written in columns.items()
        if len(written) > 1
    ]
    lacking = [role for role, written in columns.items() if not written]
    if lacking:
        nameless = _("a column without a name")
        faults.append(
            _(
                "{source} must have the columns {columns}; it lacks {lacking} (it has {has}); "
                "rename yours, or add them",
                source=source,
                columns=", ".join(COLUMNS),
                lacking=", ".join(lacking),
                has=listed([str(name) or nameless for name in names]),
            )
        )
    if faults:
        raise InputError(faults)


def several_columns(role: str, written: Sequence[str], source: str) -> str:
    """Returns the fault of a role that several columns have."""
    return _(
        "{source} must have one column for {role}, it has {count} named {name}; rename or "
        "remove the others",
        source=source,
        role=role,
        count=len(written),
        name=printable(written[0]) or "''",
    )


def listed(names: Sequence[str]) -> str:
    """Returns names in one line that is not too long."""
    return printable(", ".join(map(printable, names)), _MOST_LETTERS)


def _shown(value) -> str:
    return repr(printable(value)) if isinstance(value, str) else printable(str(value))
