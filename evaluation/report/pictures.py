"""The figures of a report, each with its caption and a summary in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from core.i18n import N_, _, date, listed, ngettext
from core.i18n import number as i18n_number
from data.market.labels import CLASS_NAMES
from evaluation.figures.run import FeatureRise, FoldMetrics, LookbackRise, Member, Metrics
from evaluation.figures.scores import Scores, Skill, SkillByPart, Traded
from evaluation.report import market_plots, plots
from evaluation.report.formats import drawing, number, picture, signed
from evaluation.report.market_plots import Row
from evaluation.verdict import SKILLS

MOST_FEATURES = 10  # drawn
Pictures = dict[str, dict[str, str]]


def pooled(metrics: Metrics, predictions: pd.DataFrame) -> Pictures:
    """Returns the figures of all folds together, those that can be drawn, by name."""
    verdict, relative = metrics.verdict, bool(metrics.verdict.relative)
    model, confusion = plots.own_name(metrics), metrics.test.confusion
    baselines = {name: baseline.test for name, baseline in metrics.baselines.items()}
    drawn: Pictures = {}
    with drawing(drawn, "skill"):
        drawn["skill"] = picture(
            plots.skill_intervals(verdict, baselines, model),
            _("Direction and movement of {name} and of each baseline", name=_(model))
            + aside(relative),
            "; ".join(
                _skill_in_words(skill, getattr(verdict, skill), baselines, model)
                for skill in SKILLS
            ),
        )
    with drawing(drawn, "confusion"):
        drawn["confusion"] = picture(
            plots.confusion_matrix(confusion, CLASS_NAMES),
            _("Confusion matrix of the test windows; shares are of the true class")
            + aside(relative),
            _confusion_in_words(confusion),
        )
    probabilities = [f"p_{name.lower()}" for name in CLASS_NAMES]
    if len(predictions) and {"label", *probabilities} <= set(predictions):
        labels = predictions["label"].to_numpy()
        forecast = predictions[probabilities].to_numpy(float)
        rates = listed(
            _(
                "{name} was given {given:.1%} on average and came true in {rate:.1%}",
                name=name,
                given=forecast[:, code].mean(),
                rate=(labels == code).mean(),
            )
            for code, name in enumerate(CLASS_NAMES)
        )
        with drawing(drawn, "reliability"):
            drawn["reliability"] = picture(
                plots.reliability_diagram(labels, forecast, CLASS_NAMES),
                _(
                    "Reliability on test windows; bars: one standard error as if windows were "
                    "independent"
                ),
                _("Share that came true against the probability given: {rates}", rates=rates),
            )
    return drawn | _skill_parts(metrics.skill, relative) | _trading(metrics)


def of_fold(fold: FoldMetrics, history: pd.DataFrame) -> Pictures:
    """Returns the figures of one fold's model and training, by name."""
    drawn: Pictures = {}
    if fold.importance:
        shown, lookback = fold.importance.features[:MOST_FEATURES], fold.importance.lookback
        rows = [Row(part.name, part.rise, part.interval) for part in shown]
        with drawing(drawn, "importance"):
            drawn["importance"] = picture(
                market_plots.interval_rows(rows, _("rise of the NLL without it, nats")),
                ngettext(
                    "What each feature is worth on validation windows: the {n} largest; bars: 95 % "
                    "interval",
                    "What each feature is worth on validation windows: the {n} largest; bars: 95 % "
                    "interval",
                    len(shown),
                ),
                _("Rise of the NLL by feature: {said}", said=_rises(shown)),
            )
        with drawing(drawn, "lookback"):
            drawn["lookback"] = picture(
                market_plots.lookback_curve(lookback),
                _("How far back the network looks: earlier bars are put at their training mean"),
                _("Rise of the NLL by bars left: {said}", said=_rises(lookback)),
            )
    return drawn | of_training(fold, history)


def of_training(trained: FoldMetrics | Member, history: pd.DataFrame) -> Pictures:
    """Returns the figures of the training of one model: of a fold, or of an ensemble's member."""
    drawn: Pictures = {}
    if len(history):
        chosen = trained.chosen.epoch
        with drawing(drawn, "curves"):
            drawn["curves"] = picture(
                plots.learning_curves(history, chosen),
                _("Learning curves, with the schedules under them"),
                _history_in_words(history, chosen),
            )
        if any(str(column).startswith("val_rate_") for column in history):
            rates = trained.validation.class_rates.true
            with drawing(drawn, "shares"):
                drawn["shares"] = picture(
                    plots.class_shares(history, CLASS_NAMES, rates),
                    _(
                        "Class shares of the predictions on validation windows, from the training "
                        "logits"
                    ),
                    _("In the last epoch {shares}", shares=_shares_in_words(history)),
                )
    return drawn


def aside(relative: bool) -> str:
    """Returns the addition to a caption if SELL and BUY are relative to the market."""
    return _(" (SELL and BUY relative to the market)") if relative else ""


