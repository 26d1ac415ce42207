"""The bars that a model is asked about, symbol by symbol: their rows, and what is odd of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.i18n import _
from data.bars.peers import Peers, learn_peers
from data.bars.sessions import missed_bars
from data.market.features import WARM_UP_BARS
from data.market.moves import advice, find_moves, moment, told
from data.market.rows import fill_rows, warm_runs
from data.market.windows import own_bounds, symbol_bounds


@dataclass(frozen=True)
class Part:
    """The bars of one symbol.

    Attributes:
        bars: sorted by time.
        code: number of the symbol.
        runs: first bar and stop of the segments that have rows.
        num_rows: how many of their last rows are made.
        fault: why the newest bar has no answer; "" if it has one.
    """

    bars: pd.DataFrame
    code: int
    runs: list[tuple[int, int]]
    num_rows: int
    fault: str


def parts_of(
    contract: Mapping[str, Any], bars: pd.DataFrame, *, newest_only: bool
) -> Iterator[Part]:
    """Yields the bars of each symbol, and which of their rows to make."""
    peers, needed = learn_peers(bars), WARM_UP_BARS + contract["sequence_length"]
    places = symbol_bounds(bars["symbol"].cat.codes.to_numpy())
    for code, (first, last) in enumerate(zip(places[:-1], places[1:], strict=True)):
        own = bars.iloc[first:last]
        times = own["timestamp"].to_numpy("datetime64[ns]")
        others = peers.get(str(own["symbol"].iloc[0]))
        bounds = own_bounds(times, contract["max_gap_bars"], others)
        answered = bounds[-1] - bounds[-2] >= needed
        runs = warm_runs(bounds)
        num_rows = sum(stop - start - WARM_UP_BARS for start, stop in runs)
        if newest_only:
            runs = runs[-1:] if answered else []
            num_rows = contract["sequence_length"] if answered else 0
        fault = "" if answered else _fault(times, bounds, needed, others)
        yield Part(own, code, runs, num_rows, fault)


def _fault(times: np.ndarray, bounds: np.ndarray, needed: int, peers: Peers | None) -> str:
    """Returns why a symbol's newest bar has no answer."""
    start = bounds[-2]
    if not start:
        return _(
            "an answer needs {needed} bars, there are {num_bars} bars",
            needed=needed,
            num_bars=len(times),
        )
    return _(
        "{missing:,} bars are missing between {before} and {after} UTC, and an answer needs "
        "{needed} bars after such a hole; there are {num_bars} of {total:,} bars",
        missing=missed_bars(times, peers)[start - 1],
        before=moment(times[start - 1]),
        after=moment(times[start]),
        needed=needed,
        num_bars=len(times) - start,
        total=len(times),
    )


def remarks(parts: list[Part], answered: np.ndarray, *, newest_only: bool) -> Iterator[str]:
    """Yields what is odd: bars whose newest one has no answer, and impossible moves.

    Args:
        parts: of all symbols.
        answered: codes of the symbols that have an answer.
        newest_only: whether the newest windows alone are answered.
    """
    for part in parts:
        if part.fault:
            yield _no_answer(part, skipped=part.code not in answered)
    shown = [part.bars.iloc[-part.num_rows - WARM_UP_BARS :] for part in parts if part.num_rows]
    whole = [part.bars for part in parts]
    moves = [move for own in (shown if newest_only else whole) for move in find_moves(own)]
    yield from told(moves, advice())


def _no_answer(part: Part, *, skipped: bool) -> str:
    """Returns in words that a symbol has no answer, or its newest bar has none."""
    symbol = part.bars["symbol"].iloc[0]
    if skipped:
        return _("symbol {symbol} is skipped: {fault}", symbol=symbol, fault=part.fault)
    return _(
        "the newest bar of {symbol}, {time} UTC, has no answer: {fault}",
        symbol=symbol,
        time=moment(part.bars["timestamp"].to_numpy("datetime64[ns]")[-1]),
        fault=part.fault,
    )


def rows_of(contract: Mapping[str, Any], parts: list[Part]):
    """Returns features (rows, features), timestamps (rows,) and the bounds of the segments."""
    stops = np.cumsum([part.num_rows for part in parts])
    features = np.empty((stops[-1], len(contract["feature_names"])), np.float32)
    timestamps, bounds = np.empty(stops[-1], "datetime64[ns]"), [np.zeros(1, np.int64)]
    for part, stop in zip(parts, stops, strict=True):
        rows = slice(stop - part.num_rows, stop)
        segments = fill_rows(
            part.bars,
            part.runs,
            features[rows],
            timestamps[rows],
            intraday=contract["intraday"],
        )
        bounds.append(segments[1:] + rows.start)
    return features, timestamps, np.concatenate(bounds)
