"""Audits that nothing looks ahead: recomputes values without the later bars and compares.

Two ways to take the later bars away: cut them off, or alter their prices and volumes and keep
their times. Figures that belong to a split (thresholds, scaling) need the second, because the
split itself is a share of the whole time range.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data import labels as labelling
from data.features import compute_features, is_intraday
from data.market import Market, build_market, training_statistics

CUT_SHARES = (0.35, 0.55, 0.75, 0.95)


@dataclass(frozen=True)
class Finding:
    """A value at or before a cut that changes with the bars after it.

    Attributes:
        kind: "feature", "label", "threshold" or "scaling".
        column: the name of what changed.
        symbol: of the first bar that changed; "" for a figure of the whole split.
        bar: the time of that bar; of a figure, the cut.
        cut: the time of the last bar that was left as it was.
    """

    kind: str
    column: str
    symbol: str
    bar: np.datetime64
    cut: np.datetime64

    def __str__(self):
        where = f" from bar {_text(self.bar)} of {self.symbol} on" if self.symbol else ""
        return f"{self.kind} {self.column}{where} depends on bars after {_text(self.cut)}"


def audit_market(bars: pd.DataFrame, **settings) -> list[Finding]:
    """Returns what looks ahead in features, labels, label thresholds and scaling; [] if nothing.

    Features and labels are recomputed on cut bars, and the rows, thresholds and scaling of a
    whole market on altered ones.

    Args:
        bars: as `data.bars.read_bars` returns them.
        settings: the keyword arguments of `data.market.build_market`.
    """
    settings = {**settings, "feature_store": None, "note": None}
    market = build_market(bars, **settings)
    kept = bars[bars["symbol"].isin(market.symbol_names)]
    cuts = cut_times(kept)
    horizon, method = market.future_window, market.label_method
    findings = audit_rows(kept, features_of, cuts)
    for fold in market.folds:
        compute = _labels_with(method, horizon, fold.threshold)
        findings += audit_rows(kept, compute, cuts, kind="label", horizon=horizon)
    findings += audit_rows(
        kept,
        lambda frame: _rows_of(frame, build_market(frame, **settings)),
        cuts,
        change=alter_bars,
    )
    return _first_of_each(findings + _audit_folds(kept, market, settings))


def audit_rows(
    bars: pd.DataFrame,
    compute: Callable[[pd.DataFrame], pd.DataFrame],
    cuts: Sequence[np.datetime64],
    *,
    kind: str = "feature",
    horizon: int = 0,
    change: Callable[[pd.DataFrame, np.datetime64], pd.DataFrame] | None = None,
) -> list[Finding]:
    """Returns the columns whose values depend on bars more than `horizon` after their own.

    Args:
        bars: of one or many symbols, with unique index.
        compute: bars -> a frame of values with the index of the bars, for all symbols at once,
            so that one symbol's future in another's value shows.
        cuts: times; everything after a cut is taken away from all symbols.
        kind: goes into the findings.
        horizon: bars after its own that a value may look at; the last ones are not compared.
        change: how later bars are taken away: `cut_bars` (the default) or `alter_bars`.

    Returns:
        a finding per column with the first bar that changed, of the first cut that shows it.
    """
    whole = compute(bars)
    findings = []
    for cut in cuts:
        changed = (change or cut_bars)(bars, cut)
        known = changed["timestamp"].to_numpy("datetime64[ns]") <= cut
        known = changed[known]
        left = known.groupby("symbol", observed=True).cumcount(ascending=False)
        rows = known.index[left.to_numpy() >= horizon]
        values = compute(changed)
        for column in whole.columns:
            differs = _differs(whole.loc[rows, column], values.loc[rows, column])
            if differs.any():
                first = bars.loc[rows[differs]].sort_values("timestamp", kind="stable").iloc[0]
                bar = np.datetime64(first["timestamp"].value, "ns")
                findings.append(Finding(kind, column, str(first["symbol"]), bar, cut))
    return _first_of_each(findings)


def audit_figures(
    bars: pd.DataFrame,
    compute: Callable[[pd.DataFrame], Mapping[str, float]],
    cuts: Sequence[np.datetime64],
    *,
    kind: str = "scaling",
    change: Callable[[pd.DataFrame, np.datetime64], pd.DataFrame] | None = None,
) -> list[Finding]:
    """Returns the figures of the training rows that depend on bars after their end.

    Args:
        bars: of one or many symbols.
        compute: bars -> figures by name, such as a threshold or the mean of a column.
        cuts: times at or after the end of the training rows.
        kind: goes into the findings.
        change: how later bars are taken away: `alter_bars` (the default) or `cut_bars`.
    """
    whole = compute(bars)
    findings = []
    for cut in cuts:
        figures = compute((change or alter_bars)(bars, cut))
        names = [name for name in whole if not _same(whole[name], figures.get(name, np.nan))]
        findings += [Finding(kind, name, "", cut, cut) for name in names]
    return _first_of_each(findings)


def cut_times(bars: pd.DataFrame, shares: Sequence[float] = CUT_SHARES) -> list[np.datetime64]:
    """Returns bar times at these shares of all bar times."""
    times = np.unique(bars["timestamp"].to_numpy("datetime64[ns]"))
    return [times[int(share * (len(times) - 1))] for share in shares]


def cut_bars(bars: pd.DataFrame, cut: np.datetime64) -> pd.DataFrame:
    """Returns the bars up to and with the cut, on all symbols."""
    return bars[bars["timestamp"].to_numpy("datetime64[ns]") <= cut]


def alter_bars(bars: pd.DataFrame, cut: np.datetime64) -> pd.DataFrame:
    """Returns the bars with every move after the cut mirrored and resized, and other volumes.

    Each bar's log moves are multiplied by its own factor in -2 .. -0.5, so that neither a mean nor
    an absolute move nor a move relative to volatility stays; times and the order
    low <= open, close <= high do.
    """
    altered = bars.copy()
    rng = np.random.default_rng(0)
    later = bars["timestamp"].to_numpy("datetime64[ns]") > cut
    for rows in bars.groupby("symbol", observed=True, sort=False).indices.values():
        rows = rows[later[rows]]
        if len(rows):
            _mirror(altered, rows, rng)
    return altered


def features_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Returns the features of many symbols' bars, each computed by itself."""
    intraday = is_intraday(bars)
    parts = bars.groupby("symbol", observed=True, sort=False)
    return pd.concat([compute_features(part, intraday=intraday) for _, part in parts])


