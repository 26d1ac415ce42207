"""Splits windows by calendar time over all symbols: purged, with an embargo, once or in folds.

A window's span runs from its first bar to the last bar that its label sees. A training span ends
before the first bar of any validation or test span begins, on every symbol, with the embargo in
between; likewise validation before test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.i18n import N_, _, date
from data.features.indicators import WARM_UP_BARS
from data.market.windows import symbol_bounds

SPLITS = (N_("train"), N_("validation"), N_("test"))
_CHUNK = 1 << 14  # windows looked at at a time


@dataclass(frozen=True)
class SplitTimes:
    """Where the splits of one fold begin, as times of a window's last bar (datetime64[ns])."""

    train_start: np.datetime64
    validation_start: np.datetime64
    test_start: np.datetime64
    test_stop: np.datetime64


@dataclass(frozen=True)
class Split:
    """The end rows of one fold's windows (windows,), and how many were dropped and why."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    dropped: dict[str, int]


def plan_times(
    first: np.datetime64,
    last: np.datetime64,
    *,
    validation_fraction: float,
    test_fraction: float,
    num_folds: int = 1,
    rolling: bool = False,
) -> list[SplitTimes]:
    """Returns the times of one split, or those of a walk-forward.

    With several folds the last half of the range is cut into as many equal test blocks, and each
    fold validates on the time right before its block. The training span of all folds begins at
    the start and grows, or keeps the first fold's length if `rolling`.

    Args:
        first: the earliest end of a window.
        last: the latest one.
        validation_fraction: share of the range.
        test_fraction: share of the range; unused with several folds.
        num_folds: models to train.
        rolling: keeps the length of the training span.

    Raises:
        InputError: if the shares leave no time for training.
    """
    test_share = test_fraction if num_folds == 1 else 0.5
    if num_folds < 1:
        raise InputError(
            "the walk-forward needs at least 1 fold, got {num_folds}", num_folds=num_folds
        )
    if not (validation_fraction > 0 and test_share > 0 and validation_fraction + test_share < 1):
        raise InputError(
            "the shares of validation and test must be above 0 and below 1 together, got "
            "{validation_fraction} and {test_share} ({num_folds} folds)",
            validation_fraction=validation_fraction,
            test_share=test_share,
            num_folds=num_folds,
        )
    start, length = _as_int(first), _as_int(last) - _as_int(first)
    validation = int(length * validation_fraction)
    test = int(length * test_share) // num_folds
    times = []
    for fold in range(num_folds):
        test_start = start + length - (num_folds - fold) * test
        train_start = start + fold * test if rolling else start
        stop = test_start + test if fold < num_folds - 1 else start + length + 1
        moments = (train_start, test_start - validation, test_start, stop)
        times.append(SplitTimes(*(np.datetime64(moment, "ns") for moment in moments)))
    return times


def time_range(ends: np.ndarray, timestamps: np.ndarray) -> tuple[np.datetime64, np.datetime64]:
    """Returns the earliest and the latest time of some rows, at least one."""
    ranges = [(times.min(), times.max()) for times in (timestamps[rows] for rows in _chunks(ends))]
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def split_windows(
    ends: np.ndarray,
    symbols: np.ndarray,
    timestamps: np.ndarray,
    times: SplitTimes,
    *,
    sequence_length: int,
    future_window: int,
    embargo_bars: int,
) -> Split:
    """Returns the purged training, validation and test windows of one fold.

    Test windows have their last bar in [test_start, test_stop). Validation windows have it in
    [validation_start, test_start), and no test window's first bar comes before the end of their
    label plus the embargo; training windows, from train_start on, likewise against both.

    Args:
        ends: end rows (windows,) of all windows with a label, rising.
        symbols: codes (rows,), sorted.
        timestamps: datetime64[ns] (rows,), rising within a symbol.
        times: where the splits begin.
        sequence_length: bars of a window.
        future_window: bars of a label.
        embargo_bars: bars of the symbol that lie between a label's end and a later span.

    Raises:
        InputError: if a split is left without windows.
    """
    if embargo_bars < 0:
        raise InputError(
            "the embargo must be at least 0 bars, got {embargo_bars}", embargo_bars=embargo_bars
        )
    free_from = _Embargo(symbols, timestamps, embargo_bars)

    def first_bar(chosen):
        return timestamps[chosen - sequence_length + 1]

    def ends_before(limit):
        return lambda chosen: free_from(chosen + future_window) < limit

    test = _select(ends, _between(timestamps, times.test_start, times.test_stop))
    limit = _earliest(test, first_bar, times.test_start)
    near = _select(ends, _between(timestamps, times.validation_start, times.test_start))
    validation = _select(near, ends_before(limit))
    limit = min(limit, _earliest(validation, first_bar, times.validation_start))
    early = _select(ends, _between(timestamps, times.train_start, times.validation_start))
    train = _select(early, ends_before(limit))
    dropped = {
        N_("training windows purged or under embargo"): len(early) - len(train),
        N_("validation windows purged or under embargo"): len(near) - len(validation),
    }
    split = Split(train, validation, test, dropped)
    _check_not_empty(split, times, sequence_length, future_window, embargo_bars)
    return split


class _Embargo:
    """Finds the bar that comes some bars of a symbol's own after a row.

    Beyond a symbol's last bar the count goes on at its usual step, nights and all.
    """

    def __init__(self, symbols: np.ndarray, timestamps: np.ndarray, embargo_bars: int):
        self.timestamps, self.embargo_bars = timestamps, embargo_bars
        self.bounds = symbol_bounds(symbols)
        runs = zip(self.bounds[:-1], self.bounds[1:], strict=True)
        self.steps = np.array(
            [_usual_step(timestamps[start:stop]) for start, stop in runs], np.int64
        )

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the times of those bars, datetime64[ns] (rows,)."""
        symbol = np.searchsorted(self.bounds, rows, side="right") - 1
        beyond = np.maximum(rows + self.embargo_bars - (self.bounds[1:][symbol] - 1), 0)
        times = self.timestamps[rows + self.embargo_bars - beyond]
        return times + (beyond * self.steps[symbol]).astype("timedelta64[ns]")


