"""Times as files write them: epochs of any unit, calendar numbers and texts, all to UTC."""

import re

import numpy as np
import pandas as pd

from core.i18n import _

MONTH_FIRST = re.compile(r"\s*\d\d?[/-]\d\d?[/-]\d{4}\b")
TWO_DIGITS = re.compile(
    r"\s*(?:\d\d?[-/. ](?:\d\d?|[A-Za-z]{3,9})[-/. ]\d\d|\d\d(?:0[1-9]|1[0-2])[0-3]\d)(?:\D.*)?"
)
WHOLE_TIME = re.compile(r"\s*(?:\d{4}-\d\d-\d\d.*|\d{9,}(?:\.\d*)?)")
CLOCK = r"(?P<hour>\d\d?):(?P<rest>\d\d(?::\d\d(?:\.\d+)?)?)\s*(?P<half>[AaPp])\.?[Mm]\.?"
FACTORS = np.array([10**9, 10**6, 10**3, 1])  # of seconds to nanoseconds: the units of epochs
SIZES = np.array([1e11, 1e14, 1e17])  # from which on an epoch after March 1973 has the next unit
FIRST, LAST = -2_208_988_800, 7_258_118_400  # seconds: bars lie from 1900 to 2200
EARLY = 631_152_000  # 1990: epochs before may be small ones of a finer unit
LONGEST = 9_223_372_036  # seconds about 1970 that 64 bits of nanoseconds hold: 1678 to 2261
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

    The unit of an epoch belongs to the file: small numbers are not seconds where others would lie
    in the year 4384 then. One file may change its unit on the way, as Binance did in 2025.
    """
    if pd.api.types.is_datetime64_any_dtype(raw):
        times = pd.to_datetime(raw, utc=True)
    elif (numbers := pd.to_numeric(raw, errors="coerce")).notna().mean() > 0.5:
        times = _from_numbers(numbers)
    else:
        times = _from_texts(raw)
    return _in_nanoseconds(times)


def complaint(value) -> str:
    """Returns what is wrong with a value that is no time, and what to do."""
    text = str(value)
    if TWO_DIGITS.fullmatch(text):
        return _("the timestamp has a year of two digits; write it as YYYY-MM-DD")
    if MONTH_FIRST.match(text):
        return _("the timestamp may be month first or day first; write it as YYYY-MM-DD")
    if re.match(r"\s*\d{4,}-\d\d-\d\d", text):
        return _("the timestamp must be a real date between 1678 and 2261, as YYYY-MM-DD")
    return _("the timestamp must be an epoch time or ISO 8601 text")


def is_time_of_day(text: str) -> bool:
    """Says whether a text is a time without a date, such as 09:30, 9:30 PM, 093000 or 930."""
    form = r"\s*(?:\d\d?:\d\d(?::\d\d(?:\.\d+)?)?(?:\s*[AaPp]\.?[Mm]\.?)?|\d{1,6})\s*"
    return bool(re.fullmatch(form, text))


def is_whole_time(text: str) -> bool:
    """Says whether a text has a date in it, or is an epoch."""
    return bool(WHOLE_TIME.fullmatch(text))


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
        clocks = _of_24_hours(clocks).str.replace(r"^(\d):", r"0\1:", regex=True)
    return _rewritten(days.astype(str).str.strip()) + " " + clocks


def _of_24_hours(texts: pd.Series) -> pd.Series:
    """Returns texts that end in a time of the day with its AM and PM counted in."""
    parts = texts.astype(str).str.extract(f"^(?P<day>.*?){CLOCK}$")
    halves = parts["half"].notna()
    hours = pd.to_numeric(parts["hour"], errors="coerce")
    halves &= hours.between(1, 12)
    if not halves.any():
        return texts
    hours = hours % 12 + 12 * (parts["half"].str.lower() == "p")
    hours = hours.fillna(0).astype(int).astype(str).str.zfill(2)
    return texts.where(~halves, parts["day"] + hours + ":" + parts["rest"])


def _from_numbers(numbers: pd.Series) -> pd.Series:
    values = numbers.to_numpy()
    if values.dtype.kind not in "iuf":
        values = numbers.to_numpy(np.float64, na_value=np.nan)
    known = np.isfinite(values)
    if not known.any():
        return _none(numbers.index)
    finite = values if known.all() else values[known]
    low, high = finite.min(), finite.max()
    for first, last, form in CALENDARS:
        if first <= low and high <= last:
            texts = pd.Series(np.where(known, values, 0).astype(np.int64)).astype(str)
            times = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
            if times.notna().to_numpy()[known].all():
                return times.set_axis(numbers.index)
    largest = max(abs(low), abs(high))
    # A row's number, a spreadsheet's day, a day without its century: no epoch.
    if largest < 1e6 or (largest < 1e8 and (finite % 60 != 0).any()):
        return _none(numbers.index)
    return _from_epochs(values, known, numbers.index)


def _none(index: pd.Index) -> pd.Series:
    return pd.Series(pd.NaT, index=index, dtype="datetime64[ns, UTC]")


def _from_epochs(values: np.ndarray, known: np.ndarray, index: pd.Index) -> pd.Series:
    with np.errstate(over="ignore"):  # of what is no time: infinite, and missing
        factors = _factors(values, known)
        missing = ~known | (np.abs(values.astype(np.float64)) * factors > 9.2e18)
    values = np.where(missing, 0, values) if missing.any() else values
    whole = np.floor(values).astype(np.int64)
    nanoseconds = whole * factors
    if values.dtype.kind == "f":
        nanoseconds += np.rint((values - whole) * factors).astype(np.int64)
    times = nanoseconds.view("datetime64[ns]")
    times[missing] = np.datetime64("NaT")
    return pd.Series(pd.DatetimeIndex(times, tz="UTC"), index=index)


def _factors(values: np.ndarray, known: np.ndarray) -> np.ndarray | int:
    """Returns what makes nanoseconds of epochs: of all of them, or of each (rows,)."""
    finite = values if known.all() else values[known]
    ends = np.array([finite.min(), finite.max()], np.float64)
    units = np.searchsorted(SIZES, ends, side="right")
    if ends[0] > 0 and units[0] == units[1] and ends[0] * FACTORS[units[0]] / 1e9 >= EARLY:
        if ends[1] * FACTORS[units[0]] / 1e9 <= LAST:
            return FACTORS[units[0]]  # as of nearly every file; no more arrays are made of it
    as_floats = finite.astype(np.float64)
    units = np.searchsorted(SIZES, np.abs(values.astype(np.float64)), side="right")
    each = FACTORS[units]
    if _are_bars(as_floats * each[known] / 1e9):
        same = (each == each[0]).all()
        return each[0] if same else each
    for factor in FACTORS:  # the coarsest unit in which all lie among the bars that there are
        if _are_bars(as_floats * factor / 1e9):
            return factor
    return each


def _are_bars(seconds: np.ndarray) -> bool:
    """Says whether there are bars of these times, in seconds since 1970.

    Before 1990 they may be numbers of a finer unit: then all steps are thousands of minutes.
    """
    first, last = seconds.min(), seconds.max()
    if not (FIRST <= first and last <= LAST):
        return False
    if first >= EARLY or len(seconds) < 3:
        return True
    return bool((np.diff(seconds) % 60_000 != 0).any())


def _from_texts(raw: pd.Series) -> pd.Series:
    texts = raw.astype(str).str.strip()
    times = _parsed(texts)
    if times.isna().any():
        texts = _rewritten(_of_24_hours(texts))
        times = _parsed(texts)
    return times


def _parsed(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")


def _in_nanoseconds(times: pd.Series) -> pd.Series:
    """Returns times as nanoseconds, NaT for those that 64 bits cannot hold."""
    unit = getattr(times.dtype, "unit", "ns")
    if unit != "ns":
        most = LONGEST * {"s": 1, "ms": 10**3, "us": 10**6}[unit]
        stamps = times.to_numpy(f"datetime64[{unit}]").view(np.int64)
        far = (stamps > most) | (stamps < -most)  # so is what NaT is stored as
        times = times.mask(far) if far.any() else times
    return times.astype("datetime64[ns, UTC]")


def _rewritten(texts: pd.Series) -> pd.Series:
    for pattern, form in REWRITTEN:
        texts = texts.str.replace(pattern, form, regex=True)
    return texts
