"""Several runs side by side: what differs, and whether their figures differ for sure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.i18n import N_, _, listed, ngettext
from core.i18n import number as i18n_number
from evaluation.answers import Answers
from evaluation.figures.summary import RankingSummary, RunSummary
from evaluation.report import market_plots
from evaluation.report.formats import drawing, picture, render, signed
from evaluation.report.market_plots import Row
from evaluation.report.pictures import aside
from evaluation.verdict import verdict

TEMPLATE = "compare.html.jinja"
MARK = "xlstm-classifier compare"  # in the head of a page
_HEAD_BYTES = 4096
_ROOM = 22  # letters of a name in a picture
COLUMNS = {
    "validation_direction": N_("validation direction"),
    "validation_nll": N_("validation NLL"),
    "direction": N_("test direction"),
    "movement": N_("test movement"),
    "mcc": N_("test MCC"),
    "nll": N_("test NLL"),
    "net_return": N_("net return"),
    "trades": N_("trades"),
}
RANKED = {  # where a run has enough symbols at a bar
    "rank_correlation": N_("test rank correlation"),
    "timing": N_("test timing"),
}
_WINDOW = ["timestamp", "symbol", "label"]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: how it is called here.
        flags: the content of config.json.
        run_info: the content of run.json.
        metrics: what is compared of metrics.json.
        predictions: of the test windows, as predictions.parquet has them.
    """

    name: str
    flags: Mapping[str, Any]
    run_info: Mapping[str, Any]
    metrics: RunSummary
    predictions: pd.DataFrame


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the runs by their bars, and by falling direction on validation; and what differs.

    Args:
        runs: two or more.

    Returns:
        `groups`, one for each set of bars: data (their path), bars (the start of their SHA-256),
        rows, pairs and curves; `rows`, those of all groups: name, values (see `COLUMNS` and
        `RANKED`; of validation the mean over folds; None where a run has no rank correlation),
        seconds, relative, difference (direction above that of the first row of the group; None
        where the test windows are not the same), interval (of the difference, paired by blocks of
        time) and same_windows; and `flags`: for each flag that differs, its values in the order
        of the rows.
    """
    by_bars: dict[Any, list[Run]] = {}
    for run in runs:
        by_bars.setdefault(run.run_info.get("bars_sha256"), []).append(run)
    groups = [_group(same_bars) for same_bars in by_bars.values()]
    ordered = [run for group in groups for run in group.pop("runs")]
    names = [name for run in ordered for name in run.flags]
    flags = {name: [run.flags.get(name) for run in ordered] for name in dict.fromkeys(names)}
    return {
        "groups": groups,
        "rows": [row for group in groups for row in group["rows"]],
        "flags": {n: values for n, values in flags.items() if any(v != values[0] for v in values)},
    }


def compare_page(comparison: Mapping[str, Any]) -> str:
    """Returns what `compare_runs` returned as one self-contained HTML page."""
    values = [row["values"] for row in comparison["rows"]]
    ranked = {
        name: text for name, text in RANKED.items() if any(row[name] is not None for row in values)
    }
    pictures = [_pictures(group) for group in comparison["groups"]]
    return render(TEMPLATE, columns=COLUMNS | ranked, pictures=pictures, mark=MARK, **comparison)


def is_own_page(path: Path) -> bool:
    """Returns whether a file is a page that `compare_page` made, which may be made again."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(_HEAD_BYTES)


