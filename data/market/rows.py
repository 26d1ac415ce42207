"""Makes the rows of a market from bars: features and moves, one symbol after the other.

After a hole in time a symbol begins anew: its features and labels see nothing before the hole.
Memory is that of the rows: the bars of a symbol go when its rows are there. What needs all symbols,
as features beside the market and labels relative to it, is filled in when all rows are there.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from data.bars.peers import Peers
from data.features.features import bars_of, fill_rows, warm_runs
from data.features.indicators import is_intraday
from data.features.universe import Universe, fill_beside, other_clocks
from data.market import labels as labelling
from data.market.moves import Move, advice, find_moves, move_notes
from data.market.parts import by_symbol
from data.market.relative import MarketMoves, relative_scores
from data.market.settings import SCORES, MarketSettings
from data.market.store import FolderTable, MemoryTable, open_store
from data.market.store_folder import broken_is_refused, check_facts, read_index
from data.market.windows import own_bounds
from data.times.grid import check_one_length, closes_of, grid_ns, no_grid

KEPT = ("close",)  # what labels are made of and others need as well


def make_rows(
    bars: pd.DataFrame | Iterable[pd.DataFrame],
    settings: MarketSettings,
    feature_store: str | Path | None,
    note: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the columns of all rows with complete features, and what else is known of them.

    Args:
        bars: as `data.market.market.build_market` takes them.
        settings: of the market.
        feature_store: folder for memory-mapped rows; None keeps them in memory.
        note: called with a sentence about every symbol that is skipped, about moves that look
            impossible, and about symbols whose bars close at other times than most.

    Returns:
        columns by name: those of `data.market.market.Market`, then for the barriers those of
        `data.market.settings.PATH`, for other labels the `scores`; and other attributes of a
        market, with what was dropped so far.

    Raises:
        InputError: if no symbol is long enough.
    """
    whole = isinstance(bars, pd.DataFrame)
    capacity = _num_rows(bars, settings) if whole else 0
    table = MemoryTable(capacity) if feature_store is None else FolderTable(feature_store)
    parts = by_symbol(bars) if whole else bars
    rows = _Rows(table, settings, getattr(parts, "peers", {}), note)
    for symbol_bars in parts:
        rows.add(symbol_bars)
        del symbol_bars  # before the next symbol is divided off, which gives its memory up
    return rows.finish()


