"""What a run was judged to be worth: verdict and figures, and a card of them for notebooks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from evaluation.figures.plain import Mismatch, from_plain
from evaluation.figures.scores import Verdict
from evaluation.figures.summary import CardSummary
from evaluation.verdict_words import lines

MODEL = "xLSTM"
FIGURES = ("direction", "movement", "mcc", "balanced_accuracy", "nll", "ece")

_HEADS = {
    **{"mcc": "MCC", "nll": "NLL", "ece": "ECE"},
    "balanced_accuracy": N_("bal. acc."),
    "net_return": N_("net return"),
}


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on test windows that its training never saw.

    Attributes:
        verdict: in words, with 95 % intervals, an answer in each line.
        table: a row for the model and for each of the others: `FIGURES`, and the `net_return` of
            trading on the calls after costs.
        facts: bars, symbols and windows in words, by name.
        metrics: all figures, as metrics.json has them.
    """

    verdict: str
    table: pd.DataFrame
    facts: dict[str, str]
    metrics: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, metrics: Mapping[str, Any], run_info: Mapping[str, Any], folder: Path):
        """Returns the evaluation of a run.

        Args:
            metrics: the content of its metrics.json.
            run_info: that of its run.json.
            folder: of the run.

        Raises:
            InputError: where the file is not one of this version.
        """
        try:
            figures = from_plain(CardSummary, metrics)
        except Mismatch as mismatch:
            raise InputError(
                "the metrics.json in {folder} was not written by this version", folder=folder
            ) from mismatch
        return cls(
            verdict="\n".join(_verdict(figures.verdict)),
            table=_table(figures),
            facts=_facts(figures, run_info),
            metrics=dict(metrics),
        )

    def __str__(self):
        facts = [f"{name:<10} {text}" for name, text in self.facts.items()]
        return "\n".join([self.verdict, "", *facts, "", self.table.to_string(float_format="%.4f")])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _rendered(
            title=_("xLSTM classifier"),
            lines=self.verdict.splitlines(),
            facts=self.facts,
            columns=[_(_HEADS.get(name, name)) for name in self.table.columns],
            rows=[(_(str(name)), _shown(row)) for name, row in self.table.iterrows()],
            own=MODEL,
        )


def unfitted_card(text: str) -> str:
    """Returns the card of a classifier that is not trained yet."""
    return _rendered(title=text, lines=[_("Not trained yet: call fit(bars).")], facts={}, rows=[])


def _verdict(verdict: Verdict) -> list[str]:
    """Returns the answers one by one; of a brief run there is one sentence."""
    return [verdict.sentence or ""] if verdict.better_than_baseline is None else lines(verdict)


def _table(metrics: CardSummary) -> pd.DataFrame:
    scores = {MODEL: metrics.test}
    scores |= {name: baseline.test for name, baseline in metrics.baselines.items()}
    trades = {MODEL: metrics.costs.model, **metrics.costs.baselines}
    rows = {
        name: {figure: getattr(score, figure) for figure in FIGURES}
        | {"net_return": trades[name].net_return if name in trades else None}
        for name, score in scores.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def _facts(metrics: CardSummary, run_info: Mapping[str, Any]) -> dict[str, str]:
    folds = metrics.folds
    windows = {name: sum(fold.splits[name].windows for fold in folds) for name in folds[0].splits}
    test = [fold.splits["test"] for fold in folds]
    return {
        _("bars"): str(run_info.get("data") or _("the sample")),
        _("windows"): ", ".join(f"{_(name)} {count:,}" for name, count in windows.items()),
        _("tested on"): _(
            "{first} to {last}",
            first=min(split.first_time for split in test)[:10],
            last=max(split.last_time for split in test)[:10],
        ),
    }


def _shown(row: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.4f}" for value in row]


def _rendered(**content: Any) -> str:
    from evaluation.report.formats import templates

    environment = templates(Path(__file__).parent)
    return environment.get_template("card.html.jinja").render(**content)
