"""The cards that a report opens with: data, skill, the best other, the net result, calibration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.i18n import _, date, ngettext, number
from evaluation.figures.run import FoldMetrics, Metrics, PooledScores
from evaluation.figures.scores import Scores, Verdict
from evaluation.verdict import NONE, WORSE, YES
from evaluation.verdict_words import ANSWERS, baseline_in_words, figure_in_words

Card = dict[str, Any]
_TONES = {YES: "good", WORSE: "bad"}


def cards(metrics: Metrics, predictions: pd.DataFrame, run_info: Mapping[str, Any]) -> list[Card]:
    """Returns the cards: name, answer, tone ("", good, bad) and details.

    Args:
        metrics: the content of metrics.json.
        predictions: test windows of all folds.
        run_info: the content of run.json.
    """
    return [
        *_data(metrics.folds, predictions, run_info),
        *_answers(metrics.verdict),
        *_net_result(metrics.verdict),
        _calibration(metrics.test, metrics.baselines),
    ]


def _card(name: str, answer: str, details: Sequence[str], tone: str = "") -> Card:
    return {"name": name, "answer": answer, "details": details, "tone": tone}


def _data(
    folds: Sequence[FoldMetrics], predictions: pd.DataFrame, run_info: Mapping[str, Any]
) -> Iterator[Card]:
    if "data" not in run_info:
        return
    tests = [fold.splits["test"] for fold in folds]
    first, last = folds[0].splits["train"].first_time, tests[-1].last_time
    source = run_info["data"]
    details = [_period(first, last)]
    if "symbol" in predictions:
        symbols = predictions["symbol"].nunique()
        details.append(ngettext("{n} symbol", "{n} symbols", symbols))
    windows = sum(test.windows for test in tests)
    details.append(ngettext("tested on {n:,} window", "tested on {n:,} windows", windows))
    details.append(_period(tests[0].first_time, last))
    name = _("the sample") if source is None else Path(source).name.partition("?")[0]
    yield _card(_("Data"), name, details)


def _period(first: str, last: str) -> str:
    return _("{first} to {last}", first=date(first[:10]), last=date(last[:10]))


def _figure(value: float, interval: Sequence[float]) -> str:
    """Returns a figure with an interval that no line breaks."""
    figure, bracket, reach = figure_in_words(value, interval).partition(" (")
    return figure + bracket + reach.replace(" ", "\N{NO-BREAK SPACE}")


def _answers(verdict: Verdict) -> Iterator[Card]:
    skill, better = verdict.skill_in_direction, verdict.better_than_baseline
    where, when = verdict.direction, verdict.movement
    tone = "bad" if skill == NONE and where.interval[1] < 0 else _TONES.get(skill, "")
    details = [
        _("direction {figure}", figure=_figure(where.mcc, where.interval)),
        _("movement {figure}", figure=_figure(when.mcc, when.interval)),
    ]
    yield _card(_("Skill"), _(ANSWERS[skill]), details, tone)
    if better is not None:
        difference = _figure(where.difference, where.difference_interval)
        details = [_("difference in direction {figure}", figure=difference)]
        name = _("Better than {baseline}", baseline=baseline_in_words(verdict))
        yield _card(name, _(ANSWERS[better]), details, _TONES.get(better, ""))


def _net_result(verdict: Verdict) -> Iterator[Card]:
    net, baseline, held = (
        verdict.net_return,
        verdict.baseline_net_return,
        verdict.buy_and_hold_net_return,
    )
    if net is None or baseline is None or held is None:
        return
    holding = _("buy and hold")
    details = [
        ngettext(
            "{n:,} trade, {cost:g} basis points a side",
            "{n:,} trades, {cost:g} basis points a side",
            verdict.trades or 0,
            cost=verdict.cost_bps,
        ),
        f"{baseline_in_words(verdict)} {number(baseline, '+.1%')}",
        f"{holding} {number(held, '+.1%')}",
    ]
    yield _card(_("Net result"), number(net, "+.1%"), details)


def _calibration(test: Scores, baselines: Mapping[str, PooledScores]) -> Card:
    details = [_("mean distance of a probability from what came true (ECE)")]
    prior = baselines.get("constant prior")
    if prior is not None:
        details.append(
            _("NLL {own:.4f}, constant prior {other:.4f}", own=test.nll, other=prior.test.nll)
        )
    return _card(_("Calibration"), number(test.ece, ".1%"), details)
