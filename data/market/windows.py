"""Finds windows over feature rows as index arrays; they are gathered only when needed.

A window is named by its end row: it shows rows end - L + 1 .. end, and its label looks at rows
end + 1 .. end + H. Neither may cross a symbol or a hole in time.
"""

import numpy as np

_DAY = 86_400_000_000_000  # nanoseconds
_WEEK = 7 * _DAY
_MONDAY = 4 * _DAY  # 1970-01-05, the first Monday of the epoch
USUAL_SHARE = 0.75  # a slot of the week trades usually if it does in this share of the weeks


def segment_bounds(symbols: np.ndarray, timestamps: np.ndarray, max_gap_bars: int) -> np.ndarray:
    """Returns the first rows of the segments (runs without a hole), then the number of rows.

    Returns:
        int64 (segments + 1,): segment i has the rows bounds[i] .. bounds[i + 1] - 1.
    """
    if max_gap_bars < 0:
        raise ValueError(f"the largest gap must be at least 0 bars, got {max_gap_bars}")
    bounds = symbol_bounds(symbols)
    holes = [
        start + 1 + np.flatnonzero(missed_bars(timestamps[start:stop]) > max_gap_bars)
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return np.unique(np.concatenate([bounds, *holes]))


def symbol_bounds(symbols: np.ndarray) -> np.ndarray:
    """Returns the first row of every symbol, then the number of rows, int64 (symbols + 1,)."""
    changes = np.flatnonzero(symbols[1:] != symbols[:-1]) + 1
    return np.unique(np.concatenate([[0], changes, [len(symbols)]])).astype(np.int64)


def ends_within(bounds: np.ndarray, sequence_length: int, future_window: int) -> np.ndarray:
    """Returns the end rows of the windows that fit, with their labels, into the segments."""
    if sequence_length < 1 or future_window < 0:
        raise ValueError(
            "a window must have at least 1 bar and a label at least 0, "
            f"got {sequence_length} and {future_window}"
        )
    dtype = np.int32 if bounds[-1] < 1 << 31 else np.int64
    first, stops = bounds[:-1] + sequence_length - 1, bounds[1:] - future_window
    counts = np.maximum(stops - first, 0)
    places = np.cumsum(counts)
    ends = np.empty(counts.sum(), dtype)
    for start, count, place in zip(first, counts, places - counts, strict=True):
        ends[place : place + count] = np.arange(start, start + count)
    return ends


def first_window_ends(ends: np.ndarray, bounds: np.ndarray, sequence_length: int) -> np.ndarray:
    """Returns the first end row that a window may have in the segment of each window, (windows,).

    A time shift may move a window back to it, never further. The ends must rise.
    """
    counts = np.diff(np.searchsorted(ends, bounds))
    return np.repeat((bounds[:-1] + sequence_length - 1).astype(ends.dtype), counts)


def gather(features: np.ndarray, ends: np.ndarray, sequence_length: int) -> np.ndarray:
    """Returns the bars of some windows: a float32 copy (windows, time, features).

    `features` (rows, features) may be memory-mapped; only the rows asked for are read.
    """
    num_features = features.shape[1]
    flat = np.asarray(features).reshape(-1)
    # A window is one run of memory, so that each costs one copy of a block.
    view = np.lib.stride_tricks.sliding_window_view(flat, sequence_length * num_features)
    blocks = view[::num_features][np.asarray(ends) - sequence_length + 1]
    return blocks.reshape(len(ends), sequence_length, num_features)


def subsample(count: int, limit: int) -> np.ndarray:
    """Returns at most `limit` positions of `count`, evenly spaced; all where the limit is 0."""
    if not limit or count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def subsample_by_class(labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Returns at most `limit` positions, increasing; classes share the limit evenly.

    A class with fewer windows than its share gives all it has, and the others get the rest.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    chosen, left = [], limit
    groups = sorted((np.flatnonzero(labels == c) for c in np.unique(labels)), key=len)
    for num_done, members in enumerate(groups):
        share = min(len(members), left // (len(groups) - num_done))
        chosen.append(rng.choice(members, share, replace=False))
        left -= share
    return np.sort(np.concatenate(chosen))


def spans(
    ends: np.ndarray, timestamps: np.ndarray, sequence_length: int, future_window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times of a window's first bar and of the last bar that its label sees.

    Returns:
        two arrays datetime64[ns] (windows,).
    """
    return timestamps[ends - sequence_length + 1], timestamps[ends + future_window]


def missed_bars(timestamps: np.ndarray) -> np.ndarray:
    """Returns how many bars that usually trade are missing before each bar but the first.

    The week is divided into slots of one bar interval. A slot is usual if it trades in at least
    three quarters of the weeks that have bars, so nights, weekends and the two hours that summer
    time moves do not count as missing, and a month without bars is no habit. Below three weeks
    there is too little to learn from: then a time of day that never trades on any of three days or
    more is not usual, nor is a Saturday or Sunday that never trades. Where less than half of the
    bars lie in usual slots no calendar explains the bars, and every slot counts. The calendar is
    learnt from all bars of the symbol: it decides which windows exist, never a value in one.

    Args:
        timestamps: datetime64[ns] (bars,) of one symbol, rising.

    Returns:
        int64 (bars - 1,).
    """
    if len(timestamps) < 2:
        return np.zeros(0, np.int64)
    interval = int(bar_interval_ns(timestamps))
    times = timestamps.astype("datetime64[ns]").astype(np.int64)
    # Slots are centred on the first bar's time, so that small delays do not change a bar's slot.
    origin = times[0] - (times[0] - _MONDAY) % _WEEK
    phase = (times[0] - origin) % interval
    steps = (times - origin - phase + interval // 2) // interval  # slots since the first Monday
    if _WEEK % interval:
        return np.maximum(np.diff(steps) - 1, 0)
    usual = _usual_slots(steps, _WEEK // interval)
    if usual[steps % len(usual)].mean() < 0.5:
        usual = np.ones(len(usual), bool)
    before = _count_usual(steps, usual)
    return np.maximum(before[1:] - before[:-1] - usual[steps[:-1] % len(usual)], 0)


def bar_interval_ns(timestamps: np.ndarray) -> int:
    """Returns the median spacing of one symbol's bars in nanoseconds, 1 for a single bar."""
    if len(timestamps) < 2:
        return 1
    return max(int(np.median(np.diff(timestamps.astype("datetime64[ns]").astype(np.int64)))), 1)


def _usual_slots(steps: np.ndarray, per_week: int) -> np.ndarray:
    """Returns which slots of the week usually trade, bool (slots of a week,)."""
    steps = steps[np.diff(steps, prepend=steps[0] - 1) != 0]  # they rise
    traded = np.bincount(steps % per_week, minlength=per_week)
    weeks = steps[np.flatnonzero(np.diff(steps // per_week, prepend=-1))] // per_week
    if steps[-1] - steps[0] >= 3 * per_week and len(weeks) >= 3:
        slots = np.arange(per_week)
        # The first week and the last are offered from the first bar and up to the last one only.
        cut = (slots < steps[0] % per_week) * 1 + (slots > steps[-1] % per_week)
        return traded >= np.maximum(USUAL_SHARE * (len(weeks) - cut), 1)
    per_day, rest = divmod(per_week, 7)
    days = (steps[-1] // max(per_day, 1)) - (steps[0] // max(per_day, 1)) + 1
    if rest or days < 3:
        return np.ones(per_week, bool)
    by_day = traded.reshape(7, per_day)  # (weekday, time of day)
    usual = np.broadcast_to(by_day.any(axis=0), by_day.shape).copy()
    usual[5:] &= by_day[5:].any(axis=1, keepdims=True)
    return usual.reshape(-1)


def _count_usual(steps: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Returns how many usual slots lie before each slot, int64 (bars,)."""
    weeks, slots = np.divmod(steps, len(usual))
    below = np.concatenate([[0], np.cumsum(usual)])
    return weeks * below[-1] + below[slots]