def _labels_with(method: str, horizon: int, threshold: float) -> Callable:
    """Returns bars -> a frame of their labels, with a given threshold."""

    def compute(bars: pd.DataFrame) -> pd.DataFrame:
        parts = bars.groupby("symbol", observed=True, sort=False)
        made = [
            pd.Series(_labels(part, method, horizon, threshold), index=part.index)
            for _, part in parts
        ]
        return pd.concat(made).to_frame(f"label ({method})")

    return compute


def _labels(bars: pd.DataFrame, method: str, horizon: int, threshold: float) -> np.ndarray:
    if method != "triple_barrier":
        return labelling.label_scores(labelling.label_moves(bars, method, horizon), threshold)
    close, high, low = (bars[name].to_numpy(float) for name in ("close", "high", "low"))
    widths = threshold * labelling.past_scale(close, horizon)
    return labelling.triple_barrier_labels(close, high, low, widths, horizon)


def _rows_of(bars: pd.DataFrame, market: Market) -> pd.DataFrame:
    """Returns the market's feature rows at their bars' places; the warm-up is NaN."""
    names = pd.Index(market.symbol_names)
    rows = pd.MultiIndex.from_arrays([names[market.symbols], market.timestamps])
    times = bars["timestamp"].to_numpy("datetime64[ns]")
    wanted = pd.MultiIndex.from_arrays([bars["symbol"].astype(str), times])
    columns = list(market.feature_names)
    values = pd.DataFrame(market.features, index=rows, columns=columns).reindex(wanted)
    return values.set_axis(bars.index)


def _audit_folds(bars: pd.DataFrame, market: Market, settings: dict) -> list[Finding]:
    """Returns the thresholds and scaling of every fold that look beyond its training labels."""
    last = market.timestamps.max()
    findings = []
    for number, fold in enumerate(market.folds):
        end = market.timestamps[fold.train + market.future_window].max()
        cuts = [end, end + (last - end) // 2]
        for kind, figures in (("threshold", _threshold), ("scaling", _scaling)):
            findings += audit_figures(
                bars,
                lambda frame, n=number, f=figures: f(build_market(frame, **settings), n),
                cuts,
                kind=kind,
            )
    return findings


def _threshold(market: Market, number: int) -> dict[str, float]:
    return {f"of fold {number + 1}": market.folds[number].threshold}


def _scaling(market: Market, number: int) -> dict[str, float]:
    mean, variance = training_statistics(market, market.folds[number])
    return {
        f"{what} of {name}": value
        for what, values in (("mean", mean), ("variance", variance))
        for name, value in zip(market.feature_names, values, strict=True)
    }


def _mirror(bars: pd.DataFrame, rows: np.ndarray, rng: np.random.Generator) -> None:
    """Changes the prices and volumes of one symbol's last rows in place."""
    place = {
        name: bars.columns.get_loc(name) for name in ("open", "high", "low", "close", "volume")
    }
    log = {n: np.log(bars.iloc[rows, place[n]].to_numpy(float)) for n in ("open", "high", "low")}
    close = np.log(bars.iloc[rows, place["close"]].to_numpy(float))
    start = rows[0] - 1 if rows[0] else rows[0]
    before = np.log(bars.iloc[start, place["close"]]) if rows[0] else close[0]
    factor = -rng.uniform(0.5, 2.0, len(rows))
    path = before + np.cumsum(factor * np.diff(close, prepend=before))
    mirrored = {"open": "open", "high": "low", "low": "high"}
    for name, source in mirrored.items():
        bars.iloc[rows, place[name]] = np.exp(path + factor * (log[source] - close))
    bars.iloc[rows, place["close"]] = np.exp(path)
    bars.iloc[rows, place["volume"]] *= rng.uniform(1.5, 3.0, len(rows))


def _differs(a: pd.Series, b: pd.Series) -> np.ndarray:
    a, b = a.to_numpy(float), b.to_numpy(float)
    return ~((a == b) | (np.isnan(a) & np.isnan(b)))


def _same(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))


def _first_of_each(findings: list[Finding]) -> list[Finding]:
    """Returns the earliest finding of every kind and column."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        first.setdefault((finding.kind, finding.column), finding)
    return list(first.values())


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))
