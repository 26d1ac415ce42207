"""The cards that a report opens with: data, skill, the best other, the net result, calibration."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.i18n import _, date, ngettext, number
from evaluation.verdict import NONE, WORSE, YES
from evaluation.verdict_words import ANSWERS, baseline_in_words, figure_in_words

Card = dict[str, Any]
_TONES = {YES: "good", WORSE: "bad"}


def cards(
    metrics: Mapping[str, Any], predictions: pd.DataFrame, run_info: Mapping[str, Any]
) -> list[Card]:
    """Returns the cards whose numbers are there: name, answer, tone ("", good, bad) and details.

    Args:
        metrics: the content of metrics.json.
        predictions: test windows of all folds.
        run_info: the content of run.json.
    """
    verdict, test = metrics.get("verdict") or {}, metrics.get("test") or {}
    found = [*_data(metrics.get("folds") or [], predictions, run_info)]
    if "skill_in_direction" in verdict:
        found += _answers(verdict)
    if "net_return" in verdict:
        found.append(_net_result(verdict))
    if "ece" in test:
        found.append(_calibration(test, metrics.get("baselines") or {}))
    return found


def _card(name: str, answer: str, details: Sequence[str], tone: str = "") -> Card:
    return {"name": name, "answer": answer, "details": details, "tone": tone}


def _data(
    folds: Sequence[Mapping[str, Any]], predictions: pd.DataFrame, run_info: Mapping[str, Any]
) -> Iterator[Card]:
    splits = [fold["splits"] for fold in folds if fold.get("splits")]
    if not splits or "data" not in run_info:
        return
    first, last = splits[0]["train"]["first_time"], splits[-1]["test"]["last_time"]
    source = run_info["data"]
    details = [_period(first, last)]
    if "symbol" in predictions:
        symbols = predictions["symbol"].nunique()
        details.append(ngettext("{n} symbol", "{n} symbols", symbols))
    windows = sum(own["test"]["windows"] for own in splits)
    details.append(ngettext("tested on {n:,} window", "tested on {n:,} windows", windows))
    details.append(_period(splits[0]["test"]["first_time"], last))
    name = _("the sample") if source is None else Path(source).name.partition("?")[0]
    yield _card(_("Data"), name, details)


def _period(first: str, last: str) -> str:
    return _("{first} to {last}", first=date(first[:10]), last=date(last[:10]))


def _figure(value: float, interval: Sequence[float]) -> str:
    """Returns a figure with an interval that no line breaks."""
    figure, bracket, reach = figure_in_words(value, interval).partition(" (")
    return figure + bracket + reach.replace(" ", "\N{NO-BREAK SPACE}")


def _answers(verdict: Mapping[str, Any]) -> Iterator[Card]:
    skill, better = verdict["skill_in_direction"], verdict["better_than_baseline"]
    where, when = verdict["direction"], verdict["movement"]
    tone = "bad" if skill == NONE and where["interval"][1] < 0 else _TONES.get(skill, "")
    details = [
        _("direction {figure}", figure=_figure(where["mcc"], where["interval"])),
        _("movement {figure}", figure=_figure(when["mcc"], when["interval"])),
    ]
    yield _card(_("Skill"), _(ANSWERS[skill]), details, tone)
    if better is not None:
        difference = _figure(where["difference"], where["difference_interval"])
        details = [_("difference in direction {figure}", figure=difference)]
        name = _("Better than {baseline}", baseline=baseline_in_words(verdict))
        yield _card(name, _(ANSWERS[better]), details, _TONES.get(better, ""))


def _net_result(verdict: Mapping[str, Any]) -> Card:
    net, others = verdict["net_return"], verdict["buy_and_hold_net_return"]
    held = _("buy and hold")
    details = [
        ngettext(
            "{n:,} trade, {cost:g} basis points a side",
            "{n:,} trades, {cost:g} basis points a side",
            verdict["trades"],
            cost=verdict["cost_bps"],
        ),
        f"{baseline_in_words(verdict)} {number(verdict['baseline_net_return'], '+.1%')}",
        f"{held} {number(others, '+.1%')}",
    ]
    return _card(_("Net result"), number(net, "+.1%"), details)


def _calibration(test: Mapping[str, Any], baselines: Mapping[str, Any]) -> Card:
    details = [_("mean distance of a probability from what came true (ECE)")]
    prior = (baselines.get("constant prior") or {}).get("test") or {}
    if "nll" in prior:
        details.append(
            _("NLL {own:.4f}, constant prior {other:.4f}", own=test["nll"], other=prior["nll"])
        )
    return _card(_("Calibration"), number(test["ece"], ".1%"), details)