def _usual_step(timestamps: np.ndarray) -> int:
    """Returns the median step of one symbol's bars in nanoseconds, 1 for a single bar."""
    steps = np.diff(timestamps.astype("datetime64[ns]").astype(np.int64))
    return max(int(np.median(steps)), 1) if len(steps) else 1


def _between(timestamps: np.ndarray, start, stop) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: (timestamps[rows] >= start) & (timestamps[rows] < stop)


def _select(ends: np.ndarray, keep: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns the ends that are to be kept; asks for a chunk at a time to bound memory."""
    kept = [chunk[keep(chunk)] for chunk in _chunks(ends)]
    return np.concatenate(kept) if kept else ends[:0]


def _chunks(ends: np.ndarray) -> Iterator[np.ndarray]:
    return (ends[start : start + _CHUNK] for start in range(0, len(ends), _CHUNK))


def _earliest(ends: np.ndarray, first_bar, default: np.datetime64) -> np.datetime64:
    return min((first_bar(chunk).min() for chunk in _chunks(ends)), default=default)


def _as_int(time: np.datetime64) -> int:
    return int(time.astype("datetime64[ns]").astype(np.int64))


def _check_not_empty(split, times, sequence_length, future_window, embargo_bars) -> None:
    for name in SPLITS:
        if not len(getattr(split, name)):
            raise InputError(
                "the {name} split must hold windows; none is left of windows of "
                "{sequence_length} bars, labels of {future_window} and an embargo of "
                "{embargo_bars} (validation from {validation_start}, test from {test_start}): "
                "use more bars: about {least:,} per symbol",
                name=_(name),
                sequence_length=sequence_length,
                future_window=future_window,
                embargo_bars=embargo_bars,
                validation_start=_minute(times.validation_start),
                test_start=_minute(times.test_start),
                least=_least_bars(times, sequence_length, future_window, embargo_bars),
            )


def _minute(time: np.datetime64) -> str:
    return date(str(time)[:16].replace("T", " "))


def _least_bars(times, sequence_length, future_window, embargo_bars) -> int:
    """Returns how many bars of a symbol leave a window to each split, rounded up to tens."""
    marks = [times.train_start, times.validation_start, times.test_start, times.test_stop]
    lengths = np.diff([_as_int(mark) for mark in marks])
    bars = (sequence_length + future_window + embargo_bars) * lengths.sum() / max(lengths.min(), 1)
    return int(np.ceil((WARM_UP_BARS + sequence_length + future_window + bars) / 10)) * 10
