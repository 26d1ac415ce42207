"""Makes the rows of a market from bars: features and moves, one symbol after the other.

After a hole in time a symbol begins anew: its features and labels see nothing before the hole.
Memory is that of the rows: the bars of a symbol go when its rows are there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from data.bars.grid import grid_ns, no_grid
from data.bars.peers import Peers
from data.market import labels as labelling
from data.market.features import (
    WARM_UP_BARS,
    feature_names,
    fill_features,
    is_intraday,
)
from data.market.moves import Move, advice, find_moves, told
from data.market.parts import by_symbol
from data.market.store import FolderTable, MemoryTable, open_store
from data.market.store_check import check_facts
from data.market.store_folder import broken_is_refused, read_index
from data.market.windows import own_bounds

SCORES, PATH = ("scores",), ("close", "high", "low", "scale")  # what labels are made of
KEPT = ("close",)  # and what else needs


@dataclass(frozen=True)
class WindowSpec:
    """How windows and labels are made; see `data.market.market.build_market`."""

    label_method: str
    sequence_length: int
    future_window: int
    max_gap_bars: int

    @property
    def num_bars_needed(self) -> int:
        """Bars that a symbol must have to give one window."""
        return WARM_UP_BARS + self.sequence_length + self.future_window

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that the labels are made of, and nothing else needs."""
        return PATH if self.label_method == "triple_barrier" else SCORES


