"""Several runs side by side: what differs, and whether their figures differ for sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.i18n import N_
from evaluation.answers import Answers
from evaluation.report.formats import render
from evaluation.verdict import verdict

TEMPLATE = "compare.html.jinja"
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
        metrics: the content of metrics.json.
        predictions: of the test windows, as predictions.parquet has them.
    """

    name: str
    flags: Mapping[str, Any]
    run_info: Mapping[str, Any]
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the runs by falling direction on validation, and the flags in which they differ.

    Args:
        runs: two or more.

    Returns:
        `rows`: name, values (see `COLUMNS` and `RANKED`; of validation the mean over folds; None
        where a run has no rank correlation), seconds, bars,
        difference (direction above that of the first row; None where the test windows are not the
        same) and interval (of the difference, paired by blocks of time); and `flags`: for each
        flag that differs, its values in the order of the rows.
    """
    ordered = sorted(runs, key=lambda run: -_validation(run, "direction"))
    first = ordered[0]
    names = [name for run in ordered for name in run.flags]
    flags = {name: [run.flags.get(name) for run in ordered] for name in dict.fromkeys(names)}
    return {
        "rows": [_row(run) | _difference(run, first) for run in ordered],
        "flags": {n: values for n, values in flags.items() if any(v != values[0] for v in values)},
    }


def compare_page(found: Mapping[str, Any]) -> str:
    """Returns what `compare_runs` found as one self-contained HTML page."""
    values = [row["values"] for row in found["rows"]]
    ranked = {n: text for n, text in RANKED.items() if any(own[n] is not None for own in values)}
    return render(TEMPLATE, columns=COLUMNS | ranked, **found)


def _row(run: Run) -> dict[str, Any]:
    test, traded = run.metrics["test"], run.metrics["costs"]["model"]
    ranked = (run.metrics.get("cross_section") or {}).get("model") or {}
    return {
        "name": run.name,
        "values": {
            "validation_direction": _validation(run, "direction"),
            "validation_nll": _validation(run, "nll"),
            **{name: test[name] for name in ("direction", "movement", "mcc", "nll")},
            "net_return": traded["net_return"],
            "trades": traded["trades"],
            **{name: (ranked.get(name) or {}).get("value") for name in RANKED},
        },
        "windows": len(run.predictions),
        "seconds": run.run_info.get("wall_seconds"),
        "bars": str(run.run_info.get("bars_sha256"))[:12],
    }


def _validation(run: Run, figure: str) -> float:
    return float(np.mean([fold["validation"][figure] for fold in run.metrics["folds"]]))


def _difference(run: Run, first: Run) -> dict[str, Any]:
    """Returns how far the direction of its test windows lies above the first one's."""
    own, other = _sorted(run.predictions), _sorted(first.predictions)
    if run is first or not own[_WINDOW].equals(other[_WINDOW]):
        return {"difference": None, "interval": None, "same_windows": run is first}
    settings = [part.metrics["verdict"] for part in (run, first)]
    found = verdict(
        own["timestamp"].dt.tz_localize(None).to_numpy(),
        own["label"].to_numpy(),
        _said(own),
        _said(other),
        baseline=first.name,
        block_seconds=max(setting["block_seconds"] for setting in settings),
    )["direction"]
    return {
        "difference": found["difference"],
        "interval": found["difference_interval"],
        "same_windows": True,
    }


def _sorted(predictions: pd.DataFrame) -> pd.DataFrame:
    # As text: the codes of equal symbols may differ.
    texts = predictions.assign(symbol=predictions["symbol"].astype(str))
    return texts.sort_values(_WINDOW[:2], ignore_index=True)


def _said(predictions: pd.DataFrame) -> Answers:
    return Answers(predictions["call"].to_numpy(), predictions["side"].to_numpy())
