"""A study as one page and as tables: study.html, study.csv and runs.csv, also half-way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from core.i18n import N_, _, listed, ngettext, number
from evaluation.report.formats import drawing, picture, render
from recipe.run import folder as files
from recipe.study import plots, results
from recipe.study.arms import space_for
from recipe.study.plan import DONE, FAILED, OPEN, PRUNED, Plan

TEMPLATE = "study.html.jinja"
PAGE, TABLE, RUNS, WINNER = "study.html", "study.csv", "runs.csv", "winner.json"
# The last two where there are enough symbols at a bar.
TITLES = {
    "nll": "NLL",
    "direction": N_("direction"),
    "mcc": "MCC",
    "ece": "ECE",
    "rank_correlation": N_("rank correlation"),
    "timing": N_("timing"),
}
OTHERS = {
    "cell": N_("run"),
    "seed": N_("seed"),
    "state": N_("state"),
    "seconds": N_("seconds"),
    "validation_nll_mean_over_folds": N_("validation NLL, mean over folds"),
    "mean": N_("mean"),
    "std": N_("standard deviation"),
    "min": N_("least"),
    "max": N_("most"),
    DONE: N_("done"),
    FAILED: N_("failed"),
    PRUNED: N_("pruned"),
    OPEN: N_("open"),
}
HEADLINES = {
    "ablation": N_("Which improvement helps?"),
    "sweep": N_("Which settings serve?"),
    "seeds": N_("How much is luck?"),
}
COLUMNS = [(split, measure) for split in ("validation", "test") for measure in TITLES]


def write_study(plan: Plan, say: Callable[[str, str], None]) -> list[Path]:
    """Writes the results so far into the study's folder, and returns the paths.

    Args:
        plan: of the study.
        say: called with each finding, as a name and a text.
    """
    runs = results.runs_table(plan)
    done = runs[runs["state"] == DONE]
    if len(done):
        summary = {"ablation": _ablation, "sweep": _sweep, "seeds": _seeds}[plan.kind]
        table, parts, findings = summary(plan, done)
    else:
        table, parts, findings = runs, {}, [(_("study"), _("no cell is done yet"))]
    for name, text in findings:
        say(name, text)
    winner_flags = parts.pop("winner_flags", None)
    page = _page(plan, runs, findings, parts)
    files.write(plan.folder / PAGE, lambda path: path.write_text(page, encoding="utf-8"))
    for name, content in {TABLE: table, RUNS: runs}.items():
        files.write(plan.folder / name, lambda path, c=content: c.to_csv(path, index=False))
    paths = [plan.folder / name for name in (PAGE, TABLE, RUNS)]
    if winner_flags:
        files.write_json(plan.folder / WINNER, winner_flags)
        paths.append(plan.folder / WINNER)
    return paths


def _ablation(plan: Plan, done: pd.DataFrame) -> tuple[pd.DataFrame, dict, list]:
    effects = results.effects_table(plan)
    if not len(effects):
        return effects, {}, [(_("study"), _("no improvement has both of its arms done yet"))]
    decided = effects[effects["word"] != ""]
    findings = [
        (
            f"[{row['improvement'] or '1-8'}]",
            f"{_(row['name'])}: {_(row['word'])} ({_in_words(row)})",
        )
        for row in decided.to_dict("records")
    ]
    pictures: dict[str, dict[str, str]] = {}
    there = set(effects["measure"]) if (effects["comparison"] == "off").any() else set()
    for measure, title in TITLES.items():
        if measure in there:
            with drawing(pictures, measure):
                pictures[measure] = picture(
                    plots.forest(effects, measure),
                    _("What each improvement does to {measure}", measure=_(title)),
                    _(title),
                )
    comparisons = {
        title: _rows(effects[effects["comparison"] == comparison])
        for comparison, title in results.COMPARISONS.items()
    }
    columns = [column for column in COLUMNS if column[1] in set(effects["measure"])]
    parts = {"pictures": pictures, "comparisons": comparisons, "columns": columns}
    return effects, parts, findings


def _rows(effects: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns for each improvement a row of texts, with the effects by column."""
    rows = []
    for place, group in effects.groupby("improvement"):
        by_column = {(row["split"], row["measure"]): row for row in group.to_dict("records")}
        decides = by_column["validation", "nll"]
        rows.append(
            {
                "name": f"{place or ''} {_(decides['name'])}".strip(),
                "word": decides["word"],
                "effects": by_column,
                "p": decides["p_holm"],
                "cost": decides["cost_seconds"],
                "seeds": decides["seeds"],
            }
        )
    return rows


