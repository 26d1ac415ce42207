"""The bars that a model answers for, symbol by symbol: their rows, and remarks on them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from core.contract import Contract
from core.i18n import _
from data.bars.peers import Peers, learn_peers
from data.bars.sessions import missed_bars
from data.features.features import fill_rows, warm_runs
from data.features.settings import settings_of
from data.features.universe import Universe, fill_beside
from data.market.moves import advice, find_moves, moment, move_notes
from data.market.windows import own_bounds, symbol_bounds
from data.times.grid import check_one_length, closes_of, grid_ns


@dataclass(frozen=True)
class Part:
    """The bars of one symbol.

    Attributes:
        bars: sorted by time.
        symbol: its name.
        code: its number.
        runs: first bar and stop of the segments that have rows.
        num_rows: how many of their last rows to make.
        fault: why the newest bar has no answer; "" if it has one.
        length: of a bar, in nanoseconds.
    """

    bars: pd.DataFrame
    symbol: str
    code: int
    runs: list[tuple[int, int]]
    num_rows: int
    fault: str
    length: int

    def closes(self, warm_up_bars: int) -> np.ndarray:
        """Returns the closes of the bars of all its rows, in nanoseconds since 1970."""
        times = closes_of(self.bars["timestamp"].to_numpy("datetime64[ns]"), self.length)
        made = [times[start + warm_up_bars : stop] for start, stop in self.runs]
        return np.concatenate([np.zeros(0, np.int64), *made])


def parts_of(contract: Contract, bars: pd.DataFrame, *, newest_only: bool) -> list[Part]:
    """Returns the bars of each symbol, and which of their rows to make.

    Args:
        contract: of the model.
        bars: checked.
        newest_only: whether to make only the rows of each symbol's newest window, and whatever
            features beside the market need of the other symbols.
    """
    peers, settings = learn_peers(bars), settings_of(contract)
    warm_up, length = settings.warm_up_bars, contract["sequence_length"]
    codes, names = bars["symbol"].cat.codes.to_numpy(), bars["symbol"].cat.categories
    places, parts = symbol_bounds(codes), []
    for code, (first, last) in enumerate(zip(places[:-1], places[1:], strict=True)):
        symbol_bars = bars.iloc[first:last]
        times = symbol_bars["timestamp"].to_numpy("datetime64[ns]")
        symbol = str(names[codes[first]])
        others = peers.get(symbol)
        bounds = own_bounds(times, contract["max_gap_bars"], others)
        answered = bounds[-1] - bounds[-2] >= warm_up + length
        runs = warm_runs(bounds, warm_up)
        num_rows = sum(stop - start - warm_up for start, stop in runs)
        fault = "" if answered else _fault(times, bounds, warm_up + length, others)
        interval = grid_ns(times)
        if interval and settings.market:
            check_one_length(symbol, times, interval)
        parts.append(Part(symbol_bars, symbol, code, runs, num_rows, fault, interval))
    if not newest_only:
        return parts
    if settings.market:
        return _since(parts, warm_up, length)
    return [
        replace(part, runs=part.runs[-1:], num_rows=length)
        if not part.fault
        else replace(part, runs=[], num_rows=0)
        for part in parts
    ]


def _since(parts: list[Part], warm_up_bars: int, sequence_length: int) -> list[Part]:
    """Returns the parts with their rows from the first bar of any newest window on."""
    closes = [part.closes(warm_up_bars) for part in parts]
    shown = [
        part_closes[-sequence_length]
        for part_closes, part in zip(closes, parts, strict=True)
        if not part.fault
    ]
    if not shown:
        return [replace(part, runs=[], num_rows=0) for part in parts]
    chosen = []
    for part_closes, part in zip(closes, parts, strict=True):
        # Includes the bar before: it is the last closed one when that bar closes.
        num_rows = len(part_closes) - int(
            np.searchsorted(part_closes, min(shown) - part.length, side="right")
        )
        runs, left = [], num_rows
        for start, stop in reversed(part.runs):
            if left > 0:
                runs.insert(0, (start, stop))
                left -= stop - start - warm_up_bars
        chosen.append(replace(part, runs=runs, num_rows=num_rows))
    return chosen


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


def remarks(
    parts: list[Part], answered: np.ndarray, *, warm_up_bars: int, newest_only: bool
) -> Iterator[str]:
    """Yields remarks on symbols whose newest bar has no answer, and on impossible moves.

    Args:
        parts: of all symbols.
        answered: codes of the symbols that have an answer.
        warm_up_bars: before a symbol's first row.
        newest_only: whether only the newest windows are answered.
    """
    for part in parts:
        if part.fault:
            yield _no_answer(part, skipped=part.code not in answered)
    shown = [part.bars.iloc[-part.num_rows - warm_up_bars :] for part in parts if part.num_rows]
    whole = [part.bars for part in parts]
    moves = [
        move for part_bars in (shown if newest_only else whole) for move in find_moves(part_bars)
    ]
    yield from move_notes(moves, advice())


def _no_answer(part: Part, *, skipped: bool) -> str:
    """Returns a line on a symbol without an answer, or without one for its newest bar."""
    if skipped:
        return _("symbol {symbol} is skipped: {fault}", symbol=part.symbol, fault=part.fault)
    return _(
        "the newest bar of {symbol}, {time} UTC, has no answer: {fault}",
        symbol=part.symbol,
        time=moment(part.bars["timestamp"].to_numpy("datetime64[ns]")[-1]),
        fault=part.fault,
    )


def rows_of(contract: Contract, parts: list[Part]):
    """Returns features (rows, features), timestamps (rows,) and the bounds of the segments."""
    settings, names = settings_of(contract), contract["feature_names"]
    stops = np.cumsum([part.num_rows for part in parts])
    features = np.empty((stops[-1], len(names)), np.float32)
    timestamps, bounds = np.empty(stops[-1], "datetime64[ns]"), [np.zeros(1, np.int64)]
    for part, stop in zip(parts, stops, strict=True):
        rows = slice(stop - part.num_rows, stop)
        segments = fill_rows(
            part.bars,
            part.runs,
            features[rows],
            timestamps[rows],
            intraday=contract["intraday"],
            settings=settings,
        )
        bounds.append(segments[1:] + rows.start)
    if settings.market:
        fill_beside(features, list(names), universe_of(contract, parts, timestamps), settings)
    return features, timestamps, np.concatenate(bounds)


def universe_of(contract: Contract, parts: list[Part], timestamps: np.ndarray) -> Universe:
    """Returns the closes of the rows' bars; only symbols of the training form the market."""
    closes, stop = [], 0
    for part in parts:
        start, stop = stop, stop + part.num_rows
        closes.append(closes_of(timestamps[start:stop], part.length))
    members = np.isin([part.symbol for part in parts], contract["symbols"])
    return Universe(closes, [part.length for part in parts], members)