def _group(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns what there is of runs on the same bars."""
    ordered = sorted(runs, key=lambda run: -_validation(run, "direction"))
    first = ordered[0]
    pairs = [(one, other) for place, other in enumerate(ordered) for one in ordered[place + 1 :]]
    compared = [
        {"name": one.name, "other": other.name, **_difference(one, other)} for one, other in pairs
    ]
    return {
        "data": first.run_info.get("data"),
        "bars": str(first.run_info.get("bars_sha256"))[:12],
        "runs": ordered,
        "rows": [_row(run) | _difference(run, first) for run in ordered],
        "pairs": [pair for pair in compared if pair["same_windows"]],
        "curves": {
            run.name: (run.metrics.costs.periods, run.metrics.costs.model.equity)
            for run in ordered
            if run.metrics.costs.model.equity is not None
        },
    }


def _pictures(group: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Returns direction and gains of the runs of a group, as pictures."""
    drawn: dict[str, dict[str, str]] = {}
    names = _short_names([row["name"] for row in group["rows"]])
    rows = [
        Row(names[row["name"]], row["values"]["direction"], row["reach"]) for row in group["rows"]
    ]
    relative = any(row["relative"] for row in group["rows"])
    with drawing(drawn, "direction"):
        drawn["direction"] = picture(
            market_plots.interval_rows(rows, _("MCC of direction; bar: 95 % interval")),
            _("Direction of each run on its test windows") + aside(relative),
            listed(f"{row.name} {signed(row.value)}" for row in rows),
        )
    periods = next((when for when, _curve in group["curves"].values()), None)
    curves = {names[n]: curve for n, (when, curve) in group["curves"].items() if when == periods}
    shown = dict(list(curves.items())[: market_plots.MOST_CURVES])
    if periods and len(shown) > 1:
        with drawing(drawn, "equity"):
            drawn["equity"] = picture(
                market_plots.equity_curves(periods, shown),
                ngettext(
                    "Gains after costs so far, share of the capital: the first {n} run",
                    "Gains after costs so far, share of the capital: the first {n} runs",
                    len(shown),
                ),
                listed(f"{name} {i18n_number(curve[-1], '+.1%')}" for name, curve in shown.items()),
            )
    return drawn


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Returns names that a picture has room for: without their folder, where they then differ."""
    last = [Path(name).name for name in names]
    short = last if len(set(last)) == len(names) else names
    parts = [name if len(name) <= _ROOM else f"…{name[1 - _ROOM :]}" for name in short]
    return dict(zip(names, parts if len(set(parts)) == len(parts) else short, strict=True))


def _row(run: Run) -> dict[str, Any]:
    metrics, verdict = run.metrics, run.metrics.verdict
    ranking = (metrics.cross_section and metrics.cross_section.model) or RankingSummary()
    return {
        "name": run.name,
        "values": {
            "validation_direction": _validation(run, "direction"),
            "validation_nll": _validation(run, "nll"),
            **asdict(metrics.test),
            "net_return": metrics.costs.model.net_return,
            "trades": metrics.costs.model.trades,
            "rank_correlation": ranking.rank_correlation and ranking.rank_correlation.value,
            "timing": ranking.timing and ranking.timing.value,
        },
        "windows": len(run.predictions),
        "seconds": run.run_info.get("wall_seconds"),
        "relative": bool(verdict.relative),
        "reach": verdict.direction and verdict.direction.interval,
    }


def _validation(run: Run, figure: str) -> float:
    return float(np.mean([getattr(fold.validation, figure) for fold in run.metrics.folds]))


def _difference(run: Run, first: Run) -> dict[str, Any]:
    """Returns how far the direction of its test windows lies above the first one's."""
    table, other = _sorted(run.predictions), _sorted(first.predictions)
    if run is first or not table[_WINDOW].equals(other[_WINDOW]):
        return {"difference": None, "interval": None, "same_windows": run is first}
    skill = verdict(
        table["timestamp"].dt.tz_localize(None).to_numpy(),
        table["label"].to_numpy(),
        _answers(table),
        _answers(other),
        baseline=first.name,
        block_seconds=max(each.metrics.verdict.block_seconds for each in (run, first)),
    ).direction
    return {
        "difference": skill.difference,
        "interval": skill.difference_interval,
        "same_windows": True,
    }


def _sorted(predictions: pd.DataFrame) -> pd.DataFrame:
    # As text: the codes of equal symbols may differ.
    texts = predictions.assign(symbol=predictions["symbol"].astype(str))
    return texts.sort_values(_WINDOW[:2], ignore_index=True)


def _answers(predictions: pd.DataFrame) -> Answers:
    return Answers(predictions["call"].to_numpy(), predictions["side"].to_numpy())
