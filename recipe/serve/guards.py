"""Guards on answers: values that are not numbers, outputs that are not probabilities, formulas."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.errors import InputError, printable

_ROUNDING = 1e-3  # of the sum of a window's probabilities, the limit of half precision
_BEGINS = ("=", "+", "-", "@", "\t", "\r")  # of a formula in a spreadsheet (OWASP, CSV injection)


def check_features(
    features: np.ndarray, ends: np.ndarray, length: int, names: Sequence[str], about: pd.DataFrame
) -> None:
    """Raises InputError with symbol and bar if a window holds a value that is not finite.

    Args:
        features: (rows, features).
        ends: last rows of the windows, (windows,).
        length: rows of a window.
        names: of the features.
        about: a row for each window: timestamp, symbol.
    """
    bad = ~np.isfinite(features).all(axis=1)
    if not bad.any():
        return
    before = np.concatenate([[0], np.cumsum(bad)])
    hit = before[ends + 1] > before[ends + 1 - length]
    if not hit.any():
        return
    window = int(hit.argmax())
    rows = slice(ends[window] + 1 - length, ends[window] + 1)
    feature = int((~np.isfinite(features[rows])).any(axis=0).argmax())
    raise InputError(
        "{symbol}, window that ends at {time} UTC: the feature {feature} is no finite number; "
        "its bars cannot be true",
        **_place(about, window),
        feature=printable(str(names[feature])),
    )


def check_probabilities(probabilities: np.ndarray, about: pd.DataFrame) -> None:
    """Raises InputError with symbol and bar if a model's outputs are not probabilities.

    Args:
        probabilities: (windows, classes).
        about: a row for each window: timestamp, symbol.
    """
    values = np.asarray(probabilities, np.float64)
    with np.errstate(all="ignore"):
        good = ((values >= 0) & (values <= 1 + _ROUNDING)).all(axis=1)
        good &= np.abs(values.sum(axis=1) - 1) <= _ROUNDING
    if good.all():
        return
    window = int(good.argmin())
    raise InputError(
        "the model must answer probabilities; for {symbol} at {time} UTC it says {answer} "
        "(and so in {count:,} of {total:,} windows): its weights are broken",
        **_place(about, window),
        answer=printable(str(values[window].tolist())),
        count=int((~good).sum()),
        total=len(good),
    )


def plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with an apostrophe before symbols that a spreadsheet would evaluate.

    Args:
        table: of answers, with a column `symbol`.
    """
    symbols = table["symbol"].astype(str)
    begins = symbols.str.startswith(_BEGINS)
    if not begins.any():
        return table
    return table.assign(symbol=symbols.where(~begins, "'" + symbols))


def _place(about: pd.DataFrame, window: int) -> dict[str, str]:
    row = about.iloc[window]
    return {"symbol": printable(str(row["symbol"])), "time": f"{row['timestamp']:%Y-%m-%d %H:%M}"}
