"""Metrics, history and predictions of a run as one self-contained page, report.html."""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from evaluation.report import plots as figures

TEMPLATE = "report.html.jinja"
FILE = "report.html"
COLUMNS = {
    "mcc": "MCC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE",
}
_MOST_LISTED = 6  # numbers; longer lists are summarised
LOWER_IS_BETTER = ("nll", "ece")
COST_COLUMNS = {
    "net_return": "net return",
    "gross_return": "before costs",
    "sharpe": "Sharpe",
    "drawdown": "drawdown",
    "turnover": "turnover per year",
    "trades": "trades",
    "gross_bps_per_trade": "bps per trade before costs",
}


def write_report(
    folder: str | Path,
    *,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    class_names: Sequence[str] = ("SELL", "HOLD", "BUY"),
) -> Path:
    """Writes report.html into the run folder, at once or not at all, and returns its path.

    Every part whose figures are missing is left out.

    Args:
        folder: the run folder.
        metrics: the content of metrics.json.
        history: a row for each epoch.
        predictions: test windows with `label` and `p_CLASS` of each class.
        class_names: in class order.
    """
    folder = Path(folder)
    page = render(folder.name, metrics, history, predictions, class_names)
    path, temporary = folder / FILE, folder / f".{FILE}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(
    title: str,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    class_names: Sequence[str],
) -> str:
    """Returns the page as HTML; see `write_report`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _number, "plain": _plain, "words": _words}
    return environment.get_template(TEMPLATE).render(
        title=title,
        metrics=metrics,
        class_names=class_names,
        pictures=_pictures(metrics, history, predictions, class_names),
        comparisons=_comparisons(metrics),
        columns=COLUMNS,
        cost_rows=_cost_rows(metrics.get("costs") or {}),
        cost_columns=COST_COLUMNS,
        folds=metrics.get("folds") or [],
        spells=_spells((metrics.get("collapse") or {}).get("alarms") or []),
    )


def _pictures(metrics, history, predictions, class_names) -> dict[str, str]:
    """Returns the figures that can be drawn, as data URIs by name."""
    verdict, test = metrics.get("verdict") or {}, metrics.get("test") or {}
    drawn = {}
    if "mcc_interval" in verdict:
        scores = {n: both["test"]["mcc"] for n, both in (metrics.get("baselines") or {}).items()}
        drawn["skill"] = figures.skill_intervals(verdict, scores)
    if len(history):
        chosen = (metrics.get("chosen") or {}).get("epoch")
        drawn["curves"] = figures.learning_curves(history, chosen)
        true_rates = (metrics.get("validation") or {}).get("class_rates", {}).get("true")
        if any(str(column).startswith("val_rate_") for column in history):
            drawn["shares"] = figures.class_shares(history, class_names, true_rates)
    if "confusion" in test:
        drawn["confusion"] = figures.confusion_matrix(test["confusion"], class_names)
    probabilities = [f"p_{name.lower()}" for name in class_names]
    if len(predictions) and {"label", *probabilities} <= set(predictions):
        drawn["reliability"] = figures.reliability_diagram(
            predictions["label"].to_numpy(),
            predictions[probabilities].to_numpy(np.float64),
            class_names,
        )
    return {name: _data_uri(figures.to_svg(figure)) for name, figure in drawn.items()}


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _comparisons(metrics) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of the tables of model and baselines, by split."""
    tables = {}
    for split in ("test", "validation"):
        rows = {"xLSTM": metrics.get(split)}
        rows |= {n: both.get(split) for n, both in (metrics.get("baselines") or {}).items()}
        rows = {name: values for name, values in rows.items() if values}
        best = {column: _best(column, rows.values()) for column in COLUMNS}
        if rows:
            tables[split] = [
                {"name": name, "values": values, "best": _equals(values, best)}
                for name, values in rows.items()
            ]
    return tables


def _best(column: str, rows) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return (min if column in LOWER_IS_BETTER else max)(values, default=None)


def _equals(values: Mapping[str, Any], best: Mapping[str, Any]) -> set[str]:
    return {column for column in COLUMNS if values.get(column) == best[column] is not None}


def _cost_rows(costs: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = {"xLSTM": costs.get("model"), "buy and hold": costs.get("buy_and_hold")}
    rows |= costs.get("baselines") or {}
    return [{"name": name, "values": values} for name, values in rows.items() if values]


def _spells(alarms: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Returns the first and the last alarm of every run of epochs with one kind of alarm."""
    spells: list[list[Mapping[str, Any]]] = []
    for alarm in alarms:
        last = spells[-1][1] if spells else {}
        if (last.get("kind"), last.get("epoch", -2) + 1) == (alarm.get("kind"), alarm["epoch"]):
            spells[-1][1] = alarm
        else:
            spells.append([alarm, alarm])
    return spells


def _number(value: Any, column: str = "") -> str:
    """Returns a figure as text, in the form that suits its column; a dash for none."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if column in ("net_return", "gross_return", "drawdown"):
        return f"{value:.1%}"
    if column == "trades":
        return f"{value:,}"
    if column in ("sharpe", "turnover", "gross_bps_per_trade"):
        return f"{value:,.1f}"
    return f"{value:.4f}"


def _plain(value: Any) -> str:
    """Returns any value of metrics.json as readable text."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _MOST_LISTED and all(isinstance(part, (int, float)) for part in value):
            low, middle, high = (_plain(float(np.quantile(value, q))) for q in (0, 0.5, 1))
            return f"{middle} in the middle, {low} to {high} ({len(value)} values)"
        return ", ".join(_plain(part) for part in value)
    return str(value)


def _words(name: str) -> str:
    return str(name).replace("_", " ")
