"""Audits that nothing looks ahead: recomputes values without the later bars and compares.

Two ways to take the later bars away: cut them off, or alter their prices and volumes and keep
their times. What belongs to a split (thresholds, scaling) needs the second, because the split
itself is a share of the whole time range.

A value that looks one bar ahead shows at a cut only where it is the last one before it. So a leak
on few bars needs many cuts: fifty at random, which find what leaks on one bar in fifty of each
symbol by itself, and fifty at one bar after the other, which miss no leak that comes back within
fifty bars, as one at a time of the day does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.i18n import N_, _
from data.audit.cuts import alter_bars, cut_times, drawn_cuts, moments_of_bars, moments_of_rows
from data.audit.spans_met import meetings
from data.features.features import fill_features
from data.features.indicators import is_intraday
from data.features.universe import Universe, fill_beside
from data.market import labels as labelling
from data.market.market import Fold, Market, build_market
from data.market.relative import market_scores
from data.market.settings import MarketSettings
from data.market.training_rows import deviation_statistics
from data.market.windows import symbol_bounds
from data.times.grid import closes_of, grid_ns

NUM_CUTS = 50  # at random, and as many one after the other


@dataclass(frozen=True)
class Finding:
    """A value at or before a cut that changes with the bars after it; str() is one line.

    Or two splits whose windows share time.

    Attributes:
        kind: "feature", "label", "threshold", "scaling" or "split".
        column: the name of what changed; of a split, which two.
        symbol: of the first bar that changed; "" for a figure of a whole fold. Of a split, that of
            the earliest window of the second split that the first one reaches.
        bar: the time of that bar; of a figure, the cut. Of a split, of that window's first bar.
        cut: the moment of the last bars that were left as they were, as the open of a usual bar.
            Of a split, what its first part reaches with label and embargo.
    """

    kind: str
    column: str
    symbol: str
    bar: np.datetime64
    cut: np.datetime64

    def __str__(self):
        what, cut = f"{_(self.kind)} {self.column}", _text(self.cut)
        if self.kind == "split":
            return _(
                "{what}: with label and embargo the first reaches {cut}, and a window of the "
                "second begins at {bar} ({symbol})",
                what=what,
                cut=cut,
                bar=_text(self.bar),
                symbol=self.symbol,
            )
        if not self.symbol:
            return _("{what} depends on bars after {cut}", what=what, cut=cut)
        return _(
            "{what} from bar {bar} of {symbol} on depends on bars after {cut}",
            what=what,
            bar=_text(self.bar),
            symbol=self.symbol,
            cut=cut,
        )


def audit_market(
    bars: pd.DataFrame,
    settings: MarketSettings,
    *,
    build: Callable[[pd.DataFrame, MarketSettings], Market] = build_market,
    scale: Callable[[Market, Fold], tuple[np.ndarray, np.ndarray]] = deviation_statistics,
    num_cuts: int = NUM_CUTS,
) -> list[Finding]:
    """Returns what looks ahead in features, labels, label thresholds, scaling, splits; [] if none.

    Features and labels are recomputed on cut bars, then the whole market on altered ones: at
    the cuts, and at the end of each fold's training labels, after which neither its threshold nor
    its scaling nor a label that is known by then may change. Then the spans of each fold's windows
    are looked at: those of two splits may not meet.

    Args:
        bars: as `data.bars.read.read_bars` returns them.
        settings: of the market.
        build: makes the market of bars and settings.
        scale: returns mean and variance of a market's fold, (features,), or (2 * features,) with
            those of the deviations.
        num_cuts: drawn at random beside the cuts at shares of the time, and as many in a row.
    """
    market = build(bars, settings)
    # Bars of symbols without a row may still count in what is said of the market.
    kept = bars if settings.relative else bars[bars["symbol"].isin(market.symbol_names)]
    cuts = cut_times(kept)
    many = sorted({*cuts, *drawn_cuts(kept, num_cuts, warm_up_bars=settings.warm_up_bars)})
    findings = audit_rows(kept, features_with(settings), many)
    for threshold in {fold.threshold for fold in market.folds}:
        labels = _labels_with(settings, threshold)
        findings += audit_rows(kept, labels, cuts, kind=N_("label"), horizon=market.future_window)
    moments, rows = moments_of_bars(kept), moments_of_rows(market, kept)
    ends = [rows[fold.train + market.future_window].max() for fold in market.folds]
    for cut in sorted({*many, *ends}):
        other = build(alter_bars(kept, moments > cut), settings)
        known = _known(market, rows <= cut)
        findings += _compare_rows(market, other, cut, known)
        for number, end in enumerate(ends):
            if end <= cut and cut in {*cuts, *ends}:
                findings += _compare_folds(market, other, number, cut, known, scale)
    return _first_of_each(findings) + _splits_that_meet(market, settings)


def audit_rows(
    bars: pd.DataFrame,
    compute: Callable[[pd.DataFrame], pd.DataFrame],
    cuts: Sequence[np.datetime64],
    *,
    kind: str = N_("feature"),
    horizon: int = 0,
) -> list[Finding]:
    """Returns the columns whose values depend on bars more than `horizon` after their own.

    Args:
        bars: of one or many symbols, with unique index.
        compute: bars -> a frame of values with the index of the bars, for all symbols at once,
            so that one symbol's future in another's value shows.
        cuts: moments; every bar that closes after one is cut off, and all values of the others are
            compared.
        kind: goes into the findings.
        horizon: bars after its own that a value may look at; the last ones are not compared.

    Returns:
        a finding per column with the first bar that changed, of the first cut that shows it.
    """
    whole = compute(bars).loc[bars.index]
    times, moments = bars["timestamp"].to_numpy("datetime64[ns]"), moments_of_bars(bars)
    findings = []
    for cut in cuts:
        early = moments <= cut
        known = bars[early]
        left = known.groupby("symbol", observed=True).cumcount(ascending=False).to_numpy()
        values, settled = compute(known).loc[known.index], left >= horizon
        for column in whole.columns:
            before, after = whole[column].to_numpy()[early], values[column].to_numpy()
            changed = _differs(before, after) & settled
            if changed.any():
                names = known["symbol"].astype(str).to_numpy()
                findings += _first(kind, column, changed, times[early], names, cut)
    return _first_of_each(findings)


def features_with(settings: MarketSettings) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Returns bars of many symbols -> a frame of their features; rows of the warm-up are NaN."""

    def compute(bars: pd.DataFrame) -> pd.DataFrame:
        intraday, features = is_intraday(bars), settings.features
        names, warm_up = features.names(intraday=intraday), settings.warm_up_bars
        table = np.full((len(bars), len(names)), np.nan, np.float32)
        rows, closes, lengths = [], [], []
        for positions in bars.groupby("symbol", observed=True, sort=False).indices.values():
            part, values = (
                bars.iloc[positions],
                np.empty((len(positions[warm_up:]), len(names)), np.float32),
            )
            fill_features(part, values, intraday=intraday, settings=features)
            table[positions[warm_up:]] = values
            times = part["timestamp"].to_numpy("datetime64[ns]")
            lengths.append(grid_ns(times))
            closes.append(closes_of(times[warm_up:], lengths[-1]))
            rows.append(positions[warm_up:])
        if features.market:
            together = np.concatenate(rows)
            values = table[together]
            fill_beside(values, names, Universe(closes, lengths), features)
            table[together] = values
        return pd.DataFrame(table, index=bars.index, columns=list(names))

    return compute


