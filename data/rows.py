"""Makes the rows of a market from bars: features and moves, one symbol after the other.

Memory is that of the rows: the bars of a symbol go when its rows are there.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data import labels as labelling
from data.errors import InputError
from data.features import WARM_UP_BARS, feature_names, fill_features, is_intraday
from data.memory import give_back
from data.store import FolderTable, MemoryTable
from data.windows import bar_interval_ns, segment_bounds, symbol_bounds

SCORES, PATH = ("scores",), ("close", "high", "low", "scale")  # what labels are made of
_COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Rules:
    """How windows and labels are made; see `data.market.build_market`."""

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
    rules: Rules,
    feature_store: str | Path | None,
    note: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], dict]:
    """Returns the columns of all rows with complete features, and what else is known of them.

    Args:
        bars: as `data.market.build_market` takes them.
        rules: of the windows and labels.
        feature_store: folder for memory-mapped rows; None keeps them in memory.
        note: called with a sentence about every symbol that is skipped.

    Returns:
        columns by name: those of `data.market.Market`, then for the barriers those of `PATH`, for
        other labels the `scores` of `data.labels.label_moves`; and other attributes of a market,
        with what was dropped so far.

    Raises:
        InputError: if no symbol is long enough.
    """
    room = _num_rows(bars, rules) if isinstance(bars, pd.DataFrame) else 0
    table = MemoryTable(room) if feature_store is None else FolderTable(feature_store)
    parts = by_symbol(bars)
    del bars
    names, skipped, intervals, bounds, num_rows, intraday = [], [], [], [], 0, None
    for bars in parts:
        symbol = str(bars["symbol"].iloc[0])
        if len(bars) < rules.num_bars_needed:
            skipped.append(f"{symbol} has {len(bars)}")
            note(f"symbol {symbol} is skipped: {_needs(rules)}; it has {len(bars)}")
            continue
        intraday = is_intraday(bars) if intraday is None else intraday
        new = table.grow(len(bars) - WARM_UP_BARS, _kinds(intraday, rules))
        _fill_symbol(new, bars, len(names), intraday, rules)
        intervals.append(bar_interval_ns(new["timestamps"]))
        bounds.append(_first_rows(bars, rules) + num_rows)
        num_rows += len(new["symbols"])
        names.append(symbol)
        del bars, new
        give_back()
    if not names:
        raise InputError(f"{_needs(rules)}; {', '.join(skipped) or 'there are no bars'}")
    facts = {
        "feature_names": feature_names(intraday),
        "symbol_names": tuple(names),
        "intraday": intraday,
        "interval_seconds": float(np.median(intervals)) / 1e9,
        "bounds": np.concatenate([*bounds, [num_rows]]),
        "dropped": {
            "symbols too short": len(skipped),
            "warm-up rows": WARM_UP_BARS * len(names),
        },
    }
    return table.finish(), facts


def by_symbol(bars: pd.DataFrame | Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yields the bars of one symbol at a time and lets go of those already used.

    Args:
        bars: as `data.bars.read_bars` returns them; an iterable of frames of one symbol each is
            passed on.
    """
    if not isinstance(bars, pd.DataFrame):
        yield from bars
        return
    codes = bars["symbol"].cat.codes.to_numpy()
    names = bars["symbol"].cat.categories
    bounds = symbol_bounds(codes)
    parts = [
        (names[codes[start]], {}, start, stop)
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    left = bars.copy(deep=False)  # of its own columns, each of which goes when it is divided
    del bars
    for name in _COLUMNS:
        values = left.pop(name).to_numpy("datetime64[ns]" if name == "timestamp" else float)
        for _, columns, start, stop in parts:
            columns[name] = values[start:stop].copy()
        del values
    del codes, left, columns
    give_back()
    while parts:
        yield _frame(*parts.pop(0))  # which nothing here holds on to


def _frame(symbol: str, columns: dict[str, np.ndarray], start: int, stop: int) -> pd.DataFrame:
    columns["symbol"] = pd.Categorical.from_codes(np.zeros(stop - start, np.int8), [symbol])
    return pd.DataFrame(columns, copy=False)


def _num_rows(bars: pd.DataFrame, rules: Rules) -> int:
    """Returns how many rows the bars give."""
    counts = np.bincount(bars["symbol"].cat.codes.to_numpy())
    return int((counts[counts >= rules.num_bars_needed] - WARM_UP_BARS).sum())


def _needs(rules: Rules) -> str:
    return (
        f"a symbol needs at least {rules.num_bars_needed} bars ({WARM_UP_BARS} of warm-up, "
        f"{rules.sequence_length} of a window, {rules.future_window} of its label)"
    )


def _kinds(intraday: bool, rules: Rules) -> dict:
    """Returns dtype and shape of a row for every column of the table."""
    # Single precision for prices too: of 717,690 barrier labels of real bars it changes 6.
    numbers = ("forward_return", "trade_return", *rules.label_columns)
    return {
        "features": (np.float32, (len(feature_names(intraday)),)),
        "timestamps": ("datetime64[ns]", ()),
        "symbols": (np.int16, ()),
    } | {name: (np.float32, ()) for name in numbers}


def _fill_symbol(new, bars, code: int, intraday: bool, rules: Rules) -> None:
    """Writes the rows of one symbol, its bars after the warm-up, into the columns."""
    horizon, method = rules.future_window, rules.label_method
    fill_features(bars, new["features"], intraday=intraday)
    new["timestamps"][:] = bars["timestamp"].to_numpy("datetime64[ns]")[WARM_UP_BARS:]
    new["symbols"][:] = code
    close, open_ = bars["close"].to_numpy(np.float64), bars["open"].to_numpy(np.float64)
    new["forward_return"][:] = labelling.forward_return(close, horizon)[WARM_UP_BARS:]
    new["trade_return"][:] = labelling.trade_return(open_, close, horizon)[WARM_UP_BARS:]
    if rules.label_columns == SCORES:
        new["scores"][:] = labelling.label_moves(bars, method, horizon)[WARM_UP_BARS:]
    else:
        new["scale"][:] = labelling.past_scale(close, horizon)[WARM_UP_BARS:]
        for name in ("close", "high", "low"):
            new[name][:] = bars[name].to_numpy(np.float64)[WARM_UP_BARS:]
    stops = [*_first_rows(bars, rules)[1:], len(new["symbols"])]
    for name in {"forward_return", "trade_return", "scores"} & set(new):
        for stop in stops:
            new[name][max(stop - horizon, 0) : stop] = np.nan  # would look across a hole


def _first_rows(bars, rules: Rules) -> np.ndarray:
    """Returns the first rows of one symbol's segments, counted after its warm-up."""
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    bounds = segment_bounds(np.zeros(len(times), np.int8), times, rules.max_gap_bars)
    return np.unique(np.maximum(bounds[:-1] - WARM_UP_BARS, 0))
