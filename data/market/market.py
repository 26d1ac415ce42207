"""Builds the market that training sees: feature rows, labels, windows and purged folds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_, _, ngettext
from core.memory import release_memory
from data.market import labels as labelling
from data.market.rows import KEPT, make_rows, only_holes, open_rows
from data.market.settings import PATH, MarketSettings
from data.market.split import SPLITS, plan_times, split_windows, time_range
from data.market.windows import ends_within, symbol_bounds

_LABEL_CHUNK = 1 << 16  # rows that the barriers label at a time
_MOST_NAMED = 12  # symbols in a note


@dataclass(frozen=True)
class Fold:
    """One split of the windows, with labels whose threshold comes from its training rows.

    Attributes:
        train: end rows (windows,) of the training windows, rising.
        validation: the same of the validation windows.
        test: the same of the test windows.
        labels: int8 (rows,), -1 where there is no label.
        threshold: what a score must exceed (for the barriers: the multiple of the past scale).
        persistence: int8 (rows,), the label of the move that ended at the row, -1 if none.
        dropped: how many windows the split dropped, by reason.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    threshold: float
    persistence: np.ndarray
    dropped: dict[str, int]


@dataclass(frozen=True)
class Market:
    """All rows with complete features, sorted by symbol, then time, and the folds over them.

    Attributes:
        features: float32 (rows, features), unscaled; a memory map if there is a feature store.
        feature_names: the names of its columns.
        timestamps: datetime64[ns] (rows,), UTC, of the bars' opens.
        symbols: int16 (rows,), positions in `symbol_names`.
        symbol_names: the symbols that were kept.
        forward_return: float32 (rows,) log return over the label's horizon, NaN if unlabelled.
        trade_return: float32 (rows,) log return from the next bar's open to the horizon's close.
        close: float32 (rows,) price at the bar's end.
        intraday: whether the bars are shorter than a day.
        interval_seconds: length of a bar.
        settings: what the market was made by.
        bounds: int64 (segments + 1,), first rows of the runs without a hole, then the row count.
        dropped: how many rows and windows were dropped, by reason.
        folds: one for the single split.
    """

    features: np.ndarray
    feature_names: tuple[str, ...]
    timestamps: np.ndarray
    symbols: np.ndarray
    symbol_names: tuple[str, ...]
    forward_return: np.ndarray
    trade_return: np.ndarray
    close: np.ndarray
    intraday: bool
    interval_seconds: float
    settings: MarketSettings
    bounds: np.ndarray
    dropped: dict[str, int]
    folds: tuple[Fold, ...]

    def __repr__(self):
        folds = "1 fold" if len(self.folds) == 1 else f"{len(self.folds)} folds"
        return (
            f"Market({len(self.symbols):,} rows of {len(self.symbol_names)} symbols, "
            f"{len(self.feature_names)} features, {folds})"
        )

    @property
    def sequence_length(self) -> int:
        """Bars of a window."""
        return self.settings.sequence_length

    @property
    def future_window(self) -> int:
        """Bars of a label."""
        return self.settings.future_window

    @property
    def label_method(self) -> str:
        """How the labels are made."""
        return self.settings.label_method


def build_market(
    bars: pd.DataFrame | Iterable[pd.DataFrame] | None,
    settings: MarketSettings,
    *,
    feature_store: str | Path | None = None,
    note: Callable[[str], None] | None = None,
) -> Market:
    """Returns features, labels, windows and folds of the bars of many symbols.

    Works symbol by symbol. Given `by_symbol(read_bars(path))` of `data.market.parts`, it frees the
    bars while the features grow; a frame itself may be held by the caller.

    Args:
        bars: as `data.bars.read.read_bars` returns them, or an iterable of frames of one symbol
            each, sorted by symbol, of which one is held at a time; None where `feature_store` was
            made of them before, by another process. Closed days are told from lost ones by the
            other symbols' bars where a frame is given or `by_symbol` made the iterable.
        settings: what it is made by.
        feature_store: folder for memory-mapped rows; None keeps them in memory.
        note: called with a sentence about every symbol that is skipped, about moves that look like
            splits or bad bars, and about symbols without a window in a split.

    Raises:
        InputError: if no symbol is long enough, a split has no windows, or lacks a class.

    Examples:
        >>> from data.bars.read import read_bars
        >>> settings = MarketSettings(
        ...     sequence_length=32,
        ...     future_window=12,
        ...     label_method="volatility",
        ...     price_change_threshold=0.01,
        ...     target_class_ratios=(1, 1, 1),
        ...     embargo_bars=12,
        ...     max_gap_bars=3,
        ... )
        >>> build_market(read_bars("synthetic:walk?bars=1000&symbols=2"), settings)
        Market(1,700 rows of 2 symbols, 30 features, 1 fold)
    """
    note = note or (lambda text: None)
    if bars is not None:
        rows, facts = make_rows(bars, settings, feature_store, note)
    elif feature_store is not None:
        rows, facts = open_rows(feature_store)
    else:
        raise ValueError("a market needs bars, or the store of features made of them")
    ends = ends_within(facts["bounds"], settings.sequence_length, settings.future_window)
    if not len(ends):
        raise InputError(only_holes(settings))
    if settings.relative:
        ends, facts = _with_market(ends, rows["scores"], facts, settings)
    times = plan_times(
        *time_range(ends, rows["timestamps"]),
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        num_folds=settings.num_folds,
        rolling=settings.rolling,
    )
    splits = [
        split_windows(
            ends,
            rows["symbols"],
            rows["timestamps"],
            moments,
            sequence_length=settings.sequence_length,
            future_window=settings.future_window,
            embargo_bars=settings.embargo_bars,
        )
        for moments in times
    ]
    release_memory()
    folds = [_fold(split, rows, facts["bounds"], settings) for split in splits]
    for name in set(settings.label_columns) - set(KEPT):
        del rows[name]
    release_memory()
    for text in _without_windows(folds, rows["symbols"], facts["symbol_names"]):
        note(text)
    return Market(**rows, **facts, settings=settings, folds=tuple(folds))


