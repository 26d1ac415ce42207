"""Evaluates trained folds: metrics, baselines on the same windows, verdict, trades."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from core.i18n import N_
from data.market.labels import CLASS_NAMES
from data.market.market import Fold, Market, training_prior
from data.market.windows import spans
from evaluation.answers import answers
from evaluation.backtest import simulate_trades
from evaluation.drift import feature_drift
from evaluation.figures.run import PooledScores, Split
from evaluation.figures.scores import Scores, SkillByPart, Trades, Verdict
from evaluation.metrics import evaluate
from evaluation.skill import skill_by_part
from evaluation.verdict import pick, time_blocks, verdict, with_calls, with_trades

BySplit = dict[str, np.ndarray]  # probabilities (windows, 3)

SPLITS = (N_("train"), N_("validation"), N_("test"))


class Judged(NamedTuple):
    """A fold, and the forecasts of its validation and test windows.

    Attributes:
        fold: the one that the windows belong to.
        model: probabilities of the model, (windows, 3) by split.
        baselines: forecasts of each baseline, by name.
    """

    fold: Fold
    model: BySplit
    baselines: dict[str, BySplit]


class Judgement(NamedTuple):
    """The test windows of all folds together.

    Attributes:
        verdict: with the result of trades, and the classes that are hardly ever called.
        skill: by month, year and symbol.
        test: the model's scores.
        baselines: theirs, by name.
        costs: results of trading on the calls.
    """

    verdict: Verdict
    skill: SkillByPart
    test: Scores
    baselines: dict[str, PooledScores]
    costs: Trades


def describe_splits(market: Market, fold: Fold) -> dict[str, Split]:
    """Returns windows, class counts, and first and last time of each split."""
    described = {}
    for name in SPLITS:
        ends = getattr(fold, name)
        first, last = spans(ends, market.timestamps, market.sequence_length, market.future_window)
        counts = np.bincount(fold.labels[ends], minlength=len(CLASS_NAMES))
        described[name] = Split(
            windows=len(ends),
            class_counts=dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
            first_time=str(first.min())[:19],
            last_time=str(last.max())[:19],
        )
    return described


def longest_span(market: Market, ends: np.ndarray) -> float:
    """Returns the seconds from a window's first bar to its label's last, of the longest window.

    In calendar time: nights and weekends make a span longer than its bars.
    """
    first, last = spans(ends, market.timestamps, market.sequence_length, market.future_window)
    return float((last - first).max() / np.timedelta64(1, "s"))


def blocks_of(market: Market, ends: np.ndarray) -> np.ndarray:
    """Returns the number of each window's block of time, as long as a window, (windows,)."""
    return time_blocks(market.timestamps[ends], longest_span(market, ends))


def judge(market: Market, folds: list[Judged], *, cost_bps: float) -> Judgement:
    """Returns verdict, metrics and trades of the test windows of all folds together.

    The baseline to beat is picked on validation windows, those left out that another fold tests
    on. Each fold's windows are called by its training prior.

    Args:
        market: of the folds.
        folds: each with its forecasts.
        cost_bps: trading cost per side in basis points.
    """
    test = pooled(folds, "test")
    chosen_on = pooled(folds, "validation", without=test.ends)
    picked = pick({name: chosen_on.evaluate(p) for name, p in chosen_on.baselines.items()})
    model = answers(test.model, test.prior)
    others = {name: answers(p, test.prior) for name, p in test.baselines.items()}
    times, symbols = market.timestamps[test.ends], market.symbols[test.ends]
    block_seconds = longest_span(market, test.ends)
    costs = simulate_trades(
        times,
        symbols,
        model.calls,
        market.trade_return[test.ends],
        holding_bars=market.future_window,
        cost_bps=cost_bps,
        baselines={name: other.calls for name, other in others.items()},
        forward_return=market.forward_return[test.ends],
        close=market.close[test.ends],
    )
    scores = test.evaluate(test.model)
    answer = verdict(
        times,
        test.labels,
        model,
        others[picked],
        baseline=picked,
        block_seconds=block_seconds,
        num_folds=len(folds),
    )
    return Judgement(
        verdict=with_calls(with_trades(answer, costs), scores),
        skill=skill_by_part(
            times, symbols, market.symbol_names, test.labels, model, block_seconds=block_seconds
        ),
        test=scores,
        baselines={n: PooledScores(test.evaluate(p)) for n, p in test.baselines.items()},
        costs=costs,
    )


