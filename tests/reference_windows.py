"""What tests compare windows with: those of whole rows, and which spans of time meet."""

import numpy as np

from data.market.windows import ends_within, own_bounds, symbol_bounds


def segment_bounds(symbols, timestamps, max_gap_bars):
    """Returns the first rows of the segments of all symbols, then the number of rows."""
    bounds = symbol_bounds(symbols)
    parts = [
        start + own_bounds(timestamps[start:stop], max_gap_bars)
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return np.unique(np.concatenate(parts))


def window_ends(symbols, timestamps, sequence_length, future_window, max_gap_bars):
    """Returns the end rows of all windows whose bars and label bars lie in one segment."""
    bounds = segment_bounds(symbols, timestamps, max_gap_bars)
    return ends_within(bounds, sequence_length, future_window)


def intersecting(spans_a, spans_b):
    """Says which of the spans a share a moment with any of the spans b, bool (spans of a,)."""
    started = np.searchsorted(np.sort(spans_b[0]), spans_a[1], side="right")
    ended = np.searchsorted(np.sort(spans_b[1]), spans_a[0], side="left")
    return started > ended
