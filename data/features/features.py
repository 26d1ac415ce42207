"""The features and rows that ONE symbol's bars give; row t uses bars up to t only."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from data.features.extra import fill_extra
from data.features.indicators import FEATURE_NAMES, INTRADAY_NAMES, fill_indicators
from data.features.settings import FeatureSettings
from data.features.timeframes import COLUMNS, fill_timeframe

INDICATORS = FeatureSettings()  # nothing beside them


def feature_names(intraday: bool) -> tuple[str, ...]:
    """Returns the names of the columns of the indicators alone, in their order."""
    return INDICATORS.own_names(intraday=intraday)


def compute_features(
    bars: pd.DataFrame, *, intraday: bool, settings: FeatureSettings = INDICATORS
) -> pd.DataFrame:
    """Returns the features that ONE symbol's own bars give.

    Where a symbol has a hole in time, the bars after it are to be given by themselves.

    Args:
        bars: `timestamp`, `open`, `high`, `low`, `close`, `volume`, sorted by time.
        intraday: adds time of day and day of week (UTC) as sine and cosine.
        settings: which features there are.

    Returns:
        float32 (bars, features) with the index of `bars`; the first `settings.warm_up_bars` rows
        are NaN.

    Raises:
        ValueError: if the frame holds several symbols.

    Examples:
        >>> from data.bars.read import read_bars
        >>> bars = read_bars("synthetic:walk?bars=300&symbols=1")
        >>> features = compute_features(bars, intraday=True)
        >>> features.shape, int(features.isna().any(axis=1).sum())  # of the warm-up
        ((300, 30), 150)
    """
    if "symbol" in bars and bars["symbol"].nunique() > 1:
        raise ValueError("features need the bars of one symbol; they depend on the bars before")
    names = settings.own_names(intraday=intraday)
    values = np.full((len(bars), len(names)), np.nan, np.float32)
    fill_features(bars, values[settings.warm_up_bars :], intraday=intraday, settings=settings)
    return pd.DataFrame(values, index=bars.index, columns=list(names))


def fill_features(
    bars: pd.DataFrame,
    out: np.ndarray,
    *,
    intraday: bool,
    settings: FeatureSettings = INDICATORS,
) -> None:
    """Writes the features of the last of ONE symbol's bars into an array.

    Args:
        bars: as `compute_features` takes them.
        out: float32 (rows, features), at most bars - `settings.warm_up_bars` rows; columns beyond
            those of the symbol's own bars are left as they are.
        intraday: as in `compute_features`.
        settings: which features there are.
    """
    if len(bars) <= settings.warm_up_bars:
        return
    stop = len(FEATURE_NAMES) + len(INTRADAY_NAMES) * intraday
    fill_indicators(bars, out[:, :stop], intraday=intraday)
    for factor in settings.timeframes:
        start, stop = stop, stop + len(COLUMNS)
        fill_timeframe(bars, factor, out[:, start:stop])
    start, stop = stop, stop + len(settings.extra)
    fill_extra(bars, settings.extra, out[:, start:stop], max_gap_bars=settings.fill_bars)
    if settings.own:
        settings.own.fill(bars, out[:, stop : stop + len(settings.own.names)])


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
        fill_features(
            bars_of(bars, start, stop), features[part], intraday=intraday, settings=settings
        )
        timestamps[part] = times[start:stop][part.start - part.stop :]
        bounds.insert(0, part.start)
    return np.array(bounds, np.int64)


def bars_of(bars: pd.DataFrame, start: int, stop: int) -> pd.DataFrame:
    """Returns the bars of a run; all of them without a view of each column, which takes longer."""
    return bars if stop - start == len(bars) else bars.iloc[start:stop]
