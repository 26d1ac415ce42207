"""What a run was judged to be worth: verdict and figures, and a card of them for notebooks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
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
            return cls(
                verdict="\n".join(_verdict(metrics["verdict"])),
                table=_table(metrics),
                facts=_facts(metrics, run_info),
                metrics=dict(metrics),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(
                "the metrics.json in {folder} was not written by this version", folder=folder
            ) from error

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


def _verdict(found: Mapping[str, Any]) -> list[str]:
    """Returns the answers one by one; of a brief run there is one sentence."""
    return [found["sentence"]] if found["better_than_baseline"] is None else lines(found)


def _table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    scores = {MODEL: metrics["test"]}
    scores |= {name: both["test"] for name, both in metrics["baselines"].items()}
    costs = {MODEL: metrics["costs"]["model"], **metrics["costs"].get("baselines", {})}
    rows = {
        name: {figure: score[figure] for figure in FIGURES}
        | {"net_return": costs.get(name, {}).get("net_return")}
        for name, score in scores.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def _facts(metrics: Mapping[str, Any], run_info: Mapping[str, Any]) -> dict[str, str]:
    folds = metrics["folds"]
    splits = folds[0]["splits"]
    windows = {name: sum(fold["splits"][name]["windows"] for fold in folds) for name in splits}
    test = [fold["splits"]["test"] for fold in folds]
    return {
        _("bars"): str(run_info.get("data") or _("the sample")),
        _("windows"): ", ".join(f"{_(name)} {count:,}" for name, count in windows.items()),
        _("tested on"): _(
            "{first} to {last}",
            first=min(split["first_time"] for split in test)[:10],
            last=max(split["last_time"] for split in test)[:10],
        ),
    }


def _shown(row: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.4f}" for value in row]


def _rendered(**content: Any) -> str:
    from evaluation.report.formats import templates

    environment = templates(Path(__file__).parent)
    return environment.get_template("card.html.jinja").render(**content)
