"""The bundled real bars used when no path is given."""

from collections.abc import Sequence

import pandas as pd

from data.bars.checks import check_bars
from data.bars.formats.faults import PRICES


def load_sample(extra: Sequence[str] = ()) -> pd.DataFrame:
    """Returns daily bars of five US stocks, 2000 to 2013, adjusted for splits and dividends.

    The package bokeh_sampledata ships raw open, high, low and close beside an adjusted close:
    all four are scaled by adjusted / raw close, or a 2:1 split would look like a crash.

    Raises:
        InputError: where own columns are asked for, as there are none.
    """
    from bokeh_sampledata import stocks

    raw = stocks.data
    scale = raw["adj_close"] / raw["close"]
    frame = pd.DataFrame({name: raw[name] * scale for name in PRICES})
    frame["volume"] = raw["volume"].astype("float64")
    frame["timestamp"] = raw["date"]
    frame["symbol"] = raw["ticker"].astype(str)
    # A few published highs and lows miss the open or the close by the rounding of a cent.
    frame["high"] = frame[list(PRICES)].max(axis=1)
    frame["low"] = frame[list(PRICES)].min(axis=1)
    return check_bars(frame, "sample bars", extra=extra)