def make_rows(
    bars: pd.DataFrame | Iterable[pd.DataFrame],
    spec: WindowSpec,
    feature_store: str | Path | None,
    note: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the columns of all rows with complete features, and what else is known of them.

    Args:
        bars: as `data.market.market.build_market` takes them.
        spec: of the windows and labels.
        feature_store: folder for memory-mapped rows; None keeps them in memory.
        note: called with a sentence about every symbol that is skipped, and about moves that look
            impossible.

    Returns:
        columns by name: those of `data.market.market.Market`, then for the barriers those of
        `PATH`, for other labels the `scores` of `data.market.labels.label_moves`; and other
        attributes of a market, with what was dropped so far.

    Raises:
        InputError: if no symbol is long enough.
    """
    room = _num_rows(bars, spec) if isinstance(bars, pd.DataFrame) else 0
    table = MemoryTable(room) if feature_store is None else FolderTable(feature_store)
    parts = by_symbol(bars) if isinstance(bars, pd.DataFrame) else bars
    peers: Mapping[str, Peers] = getattr(parts, "peers", {})
    names, skipped, intervals, bounds, num_rows, lost, intraday = [], [], [], [], 0, 0, None
    moves: list[Move] = []
    for own in parts:
        symbol = str(own["symbol"].iloc[0])
        times = own["timestamp"].to_numpy("datetime64[ns]")
        if len(own) < spec.num_bars_needed:
            skipped.append(_("{symbol} has {num_bars}", symbol=symbol, num_bars=len(own)))
            note(
                _(
                    "symbol {symbol} is skipped: {needs}; it has {num_bars}",
                    symbol=symbol,
                    needs=_needs(spec),
                    num_bars=len(own),
                )
            )
            continue
        interval = grid_ns(times)
        if not interval:
            raise InputError(_("symbol {symbol}: {why}", symbol=symbol, why=no_grid(times)))
        moves += find_moves(own)
        intervals.append(interval)
        intraday = is_intraday(own) if intraday is None else intraday
        runs = warm_runs(own_bounds(times, spec.max_gap_bars, peers.get(symbol)))
        own_rows = sum(stop - start - WARM_UP_BARS for start, stop in runs)
        new = table.grow(own_rows, _kinds(intraday, spec))
        bounds.append(num_rows + _fill_symbol(new, own, runs, len(names), intraday, spec)[:-1])
        lost += _num_windows([(0, len(own))], spec) - _num_windows(runs, spec)
        num_rows += own_rows
        names.append(symbol)
        del own, new  # before the next symbol is divided off, which gives their memory up
    for text in told(moves, advice()):
        note(text)
    if not names:
        what = ", ".join(skipped) or _("there are no bars")
        raise InputError(f"{_needs(spec)}; {what}")
    if not num_rows:
        raise InputError(only_holes(spec))
    facts = {
        "feature_names": feature_names(intraday),
        "symbol_names": tuple(names),
        "intraday": intraday,
        "interval_seconds": float(np.median(intervals)) / 1e9,
        "bounds": np.concatenate([*bounds, [num_rows]]).astype(np.int64),
        "dropped": {
            N_("symbols too short"): len(skipped),
            N_("warm-up rows"): WARM_UP_BARS * len(names),
            N_("windows that would cross a hole in time"): lost,
        },
    }
    written = facts | {"bounds": facts["bounds"].tolist()}
    return table.finish(written), facts


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
    return open_store(feature_store), facts


def warm_runs(bounds: np.ndarray) -> list[tuple[int, int]]:
    """Returns first bar and stop of ONE symbol's segments that have rows after their warm-up.

    Args:
        bounds: of the segments, (segments + 1,).
    """
    runs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    return [(start, stop) for start, stop in runs if stop - start > WARM_UP_BARS]


def fill_rows(
    bars: pd.DataFrame,
    runs: Iterable[tuple[int, int]],
    features: np.ndarray,
    timestamps: np.ndarray,
    *,
    intraday: bool,
) -> np.ndarray:
    """Writes the last rows of ONE symbol, as training and predicting both see them.

    Args:
        bars: of the symbol, sorted by time.
        runs: first bar and stop of its segments that have rows, as `warm_runs` returns them.
        features: float32 (rows, features) to be filled; of the first run the last rows, of the
            others all.
        timestamps: datetime64[ns] (rows,) to be filled.
        intraday: as `data.market.features.compute_features` takes it.

    Returns:
        first rows of the segments, runs without a hole, then the number of rows,
        int64 (segments + 1,).
    """
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    bounds = [len(features)]
    for start, stop in reversed([*runs]):
        part = slice(max(bounds[0] - (stop - start - WARM_UP_BARS), 0), bounds[0])
        fill_features(_run(bars, start, stop), features[part], intraday=intraday)
        timestamps[part] = times[start:stop][part.start - part.stop :]
        bounds.insert(0, part.start)
    return np.array(bounds, np.int64)


def _num_rows(bars: pd.DataFrame, spec: WindowSpec) -> int:
    """Returns how many rows the bars give."""
    counts = np.bincount(bars["symbol"].cat.codes.to_numpy())
    return int((counts[counts >= spec.num_bars_needed] - WARM_UP_BARS).sum())


def _num_windows(runs: Iterable[tuple[int, int]], spec: WindowSpec) -> int:
    """Returns how many windows with a label a symbol's runs of bars have."""
    return sum(max(stop - start - spec.num_bars_needed + 1, 0) for start, stop in runs)


def only_holes(spec: WindowSpec) -> str:
    """Returns in words that no symbol has bars enough between two holes."""
    return _(
        "windows need {num_bars} bars without a hole of more than {max_gap_bars}; "
        "no symbol has them",
        num_bars=spec.num_bars_needed,
        max_gap_bars=spec.max_gap_bars,
    )


def _needs(spec: WindowSpec) -> str:
    return _(
        "a symbol needs at least {least} bars ({warm_up} of warm-up, {window} of a window, {label} "
        "of its label)",
        least=spec.num_bars_needed,
        warm_up=WARM_UP_BARS,
        window=spec.sequence_length,
        label=spec.future_window,
    )


def _kinds(intraday: bool, spec: WindowSpec) -> dict:
    """Returns dtype and shape of a row for every column of the table."""
    # Single precision for prices too: of 717,690 barrier labels of real bars it changes 6.
    numbers = {"forward_return", "trade_return", *KEPT, *spec.label_columns}
    return {
        "features": (np.float32, (len(feature_names(intraday)),)),
        "timestamps": ("datetime64[ns]", ()),
        "symbols": (np.int16, ()),
    } | {name: (np.float32, ()) for name in numbers}


def _fill_symbol(new, bars, runs, code: int, intraday: bool, spec: WindowSpec) -> np.ndarray:
    """Writes the rows of one symbol into the columns, and returns the bounds of its segments."""
    bounds = fill_rows(bars, runs, new["features"], new["timestamps"], intraday=intraday)
    new["symbols"][:] = code
    for (start, stop), first, last in zip(runs, bounds[:-1], bounds[1:], strict=True):
        _fill_moves({name: new[name][first:last] for name in new}, _run(bars, start, stop), spec)
    return bounds


def _run(bars: pd.DataFrame, start: int, stop: int) -> pd.DataFrame:
    """Returns some of the bars; all without a view of each column, which takes longer."""
    return bars if stop - start == len(bars) else bars.iloc[start:stop]


def _fill_moves(new, bars, spec: WindowSpec) -> None:
    """Writes what the labels are made of, for the rows of one segment, from its bars alone."""
    horizon, method = spec.future_window, spec.label_method
    close, open_ = bars["close"].to_numpy(np.float64), bars["open"].to_numpy(np.float64)
    new["close"][:] = close[WARM_UP_BARS:]
    new["forward_return"][:] = labelling.forward_return(close, horizon)[WARM_UP_BARS:]
    new["trade_return"][:] = labelling.trade_return(open_, close, horizon)[WARM_UP_BARS:]
    if spec.label_columns == SCORES:
        new["scores"][:] = labelling.label_moves(bars, method, horizon)[WARM_UP_BARS:]
    else:
        new["scale"][:] = labelling.past_scale(close, horizon)[WARM_UP_BARS:]
        for name in ("high", "low"):
            new[name][:] = bars[name].to_numpy(np.float64)[WARM_UP_BARS:]
