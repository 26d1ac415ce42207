"""Times as files write them: epochs of any unit, calendar numbers and texts, all to UTC."""

import re

import numpy as np
import pandas as pd

from core.i18n import _

MONTH_FIRST = re.compile(r"\s*\d\d?[/-]\d\d?[/-]\d{2,4}\b")
SIZES, FACTORS = np.array([1e11, 1e14, 1e17]), np.array([10**9, 10**6, 10**3, 1])
CALENDARS = [
    (19000101, 21001231, "%Y%m%d"),
    (190001010000, 210012312359, "%Y%m%d%H%M"),
    (19000101000000, 21001231235959, "%Y%m%d%H%M%S"),
]
REWRITTEN = [
    (r"\s*GMT([+-]\d{4})$", r"\1"),
    (r"\s*(?:UTC|GMT)$", ""),
    (r"^(\d{4})[./](\d\d)[./](\d\d)", r"\1-\2-\3"),
    (r"^(\d\d)\.(\d\d)\.(\d{4})", r"\3-\2-\1"),
    (r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3"),
    (r"^(\d{4})(\d\d)(\d\d)[ T](\d\d)(\d\d)(\d\d)$", r"\1-\2-\3 \4:\5:\6"),
]


def read_times(raw: pd.Series) -> pd.Series:
    """Returns the times as datetime64[ns, UTC]; what cannot be read is NaT.

    The unit of an epoch is decided for each value, because one file may change it on the way.
    """
    if pd.api.types.is_datetime64_any_dtype(raw):
        times = pd.to_datetime(raw, utc=True)
    elif (numbers := pd.to_numeric(raw, errors="coerce")).notna().mean() > 0.5:
        times = _from_numbers(numbers)
    else:
        times = _from_texts(raw)
    return times.astype("datetime64[ns, UTC]")


def complaint(value) -> str:
    """Returns what is wrong with a value that is no time, and what to do."""
    if isinstance(value, str) and MONTH_FIRST.match(value):
        return _("the timestamp may be month first or day first; write it as YYYY-MM-DD")
    return _("the timestamp must be an epoch time or ISO 8601 text")


def is_time_of_day(text: str) -> bool:
    """Says whether a text is a time without a date, such as 09:30, 093000 or 930."""
    return bool(re.fullmatch(r"\s*(?:\d\d?:\d\d(?::\d\d(?:\.\d+)?)?|\d{1,6})\s*", text))


def day_and_time(days: pd.Series, clocks: pd.Series) -> pd.Series:
    """Returns one text of two columns, a day and a time of the day."""
    clocks = clocks.astype(str).str.strip()
    if not clocks.str.contains(":").any():
        width = 4 if clocks.str.len().max() <= 4 else 6
        digits = clocks.str.zfill(width)
        clocks = digits.str[:2] + ":" + digits.str[2:4]
        if width == 6:
            clocks = clocks + ":" + digits.str[4:]
    else:
        clocks = clocks.str.replace(r"^(\d):", r"0\1:", regex=True)
    return _rewritten(days.astype(str).str.strip()) + " " + clocks


def _from_numbers(numbers: pd.Series) -> pd.Series:
    known = numbers.dropna()
    low, high = known.min(), known.max()
    for first, last, form in CALENDARS:
        if first <= low and high <= last:
            texts = numbers.fillna(0).astype("int64").astype(str)
            times = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
            if times[known.index].notna().all():
                return times
    if max(abs(low), abs(high)) < 1e8:  # a row's number or a spreadsheet's day, not an epoch
        return pd.Series(pd.NaT, index=numbers.index, dtype="datetime64[ns, UTC]")
    values = numbers.to_numpy()
    units = np.searchsorted(SIZES, [abs(low), abs(high)], side="right")
    if low >= 0 and units[0] == units[1]:
        factors = FACTORS[units[0]]
    else:
        factors = FACTORS[np.searchsorted(SIZES, np.abs(values), side="right")]
    missing = np.isnan(values) | (np.abs(values.astype(float)) * factors > 9.2e18)
    values = np.where(missing, 0, values) if missing.any() else values
    whole = np.floor(values).astype(np.int64)
    nanoseconds = whole * factors
    if values.dtype.kind == "f":
        nanoseconds += np.rint((values - whole) * factors).astype(np.int64)
    times = nanoseconds.view("datetime64[ns]")
    times[missing] = np.datetime64("NaT")
    return pd.Series(times, index=numbers.index).dt.tz_localize("UTC")


def _from_texts(raw: pd.Series) -> pd.Series:
    texts = raw.astype(str).str.strip()
    times = pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
    if times.isna().any():
        texts = _rewritten(texts)
        times = pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
    return times


def _rewritten(texts: pd.Series) -> pd.Series:
    for pattern, form in REWRITTEN:
        texts = texts.str.replace(pattern, form, regex=True)
    return texts
