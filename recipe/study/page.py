"""A study as one page and as tables: study.html, study.csv and runs.csv, also half-way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from evaluation.report.formats import data_uri, templates, with_policy
from recipe.run import folder as files
from recipe.study import plots, results
from recipe.study.plan import DONE, FAILED, PRUNED, Plan
from recipe.study.space import space_for

TEMPLATE = "study.html.jinja"
PAGE, TABLE, RUNS, WINNER = "study.html", "study.csv", "runs.csv", "winner.json"
# The last two where there are enough symbols at a bar.
TITLES = {
    "nll": "NLL",
    "direction": "direction",
    "mcc": "MCC",
    "ece": "ECE",
    "rank_correlation": "rank correlation",
    "timing": "timing",
}
COLUMNS = [(split, measure) for split in ("validation", "test") for measure in TITLES]


def write_study(plan: Plan, say: Callable[[str, str], None]) -> list[Path]:
    """Writes what the study says so far into its folder, and returns the paths.

    Args:
        plan: of the study.
        say: is told each finding, as a name and a text.
    """
    runs = results.runs_table(plan)
    done = runs[runs["state"] == DONE]
    if len(done):
        summary = {"ablation": _ablation, "sweep": _sweep, "seeds": _seeds}[plan.kind]
        table, parts, findings = summary(plan, done)
    else:
        table, parts, findings = runs, {}, [("study", "no cell is done yet")]
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
        return effects, {}, [("study", "no improvement has both of its arms done yet")]
    decided = effects[effects["word"] != ""]
    findings = [
        (f"[{row['improvement'] or '1-8'}]", f"{row['name']}: {row['word']} ({_in_words(row)})")
        for row in decided.to_dict("records")
    ]
    pictures = {}
    if (effects["comparison"] == "off").any():
        there = set(effects["measure"])
        pictures = {t: data_uri(plots.forest(effects, m)) for m, t in TITLES.items() if m in there}
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
    for number, own in effects.groupby("improvement"):
        by_column = {(row["split"], row["measure"]): row for row in own.to_dict("records")}
        decides = by_column["validation", "nll"]
        rows.append(
            {
                "name": f"{number or ''} {decides['name']}",
                "word": decides["word"],
                "effects": by_column,
                "p": decides["p_holm"],
                "cost": decides["cost_seconds"],
                "seeds": decides["seeds"],
            }
        )
    return rows


def _in_words(row: dict[str, Any]) -> str:
    text = f"validation NLL {row['effect']:+.4f} where off"
    if pd.isna(row["low"]):
        return text
    return f"{text}, 95 % interval {row['low']:+.4f} to {row['high']:+.4f}, p {row['p_holm']:.2g}"


def _seeds(plan: Plan, done: pd.DataFrame) -> tuple[pd.DataFrame, dict, list]:
    columns = [name for name in map("_".join, COLUMNS) if name in done]
    spread = done[columns].agg(["mean", "std", "min", "max"]).T.rename_axis("measure")
    parts = {"pictures": {"seeds": data_uri(plots.seed_dots(done))}, "spread": spread.round(4)}
    text = "test direction {mean:+.4f} on average, {min:+.4f} to {max:+.4f}"
    if len(done) > 1:
        text += ", standard deviation {std:.4f}"
    luck = text.format(**spread.loc["test_direction"])
    return spread.reset_index(), parts, [("luck", f"{len(done)} of {plan.count} seeds: {luck}")]


def _sweep(plan: Plan, done: pd.DataFrame) -> tuple[pd.DataFrame, dict, list]:
    best = results.winner(plan)
    row = done.set_index("cell").loc[best]
    tried = sum(plan.flags_file(cell).exists() for cell in plan.cells)
    values = done["validation_nll_mean_over_folds"]
    parts = {
        "pictures": {"sweep": data_uri(plots.sweep_curve(values))},
        "winner_flags": files.read_json(plan.run(best) / files.CONFIG),
        "drawn": {n: f"{row[n]:.4g} ({r.unit})" for n, r in space_for(plan.flags).items()},
    }
    text = (
        f"{best}, the least validation NLL of {tried} trials: {values.min():.4f}. "
        f"Its test windows: NLL {row['test_nll']:.4f}, direction "
        f"{row['test_direction']:+.4f}, MCC {row['test_mcc']:+.4f}, "
        f"ECE {row['test_ece']:.4f}"
    )
    return done, parts, [("winner", text)]


def _page(plan: Plan, runs: pd.DataFrame, findings: list, parts: dict[str, Any]) -> str:
    environment = templates(Path(__file__).parent)
    environment.filters["figure"] = _figure
    states = runs["state"]
    page = environment.get_template(TEMPLATE).render(
        title=plan.folder.name,
        kind=plan.kind,
        data=plan.data or "the sample",
        counts={s: int((states == s).sum()) for s in (DONE, FAILED, PRUNED)},
        total=len(states),
        findings=findings,
        titles=TITLES,
        runs=runs.to_dict("records"),
        run_columns=[c for c in runs if c != "arm"],
        reasons={c: plan.reason(c) for c in runs["cell"][states.isin([FAILED, PRUNED])]},
        level=results.LEVEL,
        **parts,
    )
    return with_policy(page)


def _figure(value: Any, form: str = ".4f") -> str:
    """Returns a number as text; a dash for none."""
    if value is None or isinstance(value, jinja2.Undefined) or pd.isna(value):
        return "–"
    return format(value, form) if isinstance(value, float) else str(value)