@dataclass(frozen=True)
class Pool:
    """The windows of a split of all folds, by symbol, then time.

    Attributes:
        ends: end rows, (windows,).
        labels: class codes, (windows,).
        prior: class frequencies of each window's fold, (windows, 3).
        model: its probabilities, (windows, 3).
        baselines: theirs, by name.
    """

    ends: np.ndarray
    labels: np.ndarray
    prior: np.ndarray
    model: np.ndarray
    baselines: dict[str, np.ndarray]

    def evaluate(self, probabilities: np.ndarray) -> Scores:
        """Returns the metrics of probabilities (windows, 3)."""
        return evaluate(self.labels, probabilities, self.prior)


def pooled(folds: list[Judged], split: str, without: np.ndarray | None = None) -> Pool:
    """Returns the windows of a split, less those that end in the rows `without`."""
    rows = [getattr(fold, split) for fold, _, _ in folds]
    kept = [np.flatnonzero(~np.isin(ends, () if without is None else without)) for ends in rows]
    ends = np.concatenate([ends[places] for ends, places in zip(rows, kept, strict=True)])
    order = np.argsort(ends, kind="stable")

    def together(parts) -> np.ndarray:
        picked = [part[places] for part, places in zip(parts, kept, strict=True)]
        return np.concatenate(picked)[order]

    priors = [
        np.tile(training_prior(fold), (len(ends), 1))
        for (fold, _, _), ends in zip(folds, rows, strict=True)
    ]
    return Pool(
        ends[order],
        together([fold.labels[ends] for (fold, _, _), ends in zip(folds, rows, strict=True)]),
        together(priors),
        together([model[split] for _, model, _ in folds]),
        {name: together([f.baselines[name][split] for f in folds]) for name in folds[0].baselines},
    )


def drift(market: Market, fold: Fold) -> dict[str, float]:
    """Returns the drift of each feature from training to test windows, the largest first."""
    return feature_drift(market.features, market.feature_names, fold.train, fold.test)


def recent_bars(
    market: Market,
    fold: Fold,
    probabilities: np.ndarray,
    *,
    num_bars: int = 300,
    num_symbols: int = 6,
) -> pd.DataFrame:
    """Returns the last test windows of the symbols with the most windows, and their prices.

    Args:
        market: of the fold.
        fold: the last one.
        probabilities: of its test windows, (windows, 3).
        num_bars: the most bars of each symbol.
        num_symbols: the most symbols.

    Returns:
        timestamp, symbol, call, p_sell, p_hold, p_buy and price, 100 at the first of the bars; by
        symbol, then time.
    """
    table = predictions_table(market, [fold], [probabilities])
    codes, counts = np.unique(market.symbols[fold.test], return_counts=True)
    parts = []
    for code in codes[np.argsort(-counts, kind="stable")][:num_symbols]:
        rows = np.flatnonzero(market.symbols[fold.test] == code)[-num_bars:]
        close = np.asarray(market.close[fold.test[rows]], np.float64)
        parts.append(table.iloc[rows].assign(price=100 * close / close[0]))
    shares = [f"p_{name.lower()}" for name in CLASS_NAMES]
    columns = ["timestamp", "symbol", "call", *shares, "price"]
    return pd.concat(parts, ignore_index=True)[columns]


def predictions_table(
    market: Market, folds: list[Fold], probabilities: list[np.ndarray], split: str = "test"
) -> pd.DataFrame:
    """Returns the windows of a split, fold after fold.

    Returns:
        timestamp (of the last bar), symbol, label, call and side (see `evaluation.answers`; by
        the fold's training prior), p_sell, p_hold, p_buy and forward_return.
    """
    parts, names = [], pd.CategoricalDtype(list(market.symbol_names))
    for fold, values in zip(folds, probabilities, strict=True):
        ends = getattr(fold, split)
        called = answers(values, training_prior(fold))
        parts.append(
            pd.DataFrame(
                {
                    "timestamp": pd.to_datetime(market.timestamps[ends], utc=True),
                    "symbol": pd.Categorical.from_codes(market.symbols[ends], dtype=names),
                    "label": fold.labels[ends].astype("int32"),
                    "call": called.calls.astype("int32"),
                    "side": called.sides,
                    **{f"p_{name.lower()}": values[:, i] for i, name in enumerate(CLASS_NAMES)},
                    "forward_return": market.forward_return[ends],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
