"""Tables of answers as CSV that is opened in a spreadsheet: no cell of theirs is a formula."""

import pandas as pd

_BEGINS = ("=", "+", "-", "@", "\t", "\r")  # of a formula (OWASP, CSV injection)


def plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with an apostrophe before symbols that a spreadsheet would compute.

    Args:
        table: of answers, with a column `symbol`.
    """
    symbols = table["symbol"].astype(str)
    begins = symbols.str.startswith(_BEGINS)
    if not begins.any():
        return table
    return table.assign(symbol=symbols.where(~begins, "'" + symbols))
