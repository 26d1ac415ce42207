"""All features that ONE symbol's bars give; row t uses bars up to t only."""

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
