import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core.errors import InputError
from data.bars.frames import ONE_SYMBOL
from data.bars.read import read_bars
from data.bars.synthetic import persistent_drift

TIME = "timestamp"


@pytest.fixture(scope="module")
def bars():
    return persistent_drift(num_symbols=2, num_bars=60, seed=1)


@pytest.fixture(scope="module")
def one(bars):
    """The bars of the first symbol, without a column for it."""
    first = bars["symbol"].cat.categories[0]
    return bars[bars["symbol"] == first].drop(columns="symbol").reset_index(drop=True)


def shuffled(frame):
    return frame.sample(frac=1, random_state=0)


def polars_like(frame):
    """A frame of another library: all that is asked of it is its own conversion."""
    return type("DataFrame", (), {"to_pandas": lambda self: frame})()


def lazy(frame):
    whole = polars_like(frame)
    return type("LazyFrame", (), {"lazy": lambda self: self, "collect": lambda self: whole})()


def in_new_york(frame):
    return frame.assign(timestamp=frame[TIME].dt.tz_convert("America/New_York"))


def naive(frame):
    return frame.assign(timestamp=frame[TIME].dt.tz_localize(None))


MANY = {
    "as it is": lambda f: f,
    "in any order": shuffled,
    "by time": lambda f: f.sort_values(TIME),
    "newest first": lambda f: f[::-1],
    "filtered": lambda f: f.set_axis(np.arange(len(f)) * 3 + 5),
    "times in the index": lambda f: f.set_index(TIME),
    "both in the index": lambda f: f.set_index(["symbol", TIME]),
    "index without names": lambda f: f.set_index([TIME, "symbol"]).rename_axis([None, None]),
    "index twice": lambda f: f.set_index(TIME, drop=False),
    "naive times": naive,
    "zoned times": in_new_york,
    "zoned times, unsorted index": lambda f: shuffled(in_new_york(f)).set_index(TIME),
    "times as texts": lambda f: f.assign(timestamp=f[TIME].astype(str)),
    "times in milliseconds": lambda f: f.assign(timestamp=f[TIME].astype("datetime64[ms, UTC]")),
    "epochs": lambda f: f.assign(timestamp=f[TIME].astype("datetime64[s, UTC]").astype(np.int64)),
    "periods": lambda f: naive(f).assign(timestamp=naive(f)[TIME].dt.to_period("min")),
    "capital letters": lambda f: f.rename(columns=str.title),
    "symbols as texts": lambda f: f.assign(symbol=f["symbol"].astype(object)),
    "nullable types": lambda f: f.convert_dtypes(),
    "Arrow types": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "naive Arrow types": lambda f: naive(f).convert_dtypes(dtype_backend="pyarrow"),
    "a table of Arrow": lambda f: pa.Table.from_pandas(f, preserve_index=False),
    "a frame of another library": polars_like,
    "a lazy frame": lazy,
}


@pytest.mark.parametrize("form", MANY)
def test_a_frame_in_any_form_gives_the_same_bars(form, bars):
    given = MANY[form](bars)
    kept = given.copy() if isinstance(given, pd.DataFrame) else None
    pd.testing.assert_frame_equal(read_bars(given), bars)
    if kept is not None:
        pd.testing.assert_frame_equal(given, kept)


ONE = ("as it is", "in any order", "times in the index", "naive times", "zoned times", "periods")


@pytest.mark.parametrize("form", ONE)
def test_bars_without_symbols_are_of_one(form, one):
    found = read_bars(MANY[form](one))
    assert list(found["symbol"].cat.categories) == [ONE_SYMBOL]
    pd.testing.assert_frame_equal(found.drop(columns="symbol"), one)


@pytest.mark.parametrize("level", [0, 1])
def test_fields_beside_tickers_as_yfinance_gives_them_are_many_symbols(level, bars):
    wide = bars.pivot(index=TIME, columns="symbol", values=["open", "high", "low", "close"])
    wide = wide.join(
        pd.concat({"volume": bars.pivot(index=TIME, columns="symbol")["volume"]}, axis=1)
    )
    wide.columns = wide.columns.set_levels(wide.columns.levels[1].astype(str), level=1)
    if level:
        wide = wide.swaplevel(axis=1)
    pd.testing.assert_frame_equal(read_bars(wide), bars)


def test_own_columns_are_kept_where_they_are_asked_for(bars):
    notes = []
    frame = bars.assign(funding=pd.array(np.arange(len(bars)), dtype="Int64"))
    found = read_bars(frame, extra=["funding"], note=notes.append)
    np.testing.assert_array_equal(found["funding"], np.arange(len(bars), dtype=float))
    assert not notes
    read_bars(frame, note=notes.append)
    assert notes == ["columns not used: funding; EXTRA_COLUMNS makes features of them"]


FAULTS = {
    "no frame": (lambda f: [1, 2], "bars must be a DataFrame, the path of a file"),
    "no times": (lambda f: f.drop(columns=TIME), "it lacks timestamp"),
    "no volume": (lambda f: f.drop(columns="volume"), "it lacks volume"),
    "no rows": (lambda f: f[:0], "the frame must hold bars; it has no rows"),
    "no columns": (lambda f: pd.DataFrame(), "the frame has no header and 0 columns"),
    "a missing value": (
        lambda f: f.assign(close=f["close"].where(f.index != 3)),
        "row 4: close is missing",
    ),
    "a missing value of Arrow": (
        lambda f: f.assign(close=f["close"].where(f.index != 3)).convert_dtypes(
            dtype_backend="pyarrow"
        ),
        "row 4: close is missing",
    ),
    "a fault in no order": (
        lambda f: f.assign(close=-f["close"])[::-1],
        "the frame, sorted by symbol and time, symbol bars, row 1: close must be above 0",
    ),
    "no time": (
        lambda f: f.assign(timestamp=f[TIME].where(f.index != 3)),
        "the timestamp must be",
    ),
    "a time twice": (
        lambda f: pd.concat([f, f[20:21]]),
        "sorted by symbol and time, symbol bars, row 22: timestamps must rise within a symbol; "
        "duplicates: 1",
    ),
    "lists": (lambda f: f.assign(close=[[1.0]] * len(f)), "close must hold numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_frame_that_cannot_be_used_is_told_in_one_line(fault, one):
    spoil, words = FAULTS[fault]
    with pytest.raises(InputError) as error:
        read_bars(spoil(one))
    assert len(error.value.faults) == 1
    assert words in error.value.faults[0]