def calls(recent: pd.DataFrame, *, relative: bool = False) -> list[dict[str, str]]:
    """Returns the figure of each symbol's last test bars, with its name under `symbol`.

    Args:
        recent: the bars, as `evaluation.judge.recent_bars` gives them.
        relative: whether the calls are relative to the market; the price is not.
    """
    drawn: Pictures = {}
    for symbol, bars in recent.groupby("symbol", observed=True, sort=False):
        counts = np.bincount(bars["call"], minlength=len(CLASS_NAMES))
        counted = listed(f"{n} {count}" for n, count in zip(CLASS_NAMES, counts, strict=True))
        with drawing(drawn, str(symbol)):
            drawn[str(symbol)] = picture(
                market_plots.calls_on_price(bars, CLASS_NAMES),
                ngettext(
                    "{symbol}: the last {n} test bars, with the call of each where it is SELL or "
                    "BUY",
                    "{symbol}: the last {n} test bars, with the call of each where it is SELL or "
                    "BUY",
                    len(bars),
                    symbol=symbol,
                )
                + aside(relative),
                _(
                    "Calls: {calls}. The price went from 100 to {last:.1f}",
                    calls=counted,
                    last=bars["price"].iloc[-1],
                ),
            )
    return [{"symbol": symbol, **figure} for symbol, figure in drawn.items()]


def traders(metrics: Metrics) -> dict[str, Traded]:
    """Returns the results of trading by name: the model, the best baseline, and buy and hold."""
    best = metrics.verdict.baseline
    return {
        plots.own_name(metrics): metrics.costs.model,
        best: metrics.costs.baselines[best],
        N_("buy and hold"): metrics.costs.buy_and_hold,
    }


def _trading(metrics: Metrics) -> Pictures:
    parts, costs = traders(metrics), metrics.costs
    ends = listed(
        _(
            "{name} {net_return:+.1%} with a drawdown of {drawdown:.1%}",
            name=_(name),
            net_return=part.net_return,
            drawdown=part.drawdown,
        )
        for name, part in parts.items()
    )
    at = listed(
        _(
            "{name} from {first:+.1%} to {last:+.1%}",
            name=_(name),
            first=part.by_cost.net_return[0],
            last=part.by_cost.net_return[-1],
        )
        for name, part in parts.items()
    )
    drawn: Pictures = {}
    with drawing(drawn, "equity"):
        drawn["equity"] = picture(
            market_plots.equity_curves(
                costs.periods, {name: part.equity for name, part in parts.items()}
            ),
            _("Gains after costs so far, share of the capital, and the fall from the last peak"),
            _("At the end: {ends}", ends=ends),
        )
    with drawing(drawn, "by_cost"):
        drawn["by_cost"] = picture(
            market_plots.cost_curves(
                costs.costs,
                {name: part.by_cost for name, part in parts.items()},
                costs.cost_bps,
            ),
            _("What is left as trading costs rise"),
            _(
                "Net return as the cost of a side goes from {first:g} to {last:g} basis points: "
                "{at}",
                first=costs.costs[0],
                last=costs.costs[-1],
                at=at,
            ),
        )
    return drawn


def _skill_parts(skill: SkillByPart, relative: bool) -> Pictures:
    drawn: Pictures = {}
    label = _("MCC of direction; bar: 95 % interval")
    over_time, side_by_side = market_plots.intervals_over_time, market_plots.interval_rows
    for key, parts, what, draw in [
        ("by_month", skill.by_month, _("Direction by calendar month"), over_time),
        ("by_symbol", skill.by_symbol, _("Direction by symbol"), side_by_side),
        ("by_year", skill.by_year, _("Direction by year"), over_time),
    ]:
        rows = [Row(part.name, part.direction, part.direction_interval) for part in parts]
        if len(rows) > 1:
            above = sum(row.value > 0 for row in rows)
            with drawing(drawn, key):
                drawn[key] = picture(
                    draw(rows, label),
                    what + aside(relative),
                    _(
                        "Direction above 0 in {above} of {all}: {parts}",
                        above=above,
                        all=len(rows),
                        parts=listed(f"{date(row.name)} {signed(row.value)}" for row in rows),
                    ),
                )
    return drawn


def _skill_in_words(skill: str, model: Skill, baselines: Mapping[str, Scores], name: str) -> str:
    return _(
        "{skill} of {name} {mcc}, interval {interval}; {others}",
        skill=_(skill),
        name=_(name),
        mcc=signed(model.mcc),
        interval=signed(model.interval),
        others=listed(
            f"{_(other)} {signed(getattr(scores, skill))}" for other, scores in baselines.items()
        ),
    )


def _confusion_in_words(confusion: Sequence[Sequence[int]]) -> str:
    return "; ".join(
        _("true {name}: {counts}", name=name, counts=_counted(row))
        for name, row in zip(CLASS_NAMES, confusion, strict=True)
    )


def _counted(row: Sequence[int]) -> str:
    return listed(f"{n} {i18n_number(c, ',')}" for n, c in zip(CLASS_NAMES, row, strict=True))


def _shares_in_words(history: pd.DataFrame) -> str:
    last = {name: history[f"val_rate_{name.lower()}"].iloc[-1] for name in CLASS_NAMES}
    return listed(f"{name} {i18n_number(share, '.1%')}" for name, share in last.items())


def _rises(parts: Sequence[FeatureRise] | Sequence[LookbackRise]) -> str:
    return listed(
        f"{part.name if isinstance(part, FeatureRise) else part.bars} {signed(part.rise, 4)}"
        for part in parts
    )


def _history_in_words(history: pd.DataFrame, chosen: int | None) -> str:
    texts = [ngettext("{n} epoch", "{n} epochs", len(history))]
    texts += [] if chosen is None else [_("epoch {chosen} was chosen", chosen=chosen + 1)]
    for column, name in (("loss", _("loss")), ("val_nll", _("validation NLL")), ("val_mcc", "MCC")):
        values = history[column].dropna() if column in history else None
        if values is not None and len(values):
            first, last = number(values.iloc[0]), number(values.iloc[-1])
            texts.append(_("{name} from {first} to {last}", name=name, first=first, last=last))
    return listed(texts)
