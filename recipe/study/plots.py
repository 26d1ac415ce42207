"""The figures of a study's page, in the style of a run's report."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.i18n import N_, _
from evaluation.report.svg import ACCENT, COLOURS, INK, STYLE, WIDTH

SPLITS = {"validation": (COLOURS[2], "o", 0.17), "test": (COLOURS[1], "D", -0.17)}
LABELS = {
    "nll": N_("NLL (nats)"),
    "direction": N_("MCC of direction"),
    "mcc": "MCC",
    "ece": "ECE",
    "rank_correlation": N_("rank correlation"),
    "timing": N_("timing"),
}
LESS_IS_BETTER = ("nll", "ece")


def forest(effects: pd.DataFrame, measure: str) -> Figure:
    """Returns the effect of switching each improvement off, with its interval, on both splits.

    What lies at the right got worse without the improvement.

    Args:
        effects: from `recipe.study.results.effects_table`.
        measure: a key of `LABELS`.
    """
    rows = effects[(effects["comparison"] == "off") & (effects["measure"] == measure)]
    names = rows.drop_duplicates("improvement").sort_values("improvement")
    places = {number: -place for place, number in enumerate(names["improvement"])}
    with matplotlib.rc_context(STYLE):
        figure = Figure((1.4 * WIDTH, 1.2 + 0.42 * len(places)), layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color=INK, linewidth=0.8)
        for split, (colour, marker, shift) in SPLITS.items():
            rows_of_split = rows[rows["split"] == split]
            heights = [places[number] + shift for number in rows_of_split["improvement"]]
            panel.hlines(
                heights,
                rows_of_split["low"],
                rows_of_split["high"],
                color=colour,
                linewidth=2,
                alpha=0.6,
            )
            panel.plot(
                rows_of_split["effect"], heights, marker, color=colour, markersize=5, label=_(split)
            )
        panel.set_yticks(
            list(places.values()),
            [f"{n}  {_(name)}" for n, name in names[["improvement", "name"]].to_numpy()],
        )
        if measure not in LESS_IS_BETTER:
            panel.invert_xaxis()
        figure.supxlabel(
            _("change of {measure} if off; right: worse", measure=_(LABELS[measure])), fontsize=9.5
        )
        panel.set_title(" ")
        panel.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0)
        _clean(panel)
    return figure


def seed_dots(runs: pd.DataFrame) -> Figure:
    """Returns direction and NLL of each seed on both splits, with their means.

    Args:
        runs: the finished rows of `recipe.study.results.runs_table`.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.2), layout="constrained")
        panels = figure.subplots(2, 1)
        for panel, measure in zip(panels, ("direction", "nll"), strict=True):
            for height, (split, (colour, marker, _shift)) in enumerate(SPLITS.items()):
                values = runs[f"{split}_{measure}"]
                panel.plot(values, np.full(len(values), height), marker, color=colour, alpha=0.6)
                panel.plot([values.mean()] * 2, [height - 0.3, height + 0.3], color=INK)
            panel.set_yticks(range(len(SPLITS)), [_(split) for split in SPLITS])
            panel.set_ylim(-0.6, len(SPLITS) - 0.4)
            panel.set_xlabel(_("{measure} of each seed; line: mean", measure=_(LABELS[measure])))
            _clean(panel)
    return figure


def sweep_curve(values: pd.Series) -> Figure:
    """Returns the validation NLL of the finished trials in order, and the lowest so far.

    Args:
        values: by the number of the trial.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.6), layout="constrained")
        panel = figure.subplots()
        panel.plot(values.index, values, "o", color=COLOURS[2], markersize=4)
        panel.step(values.index, values.cummin(), where="post", color=ACCENT)
        panel.set_xlabel(_("trial; line: the least so far"))
        panel.set_ylabel(_("validation NLL, nats"))
    return figure


def _clean(panel) -> None:
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#ececec", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.margins(x=0.08)
    panel.xaxis.set_major_locator(MaxNLocator(5))