class _Rows:
    """The rows of the symbols so far, and what is kept of their bars until all have been seen.

    Args:
        table: that the rows are written to.
        settings: of the market.
        peers: when other symbols trade, by symbol.
        note: see `make_rows`.
    """

    def __init__(
        self,
        table: MemoryTable | FolderTable,
        settings: MarketSettings,
        peers: Mapping[str, Peers],
        note: Callable[[str], None],
    ):
        self.table, self.settings, self.peers, self.note = table, settings, peers, note
        self.num_rows, self.lost_windows = 0, 0
        self.intraday: bool | None = None
        self.skipped: list[str] = []
        self.moves: list[Move] = []
        # Of each symbol with rows: length of a bar and when in it one closes, in nanoseconds; first
        # rows of its segments; its place in `prices`, and first bar and stop of its segments.
        self.clocks: dict[str, tuple[int, int]] = {}
        self.bounds: list[np.ndarray] = []
        self.runs: list[tuple[int, list[tuple[int, int]]]] = []
        # When the bars of its rows close, where features stand beside the market.
        self.closes: list[np.ndarray] = []
        # Of each symbol, where labels are relative to the market: when its bars close, the
        # logarithms of their closes, and the length of a bar.
        self.prices: list[tuple[np.ndarray, np.ndarray, int]] = []

    def add(self, bars: pd.DataFrame) -> None:
        """Writes the rows of a symbol that has enough bars."""
        settings, symbol = self.settings, str(bars["symbol"].iloc[0])
        times = bars["timestamp"].to_numpy("datetime64[ns]")
        if len(bars) < settings.num_bars_needed:
            self.note(_too_short(symbol, len(bars), settings))
        length = grid_ns(times) if len(bars) > 1 else 0
        if length and (settings.relative or settings.features.market):
            check_one_length(symbol, times, length)
        if length and settings.relative:
            logs = np.log(bars["close"].to_numpy(np.float64))
            self.prices.append((closes_of(times, length), logs, length))
        if len(bars) < settings.num_bars_used:
            self.skipped.append(_("{symbol} has {num_bars}", symbol=symbol, num_bars=len(bars)))
            return
        if not length:
            raise InputError("symbol {symbol}: {why}", symbol=symbol, why=no_grid(times))
        self.moves += find_moves(bars)
        if self.intraday is None:
            self.intraday = is_intraday(bars)
        segments = own_bounds(times, settings.max_gap_bars, self.peers.get(symbol))
        runs = warm_runs(segments, settings.warm_up_bars)
        self._write(bars, runs, length)
        self.clocks[symbol] = length, int(np.median(times.view(np.int64) % length))
        self.runs.append((len(self.prices) - 1, runs))
        whole = [(0, len(bars))]
        self.lost_windows += _num_windows(whole, settings) - _num_windows(runs, settings)

    def _write(self, bars: pd.DataFrame, runs: list[tuple[int, int]], length: int) -> None:
        settings, intraday = self.settings, bool(self.intraday)
        num_rows = sum(stop - start - settings.warm_up_bars for start, stop in runs)
        new = self.table.grow(num_rows, _kinds(intraday, settings))
        rows = new["features"], new["timestamps"]
        bounds = fill_rows(bars, runs, *rows, intraday=intraday, settings=settings.features)
        new["symbols"][:] = len(self.clocks)
        for (start, stop), first, last in zip(runs, bounds[:-1], bounds[1:], strict=True):
            part = {name: new[name][first:last] for name in new}
            _fill_moves(part, bars_of(bars, start, stop), settings)
        if settings.features.market:
            self.closes.append(closes_of(new["timestamps"], length))
        self.bounds.append(self.num_rows + bounds[:-1])
        self.num_rows += num_rows

    def finish(self) -> tuple[dict[str, np.ndarray], dict]:
        """Returns what `make_rows` does, when all symbols were added."""
        for text in move_notes(self.moves, advice()):
            self.note(text)
        if not self.clocks:
            what = ", ".join(self.skipped) or _("there are no bars")
            raise InputError([f"{_needs(self.settings)}; {what}"])
        if not self.num_rows:
            raise InputError(only_holes(self.settings))
        names = self.settings.features.names(intraday=bool(self.intraday))
        self._fill_market(names)
        lengths = [length for length, _phase in self.clocks.values()]
        facts = {
            "feature_names": names,
            "symbol_names": tuple(self.clocks),
            "intraday": self.intraday,
            "interval_seconds": float(np.median(lengths)) / 1e9,
            "bounds": np.concatenate([*self.bounds, [self.num_rows]]).astype(np.int64),
            "dropped": {
                N_("symbols too short"): len(self.skipped),
                N_("warm-up rows"): self.settings.warm_up_bars * len(self.clocks),
                N_("windows that would cross a hole in time"): self.lost_windows,
            },
        }
        return self.table.finish(facts | {"bounds": facts["bounds"].tolist()}), facts

    def _fill_market(self, names: tuple[str, ...]) -> None:
        """Fills in what needs the bars of all symbols."""
        features, least = self.settings.features, self.settings.features.market_min_symbols
        if features.market and len(self.clocks) < least:
            self.note(
                _(
                    "MARKET_FEATURES needs at least {least} symbols, there are {count}: beside the "
                    "market all features are those of the symbol itself",
                    least=least,
                    count=len(self.clocks),
                )
            )
        if features.market or self.settings.relative:
            for text in other_clocks(self.clocks):
                self.note(text)
        if features.market:
            rows = Universe(self.closes, [length for length, _phase in self.clocks.values()])
            self.table.revise(lambda new: fill_beside(new["features"], names, rows, features))
        if self.settings.relative:
            closes, logs, lengths = zip(*self.prices, strict=True)
            market = MarketMoves(closes, logs, lengths, least)
            self.table.revise(lambda new: self._fill_relative(new["scores"], market))

    def _fill_relative(self, scores: np.ndarray, market: MarketMoves) -> None:
        """Writes the scores of all rows, relative to the market."""
        method, horizon = self.settings.label_method, self.settings.future_window
        row, warm_up = 0, self.settings.warm_up_bars
        for place, runs in self.runs:
            closes, logs, _length = self.prices[place]
            for run in (slice(*run) for run in runs):
                new = relative_scores(logs[run], closes[run], market, method, horizon)[warm_up:]
                scores[row : row + len(new)] = new
                row += len(new)