def _labels_with(settings: MarketSettings, threshold: float) -> Callable:
    """Returns bars -> a frame of their labels, with a given threshold."""

    def compute(bars: pd.DataFrame) -> pd.DataFrame:
        parts = [part for _, part in bars.groupby("symbol", observed=True, sort=False)]
        if settings.relative:
            scores = market_scores(
                parts, settings.label_method, settings.future_window, settings.features
            )
            labels = [labelling.label_scores(own, threshold) for own in scores]
        else:
            labels = [_labels(part, settings, threshold) for part in parts]
        made = [pd.Series(own, index=part.index) for part, own in zip(parts, labels, strict=True)]
        return pd.concat(made).to_frame(f"label ({settings.label_method})")

    return compute


def _labels(bars: pd.DataFrame, settings: MarketSettings, threshold: float) -> np.ndarray:
    method, horizon = settings.label_method, settings.future_window
    if method != "triple_barrier":
        return labelling.label_scores(labelling.label_moves(bars, method, horizon), threshold)
    close, high, low = (bars[name].to_numpy(float) for name in ("close", "high", "low"))
    widths = threshold * labelling.past_scale(close, horizon)
    return labelling.triple_barrier_labels(close, high, low, widths, horizon)


def _compare_rows(market: Market, other: Market, cut: np.datetime64, rows) -> list[Finding]:
    """Returns the features and moves at or before the cut that differ between two markets."""
    known, settled = rows
    compared = [
        ("feature", market.feature_names[i], market.features[:, i], other.features[:, i], known)
        for i in np.flatnonzero(_features_changed(market, other, known))
    ]
    compared += [
        ("label", name, getattr(market, name), getattr(other, name), settled)
        for name in ("forward_return", "trade_return")
    ]
    return _compare_columns(compared, market, cut)


