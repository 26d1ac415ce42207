"""Which figures a report shows, each with its caption and what it says in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.labels import CLASS_NAMES
from evaluation.report import market_plots, plots
from evaluation.report.formats import number, picture, signed

MOST_FEATURES = 10  # drawn
Pictures = dict[str, dict[str, str]]


def pooled(metrics: Mapping[str, Any], predictions: pd.DataFrame) -> Pictures:
    """Returns the figures of all folds together that can be drawn, by name."""
    verdict, test = metrics.get("verdict") or {}, metrics.get("test") or {}
    drawn: Pictures = {}
    if "mcc_interval" in verdict:
        scores = {n: given["test"]["mcc"] for n, given in (metrics.get("baselines") or {}).items()}
        drawn["skill"] = picture(
            plots.skill_intervals(verdict, scores),
            "MCC of the model and of each baseline",
            f"MCC of the model {signed(verdict['mcc'])}, interval "
            f"{signed(verdict['mcc_interval'])}; "
            + ", ".join(f"{name} {signed(score)}" for name, score in scores.items()),
        )
    if "confusion" in test:
        drawn["confusion"] = picture(
            plots.confusion_matrix(test["confusion"], CLASS_NAMES),
            "Confusion matrix of the test windows; shares are of the true class",
            _confusion_in_words(test["confusion"]),
        )
    probabilities = [f"p_{name.lower()}" for name in CLASS_NAMES]
    if len(predictions) and {"label", *probabilities} <= set(predictions):
        labels, given = predictions["label"].to_numpy(), predictions[probabilities].to_numpy(float)
        told = ", ".join(
            f"{name} was given {given[:, code].mean():.1%} on average and came true in "
            f"{(labels == code).mean():.1%}"
            for code, name in enumerate(CLASS_NAMES)
        )
        drawn["reliability"] = picture(
            plots.reliability_diagram(labels, given, CLASS_NAMES),
            "Reliability on test windows; bars: one standard error as if windows were independent",
            f"Share that came true against the probability given: {told}",
        )
    return drawn | _skill_parts(metrics.get("skill") or {}) | _trading(metrics)


def of_fold(fold: Mapping[str, Any], history: pd.DataFrame) -> Pictures:
    """Returns the figures of one fold's model and training, by name."""
    drawn: Pictures = {}
    importance = fold.get("importance") or {}
    if importance.get("features"):
        shown = importance["features"][:MOST_FEATURES]
        drawn["importance"] = picture(
            market_plots.interval_rows(shown, "rise", "rise of the NLL without it, nats"),
            f"What each feature is worth on validation windows: the {len(shown)} largest; bars: "
            "95 % interval",
            _rises_in_words(shown, "name"),
        )
        drawn["lookback"] = picture(
            market_plots.lookback_curve(importance["lookback"]),
            "How far back the network looks: earlier bars are put at their training mean",
            _rises_in_words(importance["lookback"], "bars"),
        )
    return drawn | of_training(fold, history)


def of_training(trained: Mapping[str, Any], history: pd.DataFrame) -> Pictures:
    """Returns the figures of the training of one model: of a fold, or of an ensemble's member."""
    drawn: Pictures = {}
    if len(history):
        chosen = (trained.get("chosen") or {}).get("epoch")
        drawn["curves"] = picture(
            plots.learning_curves(history, chosen),
            "Learning curves, with the schedules under them",
            _history_in_words(history, chosen),
        )
        if any(str(column).startswith("val_rate_") for column in history):
            rates = (trained.get("validation") or {}).get("class_rates", {}).get("true")
            drawn["shares"] = picture(
                plots.class_shares(history, CLASS_NAMES, rates),
                "Class shares of the predictions on validation windows, from the training logits",
                "In the last epoch "
                + ", ".join(f"{n} {history[f'val_rate_{n.lower()}'].iloc[-1]:.1%}"
                            for n in CLASS_NAMES),
            )  # fmt: skip
    return drawn