def _in_words(row: dict[Any, Any]) -> str:
    if pd.isna(row["low"]):
        return _("validation NLL {effect:+.4f} where off", effect=row["effect"])
    return _(
        "validation NLL {effect:+.4f} where off, 95 % interval {low:+.4f} to {high:+.4f}, p "
        "{p:.2g}",
        **{name: row[name] for name in ("effect", "low", "high")},
        p=row["p_holm"],
    )


def _seeds(plan: Plan, done: pd.DataFrame) -> tuple[pd.DataFrame, dict, list]:
    columns = [name for name in map("_".join, COLUMNS) if name in done]
    spread = done[columns].agg(["mean", "std", "min", "max"]).T.rename_axis("measure")
    pictures: dict[str, dict[str, str]] = {}
    with drawing(pictures, "seeds"):
        pictures["seeds"] = picture(
            plots.seed_dots(done), _("Each seed on both splits"), _("Each seed on both splits")
        )
    means = spread.T.to_dict()["test_direction"]
    figures = {f"{name}_": float(value) for name, value in means.items()}
    luck = _(
        "{done} of {all} seeds: test direction {mean_:+.4f} on average, {min_:+.4f} to {max_:+.4f}",
        done=len(done),
        all=plan.count,
        **figures,
    )
    if len(done) > 1:
        luck += _(", standard deviation {std_:.4f}", **figures)
    parts = {"pictures": pictures, "spread": spread.round(4)}
    return spread.reset_index(), parts, [(_("luck"), luck)]


def _sweep(plan: Plan, done: pd.DataFrame) -> tuple[pd.DataFrame, dict, list]:
    best = results.winner(plan)
    assert best is not None  # there are rows
    row = done.set_index("cell").T.to_dict()[best]
    tried = sum(plan.flags_file(cell).exists() for cell in plan.cells)
    values = done["validation_nll_mean_over_folds"]
    pictures: dict[str, dict[str, str]] = {}
    with drawing(pictures, "sweep"):
        pictures["sweep"] = picture(
            plots.sweep_curve(values),
            _("The trials in their order"),
            _("The trials in their order"),
        )
    parts = {
        "pictures": pictures,
        "winner_flags": files.read_json(plan.run(best) / files.CONFIG),
        "drawn": {
            n: f"{number(row[n], '.4g')} ({_(r.unit)})" for n, r in space_for(plan.flags).items()
        },
    }
    text = _(
        "{best}, the least validation NLL of {tried} trials: {least:.4f}. Its test windows: NLL "
        "{nll:.4f}, direction {direction:+.4f}, MCC {mcc:+.4f}, ECE {ece:.4f}",
        best=best,
        tried=tried,
        least=values.min(),
        **{name: row[f"test_{name}"] for name in ("nll", "direction", "mcc", "ece")},
    )
    return done, parts, [(_("winner"), text)]


def _page(plan: Plan, runs: pd.DataFrame, findings: list, parts: dict[str, Any]) -> str:
    states = runs["state"]
    counts = {state: int((states == state).sum()) for state in (DONE, FAILED, PRUNED)}
    counts_in_words = [
        _("{done} of {all} cells done", done=counts[DONE], all=len(states)),
        ngettext("{n} failed", "{n} failed", counts[FAILED]) if counts[FAILED] else "",
        ngettext("{n} pruned", "{n} pruned", counts[PRUNED]) if counts[PRUNED] else "",
    ]
    return render(
        TEMPLATE,
        Path(__file__).parent,
        title=plan.folder.name,
        kind=plan.kind,
        headline=_(HEADLINES[plan.kind]),
        data=plan.data or _("the sample"),
        progress=listed(filter(None, counts_in_words)),
        findings=findings,
        titles=TITLES,
        runs=runs.to_dict("records"),
        run_columns={str(c): _column(str(c)) for c in runs if c != "arm"},
        reasons={c: plan.reason(c) for c in runs["cell"][states.isin([FAILED, PRUNED])]},
        level=number(results.LEVEL),
        figure=_figure,
        column=_column,
        **parts,
    )


def _column(name: str) -> str:
    """Returns a readable name for a column of the runs or for a measure on a split."""
    split, _rest, measure = name.partition("_")
    if measure in TITLES:
        return f"{_(split)} {_(TITLES[measure])}"
    return _(OTHERS.get(name, name))


def _figure(value: Any, form: str = ".4f") -> str:
    """Returns a number as text; a dash for none."""
    if value is None or pd.isna(value):
        return "–"
    return number(value, form) if isinstance(value, float) else _(OTHERS.get(value, str(value)))