def open_rows(feature_store: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns what `make_rows` returned when it made a feature store; the columns are mapped.

    Raises:
        InputError: if the folder is no feature store, or it was never finished.
    """
    index = read_index(feature_store)
    facts = index.get("facts")
    if not facts:
        raise InputError(
            "the feature store {folder} is not finished: make it again", folder=feature_store
        )
    with broken_is_refused(feature_store):
        check_facts(index)
        facts |= {name: tuple(facts[name]) for name in ("feature_names", "symbol_names")}
        facts |= {"bounds": np.array(facts["bounds"])}
    return dict(open_store(feature_store)), facts


def _num_rows(bars: pd.DataFrame, settings: MarketSettings) -> int:
    """Returns how many rows the bars give."""
    counts = np.bincount(bars["symbol"].cat.codes.to_numpy())
    return int((counts[counts >= settings.num_bars_used] - settings.warm_up_bars).sum())


def _num_windows(runs: Iterable[tuple[int, int]], settings: MarketSettings) -> int:
    """Returns how many windows with a label a symbol's runs of bars have."""
    return sum(max(stop - start - settings.num_bars_needed + 1, 0) for start, stop in runs)


def only_holes(settings: MarketSettings) -> str:
    """Returns in words that no symbol has bars enough between two holes."""
    return _(
        "windows need {num_bars} bars without a gap of more than {max_gap_bars}; no symbol has "
        "that many",
        num_bars=settings.num_bars_needed,
        max_gap_bars=settings.max_gap_bars,
    )


def _too_short(symbol: str, num_bars: int, settings: MarketSettings) -> str:
    """Returns in words that a symbol gives no window."""
    values = {"symbol": symbol, "needs": _needs(settings), "num_bars": num_bars}
    if num_bars >= settings.num_bars_used:
        return _(
            "symbol {symbol} has no window, but counts in the market's means: {needs}; it has "
            "{num_bars}",
            **values,
        )
    return _("symbol {symbol} is skipped: {needs}; it has {num_bars}", **values)


def _needs(settings: MarketSettings) -> str:
    return _(
        "a symbol needs at least {least} bars ({warm_up} of warm-up, {window} of a window, {label} "
        "of its label)",
        least=settings.num_bars_needed,
        warm_up=settings.warm_up_bars,
        window=settings.sequence_length,
        label=settings.future_window,
    )


def _kinds(intraday: bool, settings: MarketSettings) -> dict:
    """Returns dtype and shape of a row for every column of the table."""
    # Single precision for prices too: of 717,690 barrier labels of real bars it changes 6.
    numbers = {"forward_return", "trade_return", *KEPT, *settings.label_columns}
    return {
        "features": (np.float32, (len(settings.features.names(intraday=intraday)),)),
        "timestamps": ("datetime64[ns]", ()),
        "symbols": (np.int16, ()),
    } | {name: (np.float32, ()) for name in numbers}


def _fill_moves(new, bars, settings: MarketSettings) -> None:
    """Writes what the labels are made of, for the rows of one segment, from its bars alone."""
    horizon, warm_up = settings.future_window, settings.warm_up_bars
    close, open_ = bars["close"].to_numpy(np.float64), bars["open"].to_numpy(np.float64)
    new["close"][:] = close[warm_up:]
    new["forward_return"][:] = labelling.forward_return(close, horizon)[warm_up:]
    new["trade_return"][:] = labelling.trade_return(open_, close, horizon)[warm_up:]
    if settings.label_columns != SCORES:
        new["scale"][:] = labelling.past_scale(close, horizon)[warm_up:]
        for name in ("high", "low"):
            new[name][:] = bars[name].to_numpy(np.float64)[warm_up:]
    elif settings.relative:
        new["scores"][:] = np.nan  # until all symbols have been seen
    else:
        scores = labelling.label_moves(bars, settings.label_method, horizon)
        new["scores"][:] = scores[warm_up:]
