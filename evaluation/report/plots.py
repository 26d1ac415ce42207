"""The figures of a run's report, drawn with matplotlib.

Narrow, one idea each, so that they can be read on a phone. Nothing here touches pyplot, whose
figures live in a global list.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from core.i18n import N_, _, number
from evaluation.figures.run import FoldMetrics, Metrics
from evaluation.figures.scores import Scores, Verdict
from evaluation.metrics import reliability
from evaluation.report.svg import ACCENT, COLOURS, GRID, INK, STYLE, WIDTH
from evaluation.verdict import SKILLS

OWN = "xLSTM"  # the row of the model
# What the rows of the learning curves show, where the history has it.
CURVES = (
    (N_("training loss (its scale moves with the CE weight)"), {"loss": N_("loss")}),
    (N_("validation NLL, nats"), {"val_nll": "NLL"}),
    (N_("validation direction, MCC"), {"val_direction": N_("direction")}),
    (N_("validation MCC"), {"val_mcc": "MCC"}),
    (N_("validation macro F1"), {"val_macro_f1": N_("macro F1")}),
    (N_("learning rate"), {"learning_rate": N_("learning rate")}),
    (N_("shares"), {"ce_weight": N_("CE weight"), "hard_share": N_("hard share")}),
    (N_("logit cap (a gap: none)"), {"logit_cap": N_("logit cap")}),
)


def own_name(metrics: Metrics | FoldMetrics) -> str:
    """Returns what the pages call the model of a run."""
    return N_("blend") if metrics.blend else OWN


def learning_curves(history: pd.DataFrame, chosen_epoch: int | None = None) -> Figure:
    """Returns loss and fixed metrics per epoch, with the schedules under them.

    Args:
        history: of one fold, a row for each epoch, which counts from 0; the picture from 1.
        chosen_epoch: marked if it is not None, counted from 0.
    """
    if "logit_cap" in history:
        history = history.assign(logit_cap=history["logit_cap"].replace(0, np.nan))  # 0: none
    rows = [(title, {c: n for c, n in curves.items() if c in history}) for title, curves in CURVES]
    rows = [(title, curves) for title, curves in rows if curves]
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 0.5 + 1.15 * max(1, len(rows))), layout="constrained")
        panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0] if rows else []
        for panel, (title, curves) in zip(panels, rows, strict=True):
            for (column, name), colour in zip(curves.items(), (COLOURS[2], ACCENT), strict=False):
                _lines(panel, history, column, _(name), colour)
            panel.set_title(_(title))
            panel.margins(y=0.12)
            panel.grid(axis="y", color=GRID, linewidth=0.7)
            panel.yaxis.set_major_locator(MaxNLocator(4))
            if chosen_epoch is not None:
                panel.axvline(chosen_epoch + 1, color=INK, linewidth=0.8, linestyle=":")
            if len(curves) > 1:
                legend_above(panel)
        if rows:
            label = _("epoch") if chosen_epoch is None else _("epoch (dotted: the chosen one)")
            _epoch_axis(panels[-1], label)
    return figure


def class_shares(
    history: pd.DataFrame, class_names: Sequence[str], true_rates: Sequence[float] | None = None
) -> Figure:
    """Returns the share of each class in the predictions on validation windows, per epoch.

    Args:
        history: of one fold, a row for each epoch, with val_rate_CLASS.
        class_names: in class order.
        true_rates: shares of the labels, drawn as dashed lines.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.6), layout="constrained")
        panel = figure.subplots()
        for code, name in enumerate(class_names):
            _lines(panel, history, f"val_rate_{name.lower()}", name, COLOURS[code])
            if true_rates is not None:
                panel.axhline(true_rates[code], color=COLOURS[code], linewidth=0.8, linestyle="--")
        panel.set_ylim(-0.02, 1.02)
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        panel.set_title(_("predicted") if true_rates is None else _("predicted; dashed: true"))
        legend_above(panel)
        _epoch_axis(panel, _("epoch"))
    return figure


def confusion_matrix(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Returns the confusion matrix (rows true), shaded by the share of the true class."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.5), layout="constrained")
        panel = figure.subplots()
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1.8)  # so that dark text can be read
        for (row, column), count in np.ndenumerate(counts):
            panel.text(
                column,
                row,
                f"{number(count, ',')}\n{number(shares[row, column], '.0%')}",
                ha="center",
                va="center",
            )
        panel.set_xticks(range(len(class_names)), class_names)
        panel.set_yticks(range(len(class_names)), class_names)
        panel.set_xlabel(_("predicted"))
        panel.set_ylabel(_("true"))
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return figure


