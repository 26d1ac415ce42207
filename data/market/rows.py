"""Makes the rows of a market from bars: features and moves, one symbol after the other.

After a hole in time a symbol begins anew: its features and labels see nothing before the hole.
Memory is that of the rows: the bars of a symbol go when its rows are there. What needs all symbols,
as features beside the market and labels relative to it, is filled in when all rows are there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from data.bars.peers import Peers
from data.features.features import fill_features
from data.features.indicators import is_intraday
from data.features.settings import FeatureSettings
from data.features.universe import Universe, fill_beside, other_clocks
from data.market import labels as labelling
from data.market.moves import Move, advice, find_moves, told
from data.market.parts import by_symbol
from data.market.relative import MarketMoves, relative_scores
from data.market.settings import SCORES, MarketSettings
from data.market.store import FolderTable, MemoryTable, open_store
from data.market.store_folder import broken_is_refused, check_facts, read_index
from data.market.windows import own_bounds
from data.times.grid import check_one_length, closes_of, grid_ns, no_grid

KEPT = ("close",)  # what labels are made of and others need as well


@dataclass
class _Seen:
    """What is kept of the symbols until all have been seen.

    Attributes:
        bars: when the bars of each symbol close, and the logarithms of their closes; kept where
            labels are relative to the market.
        rows: when the bars of each symbol's rows close; kept where features stand beside it.
        lengths: of a bar, nanoseconds, of each symbol in `bars`, and of each in `rows`.
        clocks: length of a bar and when in it one closes, by symbol.
        runs: of each symbol that has rows, its number in `bars`, and first bar and stop of its
            segments.
    """

    bars: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    lengths: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    clocks: dict[str, tuple[int, int]] = field(default_factory=dict)
    runs: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)


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
    room = _num_rows(bars, settings) if isinstance(bars, pd.DataFrame) else 0
    table = MemoryTable(room) if feature_store is None else FolderTable(feature_store)
    parts = by_symbol(bars) if isinstance(bars, pd.DataFrame) else bars
    peers: Mapping[str, Peers] = getattr(parts, "peers", {})
    names, skipped, intervals, bounds, num_rows, lost, intraday = [], [], [], [], 0, 0, None
    moves: list[Move] = []
    seen = _Seen()
    for own in parts:
        symbol = str(own["symbol"].iloc[0])
        times = own["timestamp"].to_numpy("datetime64[ns]")
        if len(own) < settings.num_bars_needed:
            note(_too_short(symbol, len(own), settings))
        interval = grid_ns(times) if len(own) > 1 else 0
        if interval and (settings.relative or settings.features.market):
            check_one_length(symbol, times, interval)
        if settings.relative and interval:
            closes = closes_of(times, interval)
            seen.bars.append((closes, np.log(own["close"].to_numpy(np.float64))))
            seen.lengths[0].append(interval)
        if len(own) < settings.num_bars_used:
            skipped.append(_("{symbol} has {num_bars}", symbol=symbol, num_bars=len(own)))
            continue
        if not interval:
            raise InputError(_("symbol {symbol}: {why}", symbol=symbol, why=no_grid(times)))
        moves += find_moves(own)
        intervals.append(interval)
        intraday = is_intraday(own) if intraday is None else intraday
        segments = own_bounds(times, settings.max_gap_bars, peers.get(symbol))
        runs = warm_runs(segments, settings.warm_up_bars)
        seen.clocks[symbol] = interval, int(np.median(times.view(np.int64) % interval))
        own_rows = sum(stop - start - settings.warm_up_bars for start, stop in runs)
        new = table.grow(own_rows, _kinds(intraday, settings))
        own_first = _fill_symbol(new, own, runs, len(names), intraday, settings)[:-1]
        bounds.append(num_rows + own_first)
        if settings.features.market:
            seen.rows.append(closes_of(new["timestamps"], interval))
            seen.lengths[1].append(interval)
        seen.runs.append((len(seen.bars) - 1, runs))
        lost += _num_windows([(0, len(own))], settings) - _num_windows(runs, settings)
        num_rows += own_rows
        names.append(symbol)
        del own, new  # before the next symbol is divided off, which gives their memory up
    for text in told(moves, advice()):
        note(text)
    if not names:
        what = ", ".join(skipped) or _("there are no bars")
        raise InputError(f"{_needs(settings)}; {what}")
    if not num_rows:
        raise InputError(only_holes(settings))
    columns = settings.features.names(intraday=bool(intraday))
    least = settings.features.market_min_symbols
    if settings.features.market and len(names) < least:
        note(
            _(
                "MARKET_FEATURES needs at least {least} symbols, there are {count}: beside the "
                "market all features are those of the symbol itself",
                least=least,
                count=len(names),
            )
        )
    if settings.features.market or settings.relative:
        for text in other_clocks(seen.clocks):
            note(text)
    _fill_market(table, columns, seen, settings)
    facts = {
        "feature_names": columns,
        "symbol_names": tuple(names),
        "intraday": intraday,
        "interval_seconds": float(np.median(intervals)) / 1e9,
        "bounds": np.concatenate([*bounds, [num_rows]]).astype(np.int64),
        "dropped": {
            N_("symbols too short"): len(skipped),
            N_("warm-up rows"): settings.warm_up_bars * len(names),
            N_("windows that would cross a hole in time"): lost,
        },
    }
    written = facts | {"bounds": facts["bounds"].tolist()}
    return table.finish(written), facts


def _fill_market(table, names, seen: _Seen, settings: MarketSettings) -> None:
    """Fills in what needs the bars of all symbols."""
    if settings.features.market:
        rows = Universe(seen.rows, seen.lengths[1])
        table.revise(lambda new: fill_beside(new["features"], names, rows, settings.features))
    if settings.relative:
        closes, logs = zip(*seen.bars, strict=True)
        least = settings.features.market_min_symbols
        market = MarketMoves(closes, logs, seen.lengths[0], least)
        table.revise(lambda new: _fill_relative(new["scores"], seen, market, settings))


def _fill_relative(scores, seen: _Seen, market: MarketMoves, settings: MarketSettings) -> None:
    """Writes the scores of all rows, relative to the market."""
    row, warm_up = 0, settings.warm_up_bars
    for number, runs in seen.runs:
        closes, logs = seen.bars[number]
        for start, stop in runs:
            own = slice(start, stop)
            found = relative_scores(
                logs[own], closes[own], market, settings.label_method, settings.future_window
            )[warm_up:]
            scores[row : row + len(found)] = found
            row += len(found)


def open_rows(feature_store: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns what `make_rows` returned when it made a feature store; the columns are mapped.

    Raises:
        InputError: if the folder is no feature store, or it was never finished.
    """
    index = read_index(feature_store)
    facts = index.get("facts")
    if not facts:
        raise InputError(
            _("the feature store {folder} is not finished: make it again", folder=feature_store)
        )
    with broken_is_refused(feature_store):
        check_facts(index)
        facts |= {name: tuple(facts[name]) for name in ("feature_names", "symbol_names")}
        facts |= {"bounds": np.array(facts["bounds"])}
    return dict(open_store(feature_store)), facts


