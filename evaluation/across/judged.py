"""The answers of a trained run, and of its fitted baselines, judged across symbols."""

from data.market.market import Market
from evaluation.across.cross_section import Forecasts, cross_section
from evaluation.baselines.fold import FITTED
from evaluation.figures.scores import CrossSection, FewSymbols
from evaluation.judge import Judged, Pool, longest_span, pooled


def judge_across(
    market: Market, folds: list[Judged], *, cost_bps: float
) -> CrossSection | FewSymbols:
    """Returns `evaluation.across.cross_section.cross_section` of the test windows of all folds.

    Validation windows count as a past, but for those that another fold tests on.

    Args:
        market: that the folds are of.
        folds: as `evaluation.judge.judge` takes them.
        cost_bps: trading cost per side in basis points.
    """
    test = pooled(folds, "test")
    before = pooled(folds, "validation", without=test.ends)

    def forecasts(pool: Pool) -> Forecasts:
        return Forecasts(market.timestamps[pool.ends], market.symbols[pool.ends], pool.model)

    return cross_section(
        forecasts(test),
        market.forward_return[test.ends],
        market.trade_return[test.ends],
        horizon=market.future_window,
        cost_bps=cost_bps,
        block_seconds=longest_span(market, test.ends),
        before=forecasts(before),
        label_reference=market.settings.label_reference,
        baselines={
            name: (test.baselines[name], before.baselines[name])
            for name in FITTED
            if name in test.baselines
        },
    )
