"""Answers judged as a cross-section: which symbols rise more than the others, and does it pay?

Where all symbols move together, a test time holds few independent events for a forecaster of each
symbol alone. Ranked within a bar, every bar is a separate test. The rank correlation is split in
two: **timing**, the answer less the symbol's own mean answer of the past days, and the **lasting
tilt**, that past mean alone, which a list of names without any bars could give as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from core.i18n import _, ngettext
from evaluation.across.book import best_against_worst, curve_rows, fifths, returns_of_fifths
from evaluation.across.panel import (
    LEAST_SYMBOLS,
    Panel,
    aged,
    even_out,
    favour,
    make_panel,
    mean_over_bars,
    most_symbols,
    rank_correlations,
    recent_mean,
    recent_span,
)
from evaluation.figures.scores import AgedEstimate, CrossSection, Estimate, FewSymbols, Ranking

AGES = (0, 1, 3, 6)  # bars
PARTS = ("rank_correlation", "timing", "tilt")


@dataclass(frozen=True)
class Forecasts:
    """A forecaster's probabilities of windows, in any order.

    Attributes:
        times: of their last bars, datetime64 (windows,).
        symbols: codes, (windows,).
        probabilities: (windows, 3).
    """

    times: np.ndarray
    symbols: np.ndarray
    probabilities: np.ndarray


def cross_section(
    windows: Forecasts,
    forward_return: np.ndarray,
    trade_return: np.ndarray,
    *,
    horizon: int,
    cost_bps: float,
    block_seconds: float,
    before: Forecasts | None = None,
    baselines: Mapping[str, tuple[np.ndarray, np.ndarray | None]] | None = None,
    label_reference: str = "none",
) -> CrossSection | FewSymbols:
    """Returns how well answers rank the symbols of each bar, and what a book by them brings.

    Args:
        windows: the model's forecasts of the windows to judge.
        forward_return: log return over the horizon, (windows,).
        trade_return: log return from the next bar's open to the horizon's close, (windows,).
        horizon: bars of both.
        cost_bps: cost of each side in basis points of the traded value.
        block_seconds: length of a block of time; at least the span of a window and its label.
        before: its forecasts of earlier windows, for the past means; none of them is judged.
        baselines: probabilities of the same windows, and of those before, by name.
        label_reference: what the labels' moves are measured against, "none" or "market".

    Returns:
        `FewSymbols` where no bar has 10 symbols. Else a ranking for the model and for each
        baseline: rank_correlation, timing and tilt (None where no past is known), ages, fifths
        (see `returns_of_fifths`) and book (see `best_against_worst`, both of
        `evaluation.across.book`); of the baselines also `lead`, the model's rank correlation less
        theirs. symbols_a_bar is a median.
    """
    known = np.isfinite(forward_return) & np.isfinite(trade_return)
    most = most_symbols(windows.times, windows.symbols, known)
    if most < LEAST_SYMBOLS:
        return FewSymbols(most)
    rows = _rows(windows, known, before, block_seconds)
    panel = rows.panel
    returns, traded = panel.matrix(forward_return), panel.matrix(trade_return)
    times = np.datetime_as_string(panel.times[curve_rows(len(panel.times))], "m")

    def mean(by_bar: np.ndarray, widest: float = 1.0) -> Estimate:
        return mean_over_bars(by_bar, panel.blocks, widest=widest)

    def ranking(now: np.ndarray, past: np.ndarray | None) -> tuple[np.ndarray, Ranking]:
        parts = _parts(rows, returns, now, past)
        ages = {0: mean(parts["rank_correlation"])}
        ages |= {age: mean(by_bar) for age, by_bar in _aged(rows, returns, now).items()}
        members = fifths(panel.matrix(favour(now)), traded)
        return parts["rank_correlation"], Ranking(
            rank_correlation=ages[0],
            timing=mean(parts["timing"]),
            tilt=mean(parts["tilt"]),
            ages=[AgedEstimate(age, part.value, part.interval) for age, part in ages.items()],
            fifths=returns_of_fifths(members, traded, panel.blocks),
            book=best_against_worst(
                panel.times,
                members,
                traded,
                panel.blocks,
                holding_bars=horizon,
                cost_bps=cost_bps,
            ),
        )

    by_bar, model = ranking(windows.probabilities, before and before.probabilities)
    others = {name: ranking(*both) for name, both in (baselines or {}).items()}
    return CrossSection(
        label_reference=label_reference,
        bars=len(panel.times),
        symbols=panel.num_symbols,
        symbols_a_bar=float(np.median(np.bincount(panel.bars))),
        horizon_bars=int(horizon),
        recent_days=float(rows.recent / np.timedelta64(1, "D")),
        cost_bps=float(cost_bps),
        num_blocks=len(np.unique(panel.blocks)),
        block_seconds=float(block_seconds),
        curve_times=times.tolist(),
        model=model,
        baselines={
            name: replace(other, lead=mean(by_bar - theirs, widest=2.0))
            for name, (theirs, other) in others.items()
        },
    )


def correlations(
    windows: Forecasts,
    forward_return: np.ndarray,
    *,
    block_seconds: float,
    before: Forecasts | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the rank correlation, timing and tilt of each bar, and the bars' blocks of time.

    Args:
        windows: as `cross_section` takes them, as are the others.
        forward_return: see there.
        block_seconds: see there.
        before: see there.

    Returns:
        by the names of `PARTS` (bars,), NaN where too few symbols have it, and int (bars,), the
        numbers that `evaluation.verdict.time_blocks` gives to the times of the windows; without
        bars where none has 10 symbols.
    """
    known = np.isfinite(forward_return)
    if most_symbols(windows.times, windows.symbols, known) < LEAST_SYMBOLS:
        return {name: np.empty(0) for name in PARTS}, np.empty(0, int)
    rows = _rows(windows, known, before, block_seconds)
    returns = rows.panel.matrix(forward_return)
    past = None if before is None else before.probabilities
    return _parts(rows, returns, windows.probabilities, past), rows.panel.blocks