def reliability_diagram(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Returns for each class how often it came true against its forecast probability.

    Args:
        labels: class codes, (samples,).
        probabilities: (samples, 3).
        class_names: in class order.
    """
    num_bins = int(np.clip(len(labels) // 100, 2, 12))
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 3.9), layout="constrained")
        panel = figure.subplots()
        highest = 0.0
        for code, name in enumerate(class_names):
            forecast, rate, size = reliability(labels == code, probabilities[:, code], num_bins)
            error = np.sqrt(np.maximum(rate * (1 - rate), 0) / size)
            style = {"color": COLOURS[code], "label": name, **_POINTS[code % len(_POINTS)]}
            panel.errorbar(forecast, rate, error, **style)
            highest = max(highest, forecast.max(), (rate + error).max())
        limit = min(1.0, 1.08 * highest)
        panel.plot([0, limit], [0, limit], color=INK, linewidth=0.8, linestyle="--", zorder=0)
        panel.set_xlim(0, limit)
        panel.set_ylim(0, limit)
        panel.set_xlabel(_("probability given"))
        panel.set_ylabel(_("share that came true"))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        panel.set_aspect("equal")
        legend_above(panel)
    return figure


def skill_intervals(
    verdict: Verdict,
    baselines: Mapping[str, Scores],
    own_name: str = OWN,
) -> Figure:
    """Returns direction and movement of the model with their intervals, and of each baseline.

    Args:
        verdict: from `evaluation.verdict`.
        baselines: the metrics of each.
        own_name: the name of what was judged.
    """
    names = [_(own_name), *map(_, baselines)]
    places = np.arange(len(names))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 0.95 + 0.34 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(SKILLS), sharey=True)
        for panel, skill in zip(panels, SKILLS, strict=True):
            model = getattr(verdict, skill)
            panel.axvline(0, color=INK, linewidth=0.8)
            panel.plot(model.interval, [places[0]] * 2, color=COLOURS[2], linewidth=5, alpha=0.35)
            panel.plot(model.mcc, places[0], "o", color=COLOURS[2])
            others = [getattr(scores, skill) for scores in baselines.values()]
            panel.plot(others, places[1:], "D", color=COLOURS[1], markersize=5)
            panel.set_yticks(places, names)
            panel.set_ylim(-0.6, len(names) - 0.4)
            panel.margins(x=0.1)
            panel.tick_params(axis="y", length=0)
            panel.xaxis.set_major_locator(MaxNLocator(3))
            panel.grid(axis="x", color=GRID, linewidth=0.7)
            panel.set_axisbelow(True)
            panel.set_title(_(skill))
        figure.supxlabel(_("MCC on test windows; bar: 95 % interval"), fontsize=9.5)
    return figure


_TITLE_AND_LEGEND, _OF_A_HANDLE = 54, 4  # letters that have room beside each other
_POINTS = (
    {"marker": "o", "markersize": 4, "linewidth": 1, "elinewidth": 0.8},
    {"marker": "s", "markersize": 4, "linewidth": 1, "elinewidth": 0.8},
    {"marker": "^", "markersize": 4, "linewidth": 1, "elinewidth": 0.8},
)


def _lines(panel: Axes, history: pd.DataFrame, column: str, name: str, colour: str) -> None:
    """Draws a column over the epochs; those without a finite value are left out."""
    if column not in history:
        return
    values = pd.to_numeric(history[column], errors="coerce").replace([np.inf, -np.inf], np.nan)
    epochs = history["epoch"] if "epoch" in history else pd.Series(range(len(values)), values.index)
    panel.plot(
        epochs[values.notna()] + 1,
        values.dropna(),
        color=colour,
        linewidth=1.6,
        marker="o" if len(values) < 3 else None,
        markersize=4,
        label=name,
    )


def legend_above(panel: Axes) -> None:
    """Puts the legend over the axes, right of the title or above it, where no data can lie."""
    labels = panel.get_legend_handles_labels()[1]
    if labels:
        letters = len("".join([panel.get_title("left"), *labels])) + _OF_A_HANDLE * len(labels)
        crowded = letters > _TITLE_AND_LEGEND
        panel.legend(
            loc="lower right",
            bbox_to_anchor=(1.02, 0.98),
            ncols=3,
            borderaxespad=1.6 if crowded else 0,
            handlelength=1.2,
            columnspacing=1.2,
        )


def _epoch_axis(panel: Axes, label: str) -> None:
    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
