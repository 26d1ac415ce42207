"""A run as one self-contained page: verdict, trades, reasons, training, everything else."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.i18n import N_, _
from data.market.labels import CLASS_NAMES
from evaluation.figures.plain import to_plain
from evaluation.figures.run import Alarm, FoldMetrics, Metrics
from evaluation.figures.scores import Scores, Trades
from evaluation.report import pictures
from evaluation.report.cards import cards
from evaluation.report.formats import render
from evaluation.report.plots import OWN, own_name
from evaluation.report.ranked import ranked_part
from evaluation.verdict_words import headline, remarks

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
TERMS = {
    N_("call"): N_(
        "the class whose probability gained most over its frequency in the training period"
    ),
    N_("direction"): N_(
        "SELL or BUY, over the windows that moved, as an MCC; knowing the size of moves gives 0"
    ),
    N_("movement"): N_("HOLD or not, as an MCC"),
    "MCC": N_("Matthews's correlation: 1 is always right, 0 is chance or any constant answer"),
    N_("balanced accuracy"): N_("mean share that is found of each class; a third is chance"),
    N_("macro F1"): N_("mean over the classes of F1, which weighs finding against false alarms"),
    "NLL": N_("mean negative logarithm of the probability of what came true, in nats"),
    "ECE": N_("mean distance of a probability from the share that came true"),
    N_("95 % interval"): N_(
        "where the figure lies but for luck: time blocks are left out in turn (jackknife)"
    ),
    N_("Sharpe"): N_("mean over spread of the gains, for a year"),
    N_("drawdown"): N_("the largest fall from a peak, share of the capital"),
    N_("turnover per year"): N_("value traded over the capital, in a year"),
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
    metrics: Metrics,
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    recent: pd.DataFrame | None = None,
    run_info: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """Returns the page as HTML.

    Args:
        title: the name of the run.
        metrics: the content of metrics.json.
        history: a row for each epoch of each fold, with the number of the `fold`.
        predictions: test windows of all folds with `label` and `p_CLASS` of each class.
        recent: the last test bars of some symbols, as `evaluation.judge.recent_bars` gives them.
        run_info: the content of run.json.
        flags: the content of config.json.
        defaults: the flags without any change.
    """
    run_info, verdict = run_info or {}, metrics.verdict
    relative = bool(verdict.relative)
    return render(
        TEMPLATE,
        title=title,
        metrics=metrics,
        class_names=CLASS_NAMES,
        pictures=pictures.pooled(metrics, predictions),
        calls=[] if recent is None else pictures.calls(recent, relative=relative),
        cards=cards(metrics, predictions, run_info),
        headline=headline(verdict) if verdict.better_than_baseline else None,
        remarks=remarks(verdict) if verdict.better_than_baseline else [],
        terms=TERMS,
        timing=to_plain(metrics.timing),
        comparison=_comparison(_scores(metrics, "test")),
        ranked=ranked_part(metrics),
        columns=COLUMNS,
        cost_rows=_cost_rows(metrics.costs, own_name(metrics)),
        cost_columns=COST_COLUMNS,
        folds=[
            _fold_part(fold, _history_of(number, history))
            for number, fold in enumerate(metrics.folds)
        ],
        flags=flags or {},
        changed={n: v for n, v in (flags or {}).items() if _differs(v, (defaults or {}).get(n))},
        defaults=defaults or {},
        run_info=run_info,
        command=shlex.join(run_info.get("command") or []),
        machine={name: run_info[name] for name in MACHINE if name in run_info},
    )


def _differs(value: Any, default: Any) -> bool:
    """Returns whether a flag was changed; JSON turns tuples into lists."""
    return (list(value) if isinstance(value, tuple) else value) != (
        list(default) if isinstance(default, tuple) else default
    )


def _history_of(number: int, history: pd.DataFrame) -> pd.DataFrame:
    return history[history["fold"] == number] if "fold" in history else history


def _fold_part(fold: FoldMetrics, history: pd.DataFrame) -> dict[str, Any]:
    """Returns the part of the page on one fold."""
    members = fold.members or []
    return {
        "metrics": fold,
        "label": to_plain(fold.label),
        "pictures": pictures.of_fold(fold, history.iloc[:0] if members else history),
        "members": [
            pictures.of_training(member, history[history["member"] == number])
            for number, member in enumerate(members)
            if "member" in history
        ],
        "comparisons": {
            split: _comparison(_scores(fold, split)) for split in ("validation", "test")
        },
        "spells": _spells(fold.collapse.alarms),
        "drift": list(fold.drift.items())[:MOST_DRIFTED],
    }


def _scores(metrics: Metrics | FoldMetrics, split: str) -> dict[str, Scores]:
    """Returns the scores of the model, of a blend's network, and of the baselines, by name."""
    scores = {own_name(metrics): metrics}
    scores |= {OWN: metrics.blend.network} if metrics.blend else {}
    scores |= metrics.baselines
    return {name: getattr(both, split) for name, both in scores.items()}


def _comparison(scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Returns the rows of the table of model and baselines."""
    best = {
        column: (min if column in LOWER_IS_BETTER else max)(
            getattr(row, column) for row in scores.values()
        )
        for column in COLUMNS
    }
    return [
        {
            "name": _(name),
            "values": row,
            "best": {column for column in COLUMNS if getattr(row, column) == best[column]},
        }
        for name, row in scores.items()
    ]


def _cost_rows(costs: Trades, model: str) -> list[dict[str, Any]]:
    rows = {model: costs.model, N_("buy and hold"): costs.buy_and_hold, **costs.baselines}
    return [{"name": _(name), "values": row} for name, row in rows.items()]


def _spells(alarms: Sequence[Alarm]) -> list[list[Alarm]]:
    """Returns the first and the last alarm of every run of epochs with one kind of alarm."""
    spells: list[list[Alarm]] = []
    for alarm in alarms:
        last = spells[-1][1] if spells else None
        if last and (last.epoch + 1, last.kind, last.member) == (
            alarm.epoch,
            alarm.kind,
            alarm.member,
        ):
            spells[-1][1] = alarm
        else:
            spells.append([alarm, alarm])
    return spells
