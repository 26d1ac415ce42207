"""The report's part on the cross-section of answers: two tables, the fifths, the book."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.i18n import N_, _, listed, ngettext
from core.i18n import number as i18n_number
from evaluation.figures.run import Metrics
from evaluation.figures.scores import CrossSection, Estimate, FewSymbols, Ranking
from evaluation.report import market_plots
from evaluation.report.formats import drawing, picture, signed
from evaluation.report.plots import legend_above, own_name
from evaluation.report.svg import COLOURS, GRID, INK, STYLE, WIDTH

NAMES = {
    "rank_correlation": N_("rank correlation"),
    "timing": N_("timing"),
    "tilt": N_("lasting tilt"),
}
_WITHOUT_COSTS = {"xLSTM": N_("xLSTM without costs"), "blend": N_("blend without costs")}
_DAYS_ARE_ENOUGH = np.timedelta64(4, "D")  # to name the times of a curve


def ranked_part(metrics: Metrics) -> dict[str, Any]:
    """Returns the part of the page on symbols ranked within bars.

    Args:
        metrics: the content of metrics.json.

    Returns:
        ranked (the content of cross_section), columns (the head of the table of correlations),
        correlations (rows of a name and a cell for the model and each baseline), books (by name)
        and pictures; of too few symbols only the first.
    """
    ranked = metrics.cross_section
    if isinstance(ranked, FewSymbols):
        return {"ranked": ranked}
    model = own_name(metrics)
    rankings = {model: ranked.model, **ranked.baselines}
    return {
        "ranked": ranked,
        "columns": ["", *(text for name in rankings for text in (_(name), _("95 % interval")))],
        "correlations": _correlations(rankings),
        "books": {_(name): part.book for name, part in rankings.items()},
        "pictures": _pictures(ranked, rankings, model),
    }


def fifth_bars(parts: Mapping[str, Sequence[Estimate]]) -> Figure:
    """Returns what each fifth brought: bars with intervals of the first part, marks of the others.

    Args:
        parts: by name, the fifths as `evaluation.across.book.returns_of_fifths` gives them.
    """
    (name, first), *others = parts.items()
    places, values = np.arange(len(first)), _heights(first)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 2.9), layout="constrained")
        panel = figure.subplots()
        panel.bar(places, values, 0.62, color=COLOURS[2], alpha=0.45, label=_(name))
        for place, part in zip(places, first, strict=True):
            if part.interval is not None:
                panel.plot([place] * 2, part.interval, color=COLOURS[2], linewidth=1.6)
        for (other, fifths), mark in zip(others, ("D", "s"), strict=False):
            heights = _heights(fifths)
            panel.plot(places, heights, mark, color=COLOURS[1], markersize=4.5, label=_(other))
        panel.axhline(0, color=INK, linewidth=0.8)
        panel.set_xticks(places, [_("least"), "2", "3", "4", _("most")])
        panel.tick_params(axis="x", length=0)
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.grid(axis="y", color=GRID, linewidth=0.7)
        panel.set_axisbelow(True)
        panel.set_xlabel(_("fifth of the symbols, by how much they are favoured"))
        panel.set_title(_("basis points"))
        legend_above(panel)
    return figure


def _heights(fifths: Sequence[Estimate]) -> np.ndarray:
    return np.array([part.value for part in fifths], np.float64)  # None: NaN


def _correlations(rankings: Mapping[str, Ranking]) -> list[dict[str, Any]]:
    """Returns a row for each part and age, and one for the model's lead."""
    rows = [
        {"name": _(words), "cells": [getattr(part, key) for part in rankings.values()]}
        for key, words in NAMES.items()
    ]
    for place, age in enumerate(next(iter(rankings.values())).ages):
        if age.bars:
            name = ngettext(
                "rank correlation of an answer {n} bar old",
                "rank correlation of an answer {n} bars old",
                age.bars,
            )
            rows.append({"name": name, "cells": [part.ages[place] for part in rankings.values()]})
    leads = [part.lead for part in rankings.values()]
    if any(leads):
        rows.append({"name": _("lead of the model in rank correlation"), "cells": leads})
    return rows


def _pictures(
    ranked: CrossSection, rankings: Mapping[str, Ranking], model: str
) -> dict[str, dict[str, str]]:
    drawn: dict[str, dict[str, str]] = {}
    parts = {name: part.fifths for name, part in rankings.items()}
    values = listed(signed(part.value, 1) for part in parts[model])
    with drawing(drawn, "fifths"):
        drawn["fifths"] = picture(
            fifth_bars(parts),
            _(
                "Return of each fifth over {bars} bars less the mean of all symbols, before "
                "costs; line: 95 % interval",
                bars=ranked.horizon_bars,
            ),
            _("From the least favoured fifth to the most, in basis points: {said}", said=values),
        )
    curves, times = _curves(ranked, model), ranked.curve_times
    if np.datetime64(times[-1]) - np.datetime64(times[0]) > _DAYS_ARE_ENOUGH:
        times = [time[:10] for time in times]
    ends = listed(f"{_(n)} {i18n_number(curve[-1], '+.1%')}" for n, curve in curves.items())
    with drawing(drawn, "book"):
        drawn["book"] = picture(
            market_plots.equity_curves(times, curves),
            _(
                "Best fifth long, worst fifth short: gains so far, share of the capital, and the "
                "fall from the last peak"
            ),
            _("At the end: {ends}", ends=ends),
        )
    return drawn


def _curves(ranked: CrossSection, model: str) -> dict[str, list[float]]:
    """Returns the curves of the model after and before costs, and of the best ranked baseline."""
    book, others = ranked.model.book, ranked.baselines
    curves = {model: book.net_curve, _WITHOUT_COSTS[model]: book.gross_curve}
    if others:
        best = max(others, key=lambda name: others[name].rank_correlation.value or 0.0)
        curves[best] = others[best].book.net_curve
    return curves
