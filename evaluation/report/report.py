"""Metrics, history and predictions of a run as one self-contained page, report.html."""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from data.labels import CLASS_NAMES
from evaluation.report import plots

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
) -> Path:
    """Writes report.html into the run folder, at once or not at all, and returns its path.

    Every part whose numbers are missing is left out.

    Args:
        folder: the run folder.
        metrics: the content of metrics.json.
        history: a row for each epoch of each fold, with the number of the `fold`.
        predictions: test windows of all folds with `label` and `p_CLASS` of each class.
    """
    folder = Path(folder)
    page = _page(folder.name, metrics, history, predictions)
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


def _page(
    title: str, metrics: Mapping[str, Any], history: pd.DataFrame, predictions: pd.DataFrame
) -> str:
    """Returns the page as HTML; see `write_report`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "plain": _plain, "words": _words}
    folds = metrics.get("folds") or []
    return environment.get_template(TEMPLATE).render(
        title=title,
        metrics=metrics,
        class_names=CLASS_NAMES,
        pictures=_pooled_pictures(metrics, predictions),
        comparison=_comparison(metrics, "test"),
        columns=COLUMNS,
        cost_rows=_cost_rows(metrics.get("costs") or {}),
        cost_columns=COST_COLUMNS,
        folds=[_fold_part(fold, _history_of(number, history)) for number, fold in enumerate(folds)],
    )


def _pooled_pictures(metrics: Mapping[str, Any], predictions: pd.DataFrame) -> dict[str, str]:
    """Returns the figures of all folds together that can be drawn, as data URIs by name."""
    verdict, test = metrics.get("verdict") or {}, metrics.get("test") or {}
    drawn = {}
    if "mcc_interval" in verdict:
        scores = {n: given["test"]["mcc"] for n, given in (metrics.get("baselines") or {}).items()}
        drawn["skill"] = plots.skill_intervals(verdict, scores)
    if "confusion" in test:
        drawn["confusion"] = plots.confusion_matrix(test["confusion"], CLASS_NAMES)
    probabilities = [f"p_{name.lower()}" for name in CLASS_NAMES]
    if len(predictions) and {"label", *probabilities} <= set(predictions):
        drawn["reliability"] = plots.reliability_diagram(
            predictions["label"].to_numpy(),
            predictions[probabilities].to_numpy(np.float64),
            CLASS_NAMES,
        )
    return _data_uris(drawn)


def _history_of(number: int, history: pd.DataFrame) -> pd.DataFrame:
    return history[history["fold"] == number] if "fold" in history else history


def _fold_part(fold: Mapping[str, Any], history: pd.DataFrame) -> dict[str, Any]:
    """Returns what the page shows of one fold."""
    return {
        "metrics": fold,
        "pictures": _fold_pictures(fold, history),
        "comparisons": {split: _comparison(fold, split) for split in ("validation", "test")},
        "spells": _spells((fold.get("collapse") or {}).get("alarms") or []),
    }


def _fold_pictures(fold: Mapping[str, Any], history: pd.DataFrame) -> dict[str, str]:
    """Returns the figures of the training of one fold, as data URIs by name."""
    if not len(history):
        return {}
    drawn = {"curves": plots.learning_curves(history, (fold.get("chosen") or {}).get("epoch"))}
    if any(str(column).startswith("val_rate_") for column in history):
        true_rates = (fold.get("validation") or {}).get("class_rates", {}).get("true")
        drawn["shares"] = plots.class_shares(history, CLASS_NAMES, true_rates)
    return _data_uris(drawn)


def _data_uris(drawn: Mapping[str, Figure]) -> dict[str, str]:
    start = "data:image/svg+xml;base64,"
    return {n: start + base64.b64encode(plots.to_svg(f)).decode("ascii") for n, f in drawn.items()}


def _comparison(metrics: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Returns the rows of the table of model and baselines on the windows of a split."""
    rows = {"xLSTM": metrics.get(split)}
    rows |= {n: given.get(split) for n, given in (metrics.get("baselines") or {}).items()}
    rows = {name: values for name, values in rows.items() if values}
    best = {column: _best(column, rows.values()) for column in COLUMNS}
    return [
        {"name": name, "values": values, "best": _equals(values, best)}
        for name, values in rows.items()
    ]


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
    """Returns a number as text, in the form that suits its column; a dash for none."""
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
