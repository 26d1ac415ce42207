"""The faults of bars as a person reads them: a line each, with file, symbol and row."""

import numpy as np
import pandas as pd

from core.errors import printable
from core.i18n import _, ngettext


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


def _shown(value) -> str:
    return repr(printable(value)) if isinstance(value, str) else printable(str(value))
