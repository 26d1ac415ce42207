"""A run as one self-contained page: verdict, trades, reasons, training, everything else."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.i18n import N_, _
from data.market.labels import CLASS_NAMES
from evaluation.report import pictures
from evaluation.report.formats import own_name, render
from evaluation.report.ranked import ranked_part

TEMPLATE = "report.html.jinja"
COLUMNS = {
    "direction": N_("direction"),
    "movement": N_("movement"),
    "mcc": "MCC",
    "balanced_accuracy": N_("balanced accuracy"),
    "macro_f1": N_("macro F1"),
    "accuracy": N_("accuracy"),
    "nll": "NLL",
    "ece": "ECE",
}
LOWER_IS_BETTER = ("nll", "ece")
COST_COLUMNS = {
    "net_return": N_("net return"),
    "gross_return": N_("before costs"),
    "sharpe": N_("Sharpe"),
    "drawdown": N_("drawdown"),
    "turnover": N_("turnover per year"),
    "trades": N_("trades"),
    "gross_bps_per_trade": N_("bps per trade before costs"),
}
MACHINE = (
    "git_commit",
    "bars_sha256",
    "platform",
    "backend",
    "devices",
    "versions",
    "accepted_changes",
)
MOST_DRIFTED = 5  # features


def report_page(
    title: str,
    *,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    recent: pd.DataFrame | None = None,
    run_info: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """Returns the page as HTML. Every part whose numbers are missing is left out.

    Args:
        title: the name of the run.
        metrics: the content of metrics.json.
        history: a row for each epoch of each fold, with the number of the `fold`.
        predictions: test windows of all folds with `label` and `p_CLASS` of each class.
        recent: the last test bars of some symbols, as `evaluation.judge.recent_bars` gives them.
        run_info: the content of run.json.
        flags: the content of config.json.
        defaults: the flags as they are without any change.
    """
    folds, run_info = metrics.get("folds") or [], run_info or {}
    return render(
        TEMPLATE,
        title=title,
        metrics=metrics,
        class_names=CLASS_NAMES,
        pictures=pictures.pooled(metrics, predictions),
        calls=[] if recent is None else pictures.calls(recent),
        comparison=_comparison(metrics, "test"),
        ranked=ranked_part(metrics),
        columns=COLUMNS,
        cost_rows=_cost_rows(metrics.get("costs") or {}, own_name(metrics)),
        cost_columns=COST_COLUMNS,
        folds=[_fold_part(fold, _history_of(number, history)) for number, fold in enumerate(folds)],
        flags=flags or {},
        changed={n: v for n, v in (flags or {}).items() if _differs(v, (defaults or {}).get(n))},
        defaults=defaults or {},
        run_info=run_info,
        command=shlex.join(run_info.get("command") or []),
        machine={name: run_info[name] for name in MACHINE if name in run_info},
    )


def _differs(value: Any, default: Any) -> bool:
    """Says whether a flag was changed; JSON makes lists of tuples."""
    return (list(value) if isinstance(value, tuple) else value) != (
        list(default) if isinstance(default, tuple) else default
    )


def _history_of(number: int, history: pd.DataFrame) -> pd.DataFrame:
    return history[history["fold"] == number] if "fold" in history else history


def _fold_part(fold: Mapping[str, Any], history: pd.DataFrame) -> dict[str, Any]:
    """Returns what the page shows of one fold."""
    drift = list((fold.get("drift") or {}).items())
    members = fold.get("members") or []
    return {
        "metrics": fold,
        "pictures": pictures.of_fold(fold, history.iloc[:0] if members else history),
        "members": [
            pictures.of_training(member, history[history["member"] == number])
            for number, member in enumerate(members)
            if "member" in history
        ],
        "comparisons": {split: _comparison(fold, split) for split in ("validation", "test")},
        "spells": _spells((fold.get("collapse") or {}).get("alarms") or []),
        "drift": drift[:MOST_DRIFTED],
    }


def _comparison(metrics: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Returns the rows of the table of model and baselines on the windows of a split."""
    rows = {own_name(metrics): metrics.get(split)}
    rows |= {"xLSTM": metrics["blend"]["network"].get(split)} if "blend" in metrics else {}
    rows |= {n: given.get(split) for n, given in (metrics.get("baselines") or {}).items()}
    rows = {name: values for name, values in rows.items() if values}
    best = {column: _best(column, rows.values()) for column in COLUMNS}
    return [
        {"name": _(name), "values": values, "best": _equals(values, best)}
        for name, values in rows.items()
    ]


def _best(column: str, rows) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return (min if column in LOWER_IS_BETTER else max)(values, default=None)


def _equals(values: Mapping[str, Any], best: Mapping[str, Any]) -> set[str]:
    return {column for column in COLUMNS if values.get(column) == best[column] is not None}


def _cost_rows(costs: Mapping[str, Any], own: str) -> list[dict[str, Any]]:
    rows = {own: costs.get("model"), N_("buy and hold"): costs.get("buy_and_hold")}
    rows |= costs.get("baselines") or {}
    return [{"name": _(name), "values": values} for name, values in rows.items() if values]


def _spells(alarms: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Returns the first and the last alarm of every run of epochs with one kind of alarm."""
    spells: list[list[Mapping[str, Any]]] = []
    for alarm in alarms:
        last = spells[-1][1] if spells else {}
        follows = last.get("epoch", -2) + 1 == alarm["epoch"]
        if follows and all(last.get(name) == alarm.get(name) for name in ("kind", "member")):
            spells[-1][1] = alarm
        else:
            spells.append([alarm, alarm])
    return spells
