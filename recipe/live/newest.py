"""Answers for the newest closed bars of an exchange, once or at every close."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InputError, printable
from core.foreign import writing
from core.i18n import _
from data.features.settings import settings_of
from data.market.moves import moment
from models.deployable import contract_of
from recipe.live import exchange as exchanges
from recipe.live import follow as following
from recipe.live.markets import Members, members_of, trained_names
from recipe.live.timeframes import name_of
from recipe.run import folder as files
from recipe.serve.guards import plain_cells
from recipe.serve.predict import classify_latest
from recipe.serve.universe import TooFewSymbols, first_of


def answer_newest(
    model,
    exchange_name: str,
    symbols: Sequence[str],
    *,
    follow: bool,
    out: Path | None,
    note: Callable[[str], None],
    answered: Callable[[pd.DataFrame], None],
    newer: Callable[[], Any] = lambda: None,
) -> None:
    """Reports the answers for the newest closed bars, and adds them to a table.

    For a model with features beside the market, the bars of all its symbols are fetched.

    Args:
        model: a deployable model, as `load_classifier` returns it.
        exchange_name: one of ccxt's names.
        symbols: ccxt's names; if empty, the symbols of the training.
        follow: whether to go on at every close until Ctrl-C, or to answer once.
        out: the CSV file to create or append to; None for no file.
        note: called with a line for each oddity.
        answered: called with the answers of each close.
        newer: called after each close; returns a model for the same bars that answers from then
            on, or None to keep the current one.

    Raises:
        InputError: if the exchange lacks what is needed or refuses, or if the file has other
            columns.
    """
    contract = contract_of(model)
    if columns := settings_of(contract).columns:
        raise InputError(
            "the model needs the columns {columns}, which no exchange has: bars of a file, "
            "with --data PATH, may have them",
            columns=", ".join(columns),
        )
    exchange = exchanges.open_exchange(exchange_name, note=note)
    span = timeframe_named(contract["interval_seconds"])
    members, remark = members_of(exchange, contract, symbols)
    if remark:
        note(remark)
    request = [*members.num_bars], span, members.num_bars
    frames: Iterable[pd.DataFrame] = (
        following.follow(exchange, *request, together=members.together)
        if follow
        else [following.newest_bars(exchange, *request)]
    )
    absent: list[str] = []
    for bars in frames:
        if members.together:
            absent = _tell_absent(bars, members, absent, note)
        table = _answers(model, bars, members, absent, note, go_on=follow)
        if table is not None:
            answered(table)
            if out:
                with writing(out):
                    _append(out, plain_cells(table))
        model = newer() or model


def _answers(
    model,
    bars: pd.DataFrame,
    members: Members,
    absent: Sequence[str],
    note: Callable[[str], None],
    *,
    go_on: bool,
) -> pd.DataFrame | None:
    """Returns the answers; None for a close without any, if the next may have some."""
    if not members.together:
        return classify_latest(model, bars, note=note)
    present = [name for name in members.symbols if name not in absent]
    is_answered = bars["symbol"].isin(present)
    bars = trained_names(bars, members)
    own, others = bars.loc[is_answered], bars.loc[~is_answered]
    try:
        if own.empty:
            raise TooFewSymbols(_("no symbol that is asked for has a newest bar"))
        universe = None if others.empty else others
        table = classify_latest(model, own, universe=universe, note=note)
    except TooFewSymbols as error:
        if not go_on:
            raise InputError(error.reason) from error
        note(error.reason)
        return None
    back = {name: symbol for symbol, name in members.names.items()}
    return table.assign(symbol=table["symbol"].replace(back))


def _tell_absent(
    bars: pd.DataFrame, members: Members, before: list[str], note: Callable[[str], None]
) -> list[str]:
    """Returns the symbols without the newest bar, and notes them if they have changed."""
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    newest = times.max()
    here = set(bars["symbol"][times == newest])
    absent = [name for name in members.num_bars if name not in here]
    if set(absent) != set(before):
        time = moment(newest)
        total = len(members.num_bars)
        if absent:
            note(
                _(
                    "{count} of {total} symbols have no bar of {time} UTC: {missing}",
                    count=len(absent),
                    total=total,
                    time=time,
                    missing=first_of(absent),
                )
            )
        else:
            note(_("all {total} symbols have a bar of {time} UTC", total=total, time=time))
    return absent


def _append(path: Path, table) -> None:
    """Appends rows to a CSV file, or creates it; one write, so that a kill cuts no line short.

    Raises:
        InputError: if the file has other columns, such as one written before `call` was added.
    """
    if not path.exists():
        files.write(path, lambda temporary: table.to_csv(temporary, index=False))
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        there = file.readline(1000).strip()
    wanted = ",".join(table.columns)
    if there != wanted:
        raise InputError(
            "the table {path} must have the columns {wanted}; it begins with {there!r}: "
            "move it away",
            path=path,
            wanted=wanted,
            there=printable(there, 200),
        )
    with path.open("ab", buffering=0) as file:
        file.write(table.to_csv(index=False, header=False).encode())


def timeframe_named(seconds: float) -> str:
    """Returns the length of a bar as exchanges write it: 5m, 4h, 1d, 1w, 1M."""
    name = name_of(seconds)
    if name is None:
        raise InputError(
            "no exchange has bars of {seconds:g} seconds, those of the model", seconds=seconds
        )
    return name