def _with_market(ends, scores, facts, settings: MarketSettings) -> tuple[np.ndarray, dict]:
    """Returns the ends of the windows whose move can be set beside the market's."""
    known = ends[~np.isnan(scores[ends])]
    if not len(known):
        raise InputError(
            "labels relative to the market need at least {least} symbols with bars at the same "
            "times; there are {names}",
            least=settings.features.market_min_symbols,
            names=", ".join(facts["symbol_names"][:_MOST_NAMED]),
        )
    lost = {N_("windows without a market to set them beside"): len(ends) - len(known)}
    return known, facts | {"dropped": facts["dropped"] | lost}


def training_prior(fold: Fold) -> np.ndarray:
    """Returns the class frequencies of the training windows, float64 (classes,)."""
    return labelling.class_counts(fold.labels[fold.train]) / len(fold.train)


def living_symbols(market: Market) -> list[str]:
    """Returns the symbols that still traded at the end: whose last bar is among the newest ten."""
    last = market.timestamps[symbol_bounds(market.symbols)[1:] - 1]
    span = np.timedelta64(int(10 * market.interval_seconds * 1e9), "ns")
    codes = market.symbols[symbol_bounds(market.symbols)[:-1]][last >= last.max() - span]
    return [market.symbol_names[code] for code in codes]


def _without_windows(
    folds: Sequence[Fold], symbols: np.ndarray, names: Sequence[str]
) -> Iterator[str]:
    """Yields a sentence for each split that has no window of some symbols."""
    bounds = np.searchsorted(symbols, np.arange(len(names) + 1))
    for number, fold in enumerate(folds, 1):
        for split in SPLITS:
            counts = np.diff(np.searchsorted(getattr(fold, split), bounds))
            absent = [name for name, count in zip(names, counts, strict=True) if not count]
            if absent:
                place = _("fold {n}: ", n=number) if len(folds) > 1 else ""
                yield place + ngettext(
                    "the {split} split has no window of {n} of the {total} symbols: {absent}",
                    "the {split} split has no window of {n} of the {total} symbols: {absent}",
                    len(absent),
                    split=_(split),
                    total=len(names),
                    absent=", ".join(absent[:_MOST_NAMED]) + ", ..." * (len(absent) > _MOST_NAMED),
                )


def _fold(split, rows, bounds, settings: MarketSettings) -> Fold:
    """Returns the fold of a split; its threshold is given, or chosen on its training rows."""
    horizon, target_ratios = settings.future_window, settings.target_class_ratios
    if settings.label_columns == PATH:
        close, high, low, scale = (rows[name] for name in PATH)
        threshold = labelling.choose_barrier_multiple(
            close, high, low, scale, horizon, split.train, target_ratios
        )
        labels = np.full(len(close), labelling.UNLABELLED, np.int8)
        for start in range(0, len(labels), _LABEL_CHUNK):
            # With the bars after the chunk that its last labels look at.
            part = slice(start, start + _LABEL_CHUNK + horizon)
            labels[start : start + _LABEL_CHUNK] = labelling.triple_barrier_labels(
                close[part], high[part], low[part], threshold * scale[part], horizon
            )[:_LABEL_CHUNK]
        labels[np.isnan(rows["forward_return"])] = labelling.UNLABELLED
    else:
        if settings.label_method == "fixed":
            threshold = float(settings.price_change_threshold)
        else:
            threshold = labelling.choose_multiple(rows["scores"][split.train], target_ratios)
        labels = labelling.label_scores(rows["scores"], threshold)
    _check_classes(split, labels)
    persistence = _persistence(labels, bounds, horizon)
    return Fold(**vars(split), labels=labels, threshold=threshold, persistence=persistence)


def _persistence(labels: np.ndarray, bounds: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the label of the row `horizon` bars before in the same segment, -1 if none."""
    ended = np.full_like(labels, labelling.UNLABELLED)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        ended[start + horizon : stop] = labels[start : max(stop - horizon, start)]
    return ended


def _check_classes(split, labels: np.ndarray) -> None:
    faults = []
    for name in SPLITS:
        totals = labelling.class_counts(labels[getattr(split, name)]).tolist()
        counts = dict(zip(labelling.CLASS_NAMES, totals, strict=True))
        missing = [label for label, count in counts.items() if not count]
        if missing:
            shown = ", ".join(f"{label} {count}" for label, count in counts.items())
            faults.append(
                _(
                    "the {name} split has no {missing} ({shown})",
                    name=_(name),
                    missing=_(" and no ").join(missing),
                    shown=shown,
                )
            )
    if faults:
        raise InputError(
            "every class must occur in the labels of every split; {faults}",
            faults="; ".join(faults),
        )