def sentence(ranked: CrossSection | FewSymbols) -> str:
    """Returns in the current language what `cross_section` returned."""
    if isinstance(ranked, FewSymbols):
        return _(
            "Not judged as a cross-section: that needs at least {least} symbols in a bar, and no "
            "bar has more than {most}.",
            least=LEAST_SYMBOLS,
            most=ranked.most_symbols,
        )
    model = ranked.model
    rank, timing, tilt = map(_in_words, (model.rank_correlation, model.timing, model.tilt))
    return _(
        "Within each bar, BUY less SELL has a rank correlation of {rank} with the return of the "
        "next {horizon} bars. Timing: {timing}. Lasting tilt: {tilt}. In brackets: 95 % intervals "
        "over {blocks}.",
        horizon=ranked.horizon_bars,
        rank=rank,
        timing=timing,
        tilt=tilt,
        blocks=ngettext("{n} time blocks", "{n} time blocks", ranked.num_blocks),
    )


def in_language(ranked: CrossSection | FewSymbols) -> CrossSection | FewSymbols:
    """Returns what `cross_section` returned with its sentence in the current language."""
    if isinstance(ranked, FewSymbols):
        return replace(ranked, left_out=sentence(ranked))
    return replace(ranked, sentence=sentence(ranked))


@dataclass(frozen=True)
class _Rows:
    """Windows and those before them in the order of symbols, then time.

    Attributes:
        panel: of the windows in their original order.
        order: of the windows, then those before them, together, (all,).
        symbols: in that order, (all,).
        times: the same.
        num_windows: those to judge.
        recent: time of the past mean.
    """

    panel: Panel
    order: np.ndarray
    symbols: np.ndarray
    times: np.ndarray
    num_windows: int
    recent: np.timedelta64

    def past_mean(self, now: np.ndarray, past: np.ndarray | None) -> np.ndarray:
        """Returns the mean of the answers before each window, (windows,)."""
        answers = now if past is None else np.concatenate([now, past])
        means = np.empty(len(answers))
        means[self.order] = recent_mean(answers[self.order], self.symbols, self.times, self.recent)
        return means[: self.num_windows]

    def aged(self, now: np.ndarray, num_bars: int) -> np.ndarray:
        """Returns the answer `num_bars` windows of the symbol ago, (windows,)."""
        judged = self.order < self.num_windows
        answers = np.empty(self.num_windows)
        order = self.order[judged]
        answers[order] = aged(now[order], self.symbols[judged], num_bars)
        return answers


def _rows(
    windows: Forecasts, known: np.ndarray, before: Forecasts | None, block_seconds: float
) -> _Rows:
    parts = [windows] if before is None else [windows, before]
    times = np.concatenate([part.times for part in parts])
    symbols = np.concatenate([part.symbols for part in parts])
    order = np.lexsort((times, symbols))
    panel = make_panel(windows.times, windows.symbols, known, block_seconds)
    recent = recent_span(times, symbols)
    return _Rows(panel, order, symbols[order], times[order], len(windows.times), recent)


def _parts(
    rows: _Rows, returns: np.ndarray, now: np.ndarray, past: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns the rank correlation and its parts in each bar, (bars,) by the names of `PARTS`."""
    answers, earlier = favour(now), None if past is None else favour(past)
    usual = rows.past_mean(answers, earlier)
    return {
        name: rank_correlations(rows.panel.matrix(even_out(part)), returns)
        for name, part in zip(PARTS, (answers, answers - usual, usual), strict=True)
    }


def _aged(rows: _Rows, returns: np.ndarray, now: np.ndarray) -> dict[int, np.ndarray]:
    answers, matrix = favour(now), rows.panel.matrix
    return {age: rank_correlations(matrix(rows.aged(answers, age)), returns) for age in AGES[1:]}


def _in_words(part: Estimate) -> str:
    if part.value is None or part.interval is None:
        return _("unknown")
    low, high = part.interval
    return _("{value:+.3f} ({low:+.3f} to {high:+.3f})", value=part.value, low=low, high=high)
