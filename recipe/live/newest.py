"""The newest closed bars of an exchange, answered once or at every next close."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from core.errors import InputError
from core.foreign import writing
from core.i18n import _
from core.texts import printable
from data.features.indicators import FORGOTTEN_AFTER_BARS
from models.deployable import contract_of
from recipe.live import exchange as exchanges
from recipe.live import follow as following
from recipe.live.timeframes import name_of
from recipe.run import folder as files
from recipe.serve.predict import classify_latest
from recipe.serve.sheet import plain_cells


def answer_newest(
    model,
    exchange_name: str,
    symbols: Sequence[str],
    *,
    follow: bool,
    out: Path | None,
    note: Callable[[str], None],
    answered: Callable[[pd.DataFrame], None],
) -> None:
    """Tells the answers to the newest closed bars, and adds them to a table.

    Args:
        model: a deployable model, as `load_classifier` returns it.
        exchange_name: one of ccxt's names.
        symbols: ccxt's names.
        follow: go on at every next close until Ctrl-C, or answer once.
        out: the CSV file to make or to add to; None: no file.
        note: called with a line for each oddity.
        answered: called with the table of each close.

    Raises:
        InputError: where the exchange does not have what is asked for, or refuses, or the file
            has other columns.
    """
    contract = contract_of(model)
    exchange = exchanges.open_exchange(exchange_name, note=note)
    span = _timeframe(contract["interval_seconds"])
    # With the features' memory: the answer is then that of a file with all bars.
    asked = symbols, span, FORGOTTEN_AFTER_BARS + contract["sequence_length"]
    once = following.newest_bars
    for bars in following.follow(exchange, *asked) if follow else [once(exchange, *asked)]:
        table = classify_latest(model, bars, note=note)
        answered(table)
        if out:
            with writing(out):
                _append(out, plain_cells(table))


def _append(path: Path, table) -> None:
    """Adds rows to a CSV file, or makes it; one write, so that killing the process cuts no line.

    Raises:
        InputError: where the file has other columns, as one that was written before `call`.
    """
    if not path.exists():
        files.write(path, lambda temporary: table.to_csv(temporary, index=False))
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        there = file.readline(1000).strip()
    wanted = ",".join(table.columns)
    if there != wanted:
        raise InputError(
            _(
                "the table {path} must have the columns {wanted}; it begins with {there!r}: "
                "move it away",
                path=path,
                wanted=wanted,
                there=printable(there, 200),
            )
        )
    with path.open("ab", buffering=0) as file:
        file.write(table.to_csv(index=False, header=False).encode())


def _timeframe(seconds: float) -> str:
    """Returns the length of a bar as exchanges write it: 5m, 4h, 1d, 1w, 1M."""
    name = name_of(seconds)
    if name is None:
        raise InputError(
            _("no exchange has bars of {seconds:g} seconds, those of the model", seconds=seconds)
        )
    return name