def _features_changed(market: Market, other: Market, known: np.ndarray) -> np.ndarray:
    """Returns which features differ in any row at or before the cut, bool (features,)."""
    bounds, changed = symbol_bounds(market.symbols), np.zeros(len(market.feature_names), bool)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        rows = slice(start, start + np.count_nonzero(known[start:stop]))  # they rise in time
        changed |= _differs(market.features[rows], other.features[rows]).any(axis=0)
    return changed


def _compare_folds(market, other, number: int, cut, rows, scale) -> list[Finding]:
    """Returns what differs in a fold whose training labels end at or before the cut."""
    original, altered = market.folds[number], other.folds[number]
    fold = f"of fold {number + 1}"
    if original.threshold != altered.threshold:  # moves the labels too: one line says enough
        findings = [Finding(N_("threshold"), fold, "", cut, cut)]
    else:
        columns = [
            ("label", f"{name} {fold}", getattr(original, name), getattr(altered, name), compared)
            for name, compared in zip(("persistence", "labels"), rows, strict=True)
        ]
        findings = _compare_columns(columns, market, cut)
    figures = zip(("mean", "variance"), scale(market, original), scale(other, altered), strict=True)
    columns = [*market.feature_names, *(f"deviation of {name}" for name in market.feature_names)]
    for what, before, after in figures:
        for i in np.flatnonzero(_differs(before, after)):
            name = f"{what} of {columns[i]} {fold}"
            findings.append(Finding(N_("scaling"), name, "", cut, cut))
    return findings


def _known(market: Market, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Says which rows are known at a cut, and which with their horizon, bool (rows,) each."""
    settled, horizon = np.zeros_like(known), market.future_window
    same = market.symbols[horizon:] == market.symbols[:-horizon]
    settled[:-horizon] = known[horizon:] & same
    return known, settled


def _compare_columns(columns, market: Market, cut: np.datetime64) -> list[Finding]:
    findings = []
    for kind, column, before, after, rows in columns:
        changed = _differs(before, after) & rows
        if changed.any():
            names = np.array(market.symbol_names)[market.symbols]
            findings += _first(kind, column, changed, market.timestamps, names, cut)
    return findings


def _splits_that_meet(market: Market, settings: MarketSettings) -> list[Finding]:
    """Returns the pairs of splits, of every fold, whose windows share time or the embargo."""
    names = ("sequence_length", "future_window", "embargo_bars")
    sizes = {name: getattr(settings, name) for name in names}
    findings = []
    for number, fold in enumerate(market.folds):
        for met in meetings(market, fold, **sizes):
            pair = f"{met.splits[0]}, {met.splits[1]} of fold {number + 1}"
            symbol = market.symbol_names[market.symbols[met.row]]
            bar = market.timestamps[met.row]
            findings.append(Finding(N_("split"), pair, symbol, bar, met.reached))
    return findings


def _first(kind, column, changed, times, names, cut) -> list[Finding]:
    """Returns the finding of the earliest changed row, [] if there is none."""
    rows = np.flatnonzero(changed)
    if not len(rows):
        return []
    row = rows[np.argmin(times[rows])]
    return [Finding(kind, column, str(names[row]), times[row], cut)]


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ~((a == b) | ((a != a) & (b != b)))


def _first_of_each(findings: list[Finding]) -> list[Finding]:
    """Returns the finding of the earliest cut for every kind and column."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in sorted(findings, key=lambda one: one.cut):
        first.setdefault((finding.kind, finding.column), finding)
    return list(first.values())


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))