def calls(recent: pd.DataFrame) -> list[dict[str, str]]:
    """Returns the figure of each symbol's last test bars, with its name under `symbol`."""
    drawn = []
    for symbol, own in recent.groupby("symbol", observed=True, sort=False):
        named = own[[f"p_{name.lower()}" for name in CLASS_NAMES]].to_numpy().argmax(axis=1)
        counts = np.bincount(named, minlength=len(CLASS_NAMES))
        told = ", ".join(f"{n} {count}" for n, count in zip(CLASS_NAMES, counts, strict=True))
        figure = picture(
            market_plots.calls_on_price(own, CLASS_NAMES),
            f"{symbol}: the last {len(own)} test bars, with the most probable class of each where "
            "it is SELL or BUY",
            f"Answers: {told}. The price went from 100 to {own['price'].iloc[-1]:.1f}",
        )
        drawn.append({"symbol": str(symbol), **figure})
    return drawn


def traders(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the results of trading by name: the model, the best baseline, and buy and hold."""
    costs, best = metrics.get("costs") or {}, (metrics.get("verdict") or {}).get("baseline")
    found = {
        "xLSTM": costs.get("model"),
        best: (costs.get("baselines") or {}).get(best),
        "buy and hold": costs.get("buy_and_hold"),
    }
    return {name: part for name, part in found.items() if part}


def _trading(metrics: Mapping[str, Any]) -> Pictures:
    parts, costs = traders(metrics), metrics.get("costs") or {}
    if not parts or "periods" not in costs:
        return {}
    ends = ", ".join(
        f"{name} {part['net_return']:+.1%} with a drawdown of {part['drawdown']:.1%}"
        for name, part in parts.items()
    )
    at = ", ".join(
        f"{name} from {part['by_cost']['net_return'][0]:+.1%} to "
        f"{part['by_cost']['net_return'][-1]:+.1%}"
        for name, part in parts.items()
    )
    return {
        "equity": picture(
            market_plots.equity_curves(
                costs["periods"], {name: part["equity"] for name, part in parts.items()}
            ),
            "Gains after costs so far, share of the capital, and the fall from the last peak",
            f"At the end: {ends}",
        ),
        "by_cost": picture(
            market_plots.cost_curves(
                costs["costs"],
                {name: part["by_cost"] for name, part in parts.items()},
                costs["cost_bps"],
            ),
            "What is left as trading costs rise",
            f"Net return as the cost of a side goes from {costs['costs'][0]:g} to "
            f"{costs['costs'][-1]:g} basis points: {at}",
        ),
    }


def _skill_parts(skill: Mapping[str, Sequence[Mapping[str, Any]]]) -> Pictures:
    drawn: Pictures = {}
    label = "MCC; bar: 95 % interval"
    for key, what, draw in [
        ("by_month", "calendar month", market_plots.intervals_over_time),
        ("by_symbol", "symbol", market_plots.interval_rows),
        ("by_year", "year", market_plots.intervals_over_time),
    ]:
        rows = [part | {"interval": part["mcc_interval"]} for part in skill.get(key) or []]
        if len(rows) > 1:
            above = sum(part["mcc"] > 0 for part in rows)
            drawn[key] = picture(
                draw(rows, "mcc", label),
                f"MCC by {what}",
                f"MCC above 0 in {above} of {len(rows)}: "
                + ", ".join(f"{part['name']} {signed(part['mcc'])}" for part in rows),
            )
    return drawn


def _confusion_in_words(confusion: Sequence[Sequence[int]]) -> str:
    return "; ".join(
        f"true {name}: " + ", ".join(f"{n} {c:,}" for n, c in zip(CLASS_NAMES, row, strict=True))
        for name, row in zip(CLASS_NAMES, confusion, strict=True)
    )


def _rises_in_words(parts: Sequence[Mapping[str, Any]], key: str) -> str:
    said = ", ".join(f"{part[key]} {signed(part['rise'], 4)}" for part in parts)
    return f"Rise of the NLL by {'feature' if key == 'name' else 'bars left'}: {said}"


def _history_in_words(history: pd.DataFrame, chosen: int | None) -> str:
    said = [f"{len(history)} epochs"]
    said += [] if chosen is None else [f"epoch {chosen} was chosen"]
    for column, name in (("loss", "loss"), ("val_nll", "validation NLL"), ("val_mcc", "MCC")):
        values = history[column].dropna() if column in history else ()
        if len(values):
            first, last = number(values.iloc[0]), number(values.iloc[-1])
            said.append(f"{name} from {first} to {last}")
    return ", ".join(said)