def warm_runs(bounds: np.ndarray, warm_up_bars: int) -> list[tuple[int, int]]:
    """Returns first bar and stop of ONE symbol's segments that have rows after their warm-up.

    Args:
        bounds: of the segments, (segments + 1,).
        warm_up_bars: before a segment's first row.
    """
    runs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    return [(start, stop) for start, stop in runs if stop - start > warm_up_bars]


def fill_rows(
    bars: pd.DataFrame,
    runs: Iterable[tuple[int, int]],
    features: np.ndarray,
    timestamps: np.ndarray,
    *,
    intraday: bool,
    settings: FeatureSettings,
) -> np.ndarray:
    """Writes the last rows of ONE symbol, as training and predicting both see them.

    Args:
        bars: of the symbol, sorted by time.
        runs: first bar and stop of its segments that have rows, as `warm_runs` returns them.
        features: float32 (rows, features) to be filled; of the first run the last rows, of the
            others all.
        timestamps: datetime64[ns] (rows,) to be filled.
        intraday: as `data.features.features.compute_features` takes it.
        settings: which features there are; those beside the market are left as they are.

    Returns:
        first rows of the segments, runs without a hole, then the number of rows,
        int64 (segments + 1,).
    """
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    bounds = [len(features)]
    for start, stop in reversed([*runs]):
        part = slice(max(bounds[0] - (stop - start - settings.warm_up_bars), 0), bounds[0])
        own = _run(bars, start, stop)
        fill_features(own, features[part], intraday=intraday, settings=settings)
        timestamps[part] = times[start:stop][part.start - part.stop :]
        bounds.insert(0, part.start)
    return np.array(bounds, np.int64)


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
        "windows need {num_bars} bars without a hole of more than {max_gap_bars}; "
        "no symbol has them",
        num_bars=settings.num_bars_needed,
        max_gap_bars=settings.max_gap_bars,
    )


def _too_short(symbol: str, num_bars: int, settings: MarketSettings) -> str:
    """Returns in words that a symbol gives no window."""
    given = {"symbol": symbol, "needs": _needs(settings), "num_bars": num_bars}
    if num_bars >= settings.num_bars_used:
        return _(
            "symbol {symbol} has no window, but counts in the market's means: {needs}; it has "
            "{num_bars}",
            **given,
        )
    return _("symbol {symbol} is skipped: {needs}; it has {num_bars}", **given)


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


def _fill_symbol(
    new, bars, runs, code: int, intraday: bool, settings: MarketSettings
) -> np.ndarray:
    """Writes the rows of one symbol into the columns, and returns the bounds of its segments."""
    rows = new["features"], new["timestamps"]
    bounds = fill_rows(bars, runs, *rows, intraday=intraday, settings=settings.features)
    new["symbols"][:] = code
    for (start, stop), first, last in zip(runs, bounds[:-1], bounds[1:], strict=True):
        part = {name: new[name][first:last] for name in new}
        _fill_moves(part, _run(bars, start, stop), settings)
    return bounds


def _run(bars: pd.DataFrame, start: int, stop: int) -> pd.DataFrame:
    """Returns some of the bars; all without a view of each column, which takes longer."""
    return bars if stop - start == len(bars) else bars.iloc[start:stop]


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
