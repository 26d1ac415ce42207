"""Finds windows over feature rows as index arrays; they are gathered only when needed.

A window is named by its end row: it shows rows end - L + 1 .. end, and its label looks at rows
end + 1 .. end + H. Neither may cross a symbol or a hole in time.
"""

import numpy as np

from data.bars.peers import Peers
from data.bars.sessions import missed_bars


def own_bounds(timestamps: np.ndarray, max_gap_bars: int, peers: Peers | None = None) -> np.ndarray:
    """Returns the first rows of one symbol's segments (runs without a hole), then the row count.

    Args:
        timestamps: datetime64 (rows,), rising.
        max_gap_bars: missed trading bars that a segment may have between two bars.
        peers: see `data.bars.sessions.missed_bars`.

    Returns:
        int64 (segments + 1,): segment i has the rows bounds[i] .. bounds[i + 1] - 1.
    """
    if max_gap_bars < 0:
        raise ValueError(f"the largest gap must be at least 0 bars, got {max_gap_bars}")
    holes = 1 + np.flatnonzero(missed_bars(timestamps, peers) > max_gap_bars)
    return np.concatenate([[0], holes, [len(timestamps)]]).astype(np.int64)


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
