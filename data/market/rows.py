"""Makes the rows of a market from bars: features and moves, one symbol after the other.

Memory is that of the rows: the bars of a symbol go when its rows are there.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from core.memory import release_memory
from data.market import labels as labelling
from data.market.features import (
    WARM_UP_BARS,
    feature_names,
    fill_features,
    is_intraday,
)
from data.market.store import FolderTable, MemoryTable, open_store
from data.market.store_folder import broken_is_refused, read_index
from data.market.windows import bar_interval_ns, segment_bounds, symbol_bounds

SCORES, PATH = ("scores",), ("close", "high", "low", "scale")  # what labels are made of
_COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


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
        note: called with a sentence about every symbol that is skipped.

    Returns:
        columns by name: those of `data.market.market.Market`, then for the barriers those of
        `PATH`, for other labels the `scores` of `data.market.labels.label_moves`; and other
        attributes of a market, with what was dropped so far.

    Raises:
        InputError: if no symbol is long enough.
    """
    room = _num_rows(bars, spec) if isinstance(bars, pd.DataFrame) else 0
    table = MemoryTable(room) if feature_store is None else FolderTable(feature_store)
    names, skipped, intervals, bounds, num_rows, intraday = [], [], [], [], 0, None
    for own in by_symbol(bars):
        symbol = str(own["symbol"].iloc[0])
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
        intraday = is_intraday(own) if intraday is None else intraday
        new = table.grow(len(own) - WARM_UP_BARS, _kinds(intraday, spec))
        bounds.append(_fill_symbol(new, own, len(names), intraday, spec)[:-1] + num_rows)
        intervals.append(bar_interval_ns(new["timestamps"]))
        num_rows += len(new["symbols"])
        names.append(symbol)
        del own, new  # before the next symbol is divided off, which gives their memory up
    if not names:
        what = ", ".join(skipped) or _("there are no bars")
        raise InputError(f"{_needs(spec)}; {what}")
    facts = {
        "feature_names": feature_names(intraday),
        "symbol_names": tuple(names),
        "intraday": intraday,
        "interval_seconds": float(np.median(intervals)) / 1e9,
        "bounds": np.concatenate([*bounds, [num_rows]]),
        "dropped": {
            N_("symbols too short"): len(skipped),
            N_("warm-up rows"): WARM_UP_BARS * len(names),
        },
    }
    written = facts | {"bounds": facts["bounds"].tolist()}
    return table.finish(written), facts


def open_rows(feature_store: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Returns what `make_rows` returned when it made a feature store; the columns are mapped.

    Raises:
        InputError: if the folder is no feature store, or it was never finished.
    """
    facts = read_index(feature_store).get("facts")
    if not facts:
        raise InputError(
            _("the feature store {folder} is not finished: make it again", folder=feature_store)
        )
    with broken_is_refused(feature_store):
        facts |= {name: tuple(facts[name]) for name in ("feature_names", "symbol_names")}
        facts |= {"bounds": np.array(facts["bounds"])}
    return open_store(feature_store), facts


def fill_rows(
    bars: pd.DataFrame,
    features: np.ndarray,
    timestamps: np.ndarray,
    *,
    intraday: bool,
    max_gap_bars: int,
) -> np.ndarray:
    """Writes the last rows of ONE symbol, as training and predicting both see them.

    Holes are looked for among all bars: what is a hole depends on when the symbol trades.

    Args:
        bars: of the symbol, sorted by time.
        features: float32 (rows, features) to be filled, at least 1 row and at most
            bars - WARM_UP_BARS.
        timestamps: datetime64[ns] (rows,) to be filled.
        intraday: as `data.market.features.compute_features` takes it.
        max_gap_bars: missed trading bars that a window may cross.

    Returns:
        first rows of the segments, runs without a hole, then the number of rows,
        int64 (segments + 1,).
    """
    num_rows = len(features)
    fill_features(bars, features, intraday=intraday)
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    timestamps[:] = times[-num_rows:]
    bounds = segment_bounds(np.zeros(len(times), np.int8), times, max_gap_bars)
    return np.unique(np.maximum(bounds - (len(times) - num_rows), 0))


def by_symbol(bars: pd.DataFrame | Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yields the bars of one symbol at a time and lets go of those already used.

    Args:
        bars: as `data.bars.read.read_bars` returns them; an iterable of frames of one symbol each
            is passed on.
    """
    if not isinstance(bars, pd.DataFrame):
        yield from bars
        return
    parts = _divided(bars)
    del bars
    release_memory()  # the undivided columns, where the caller has let go of them
    while parts:
        yield _frame(*parts.pop(0))  # which nothing here holds on to
        release_memory()  # what was made on the way to the symbol's rows


def _divided(bars: pd.DataFrame) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Returns name and columns of every symbol, copied column by column."""
    codes = bars["symbol"].cat.codes.to_numpy()
    names = bars["symbol"].cat.categories
    bounds = symbol_bounds(codes)
    parts = [(names[codes[start]], {}) for start in bounds[:-1]]
    for name in _COLUMNS:
        values = bars[name].to_numpy("datetime64[ns]" if name == "timestamp" else float)
        for (_name, columns), start, stop in zip(parts, bounds[:-1], bounds[1:], strict=True):
            columns[name] = values[start:stop].copy()
    return parts


def _frame(symbol: str, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    codes = np.zeros(len(columns["timestamp"]), np.int8)
    symbols = pd.Categorical.from_codes(codes, [symbol])
    return pd.DataFrame({**columns, "symbol": symbols}, copy=False)


def _num_rows(bars: pd.DataFrame, spec: WindowSpec) -> int:
    """Returns how many rows the bars give."""
    counts = np.bincount(bars["symbol"].cat.codes.to_numpy())
    return int((counts[counts >= spec.num_bars_needed] - WARM_UP_BARS).sum())


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
    numbers = ("forward_return", "trade_return", *spec.label_columns)
    return {
        "features": (np.float32, (len(feature_names(intraday)),)),
        "timestamps": ("datetime64[ns]", ()),
        "symbols": (np.int16, ()),
    } | {name: (np.float32, ()) for name in numbers}


def _fill_symbol(new, bars, code: int, intraday: bool, spec: WindowSpec) -> np.ndarray:
    """Writes the rows of one symbol into the columns, and returns the bounds of its segments."""
    horizon, method = spec.future_window, spec.label_method
    bounds = fill_rows(
        bars,
        new["features"],
        new["timestamps"],
        intraday=intraday,
        max_gap_bars=spec.max_gap_bars,
    )
    new["symbols"][:] = code
    close, open_ = bars["close"].to_numpy(np.float64), bars["open"].to_numpy(np.float64)
    new["forward_return"][:] = labelling.forward_return(close, horizon)[WARM_UP_BARS:]
    new["trade_return"][:] = labelling.trade_return(open_, close, horizon)[WARM_UP_BARS:]
    if spec.label_columns == SCORES:
        new["scores"][:] = labelling.label_moves(bars, method, horizon)[WARM_UP_BARS:]
    else:
        new["scale"][:] = labelling.past_scale(close, horizon)[WARM_UP_BARS:]
        for name in ("close", "high", "low"):
            new[name][:] = bars[name].to_numpy(np.float64)[WARM_UP_BARS:]
    for name in {"forward_return", "trade_return", "scores"} & set(new):
        for stop in bounds[1:]:
            new[name][max(stop - horizon, 0) : stop] = np.nan  # would look across a hole
    return bounds
