"""The results of a study: a table of its runs, and the effect of each improvement."""

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import N_
from data.market.labels import CLASS_NAMES
from evaluation.across.cross_section import Forecasts, correlations
from evaluation.answers import Answers
from evaluation.figures.summary import BlockSummary, EpochSummary
from recipe.run import folder as files
from recipe.study import arms, checked
from recipe.study.arms import space_for
from recipe.study.effects import block_sums, holm, measured, measures, paired_effects
from recipe.study.plan import DONE, Plan

SPLITS = {"validation": files.VALIDATION, "test": files.PREDICTIONS}
PROBABILITIES = [f"p_{name.lower()}" for name in CLASS_NAMES]
COMPARISONS = {
    "together": N_("all switched off"),
    "off": N_("switched off"),
    "alone": N_("alone"),
}
TOGETHER = 0  # stands for the number of an improvement where all eight are meant
# The word rests on this: a proper score, and on windows on which something may be chosen.
DECIDES = {"split": "validation", "measure": "nll"}
LEVEL = 0.05
HELPS, HARMS = N_("helps"), N_("harms")
NEITHER, UNKNOWN = N_("no difference seen"), N_("too few seeds or blocks")
ALL_EIGHT = N_("all eight")


def runs_table(plan: Plan) -> pd.DataFrame:
    """Returns a row for each cell: its state, its measures on both splits, its seconds.

    Of a sweep the test windows stay closed but for the winner's.
    """
    best = winner(plan) if plan.kind == "sweep" else None
    rows = []
    for cell in plan.cells.values():
        row: dict[str, Any] = {"cell": cell.name, "arm": cell.arm, "seed": cell.flags.SEED}
        row["state"] = plan.state(cell.name)
        if row["state"] == DONE:
            for split in SPLITS:
                if split == "validation" or plan.kind != "sweep" or cell.name == best:
                    sums = _sums(plan, cell.name, split)
                    row |= {f"{split}_{m}": v for m, v in _measured(sums).items()}
            row["validation_nll_mean_over_folds"] = plan.value(cell.name)
            row["seconds"] = training_seconds(plan, cell.name)
        if plan.kind == "sweep" and plan.flags_file(cell.name).exists():
            row |= plan.drawn(cell.name, space_for(plan.flags))
        rows.append(row)
    return pd.DataFrame(rows)


def winner(plan: Plan) -> str | None:
    """Returns the finished cell with the lowest mean validation NLL over folds, if any."""
    done = [cell for cell in plan.cells if plan.state(cell) == DONE]
    return min(done, key=plan.value, default=None)


def training_seconds(plan: Plan, cell: str) -> float:
    """Returns the seconds of all epochs of a run, each counted as the median of those timed.

    So neither what was compiled in the first epoch counts, nor whether the run was interrupted.
    """
    metrics, flags = plan.run(cell) / files.METRICS, plan.cells[cell].flags
    figures = checked.read(EpochSummary, metrics)
    epochs = figures.num_folds * flags.ENSEMBLE_SIZE * flags.SUPERVISED_EPOCHS
    return float(np.median(figures.timing.seconds_per_epoch or [0.0])) * epochs


def effects_table(plan: Plan) -> pd.DataFrame:
    """Returns the effects of an ablation, a row for each improvement, comparison, split, measure.

    Compared are the seeds for which both arms are done. `together` is the arm with nothing on less
    the one with everything on (its improvement is `TOGETHER`), `off` the arm with one improvement
    off less the one with everything on, `alone` the arm with it alone less the one with nothing on.
    `p_holm` is corrected over the eight improvements, but for `together`, which is one question;
    `word` stands in the rows that DECIDES, where something was switched off.
    """
    rows = []
    for (number, comparison), (changed, other) in _compared().items():
        both = _both_done(plan, changed, other)
        for split in SPLITS if both else ():
            stacks = _paired_sums(plan, both, split)
            for measure, effect in paired_effects(*stacks).items():
                rows.append(
                    {
                        "improvement": number,
                        "name": arms.IMPROVEMENTS[number].name if number else ALL_EIGHT,
                        "comparison": comparison,
                        "split": split,
                        "measure": measure,
                        "effect": effect.value,
                        **{k: v for k, v in asdict(effect).items() if k != "value"},
                        "seeds": len(both),
                        "blocks": stacks[0].shape[1],
                        "cost_seconds": _cost(plan, both, comparison),
                    }
                )
    table = pd.DataFrame(rows)
    if len(table):
        families = table.groupby(["comparison", "split", "measure"])["p"]
        # An improvement that is not done yet still belongs to the family.
        corrected = families.transform(lambda p: holm([*p, *[1.0] * (8 - len(p))])[: len(p)])
        table["p_holm"] = corrected.where(table["comparison"] != "together", table["p"])
        table["word"] = [_word(row) for row in table.to_dict("records")]
    return table


def _compared() -> dict[tuple[int, str], tuple[str, str]]:
    """Returns the two arms of each comparison, by improvement and name of the comparison."""
    pairs = {(TOGETHER, "together"): (arms.ALL_OFF, arms.ALL_ON)}
    for number in arms.IMPROVEMENTS:
        pairs[number, "off"] = arms.without(number), arms.ALL_ON
        pairs[number, "alone"] = arms.only(number), arms.ALL_OFF
    return pairs


def _word(row: dict[Any, Any]) -> str:
    """Returns what the improvement does, by the NLL on validation windows where it is off."""
    if row["comparison"] == "alone" or any(row[name] != value for name, value in DECIDES.items()):
        return ""
    if pd.isna(row["low"]):
        return UNKNOWN
    if row["p_holm"] >= LEVEL:
        return NEITHER
    return HELPS if row["effect"] > 0 else HARMS


def _both_done(plan: Plan, changed: str, other: str) -> list[tuple[str, str]]:
    """Returns the cells of two arms for every seed for which both are done."""
    cells = {(cell.arm, cell.flags.SEED): cell.name for cell in plan.cells.values()}
    pairs = [(name, cells[other, seed]) for (arm, seed), name in cells.items() if arm == changed]
    return [pair for pair in pairs if all(plan.state(cell) == DONE for cell in pair)]


def _paired_sums(
    plan: Plan, both: list[tuple[str, str]], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of both arms, (seeds, blocks, ...)."""
    changed, other = (
        [_sums(plan, cell, split) for cell in side] for side in zip(*both, strict=True)
    )
    counts = {tuple(sums[:, :9].sum(axis=1)) for sums in [*changed, *other]}
    if len(counts) > 1:
        raise InputError(
            "the runs in {folder} must have the same {split} windows",
            folder=plan.folder,
            split=split,
        )
    return np.stack(changed), np.stack(other)


@cache
def _read_sums(
    path: Path, earlier: Path | None, block_seconds: float, _modified: float
) -> np.ndarray:
    table = checked.predictions(path)
    probabilities = table[PROBABILITIES].to_numpy()
    return block_sums(
        table["timestamp"].dt.tz_convert(None).to_numpy(),
        table["label"].to_numpy(),
        probabilities,
        Answers(table["call"].to_numpy(), table["side"].to_numpy()),
        block_seconds,
        _ranked(table, earlier, block_seconds),
    )


def _ranked(
    table: pd.DataFrame, earlier: Path | None, block_seconds: float
) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Returns the rank correlations of the windows' bars; None where too few symbols are there.

    Args:
        table: predictions of a split.
        earlier: file with the predictions of the split before, for the past means.
        block_seconds: length of a block of time.
    """
    keys = ["symbol", "timestamp"]
    if not {*keys, "forward_return"} <= set(table):
        return None
    tables = [table] if earlier is None else [table, pd.read_parquet(earlier)]
    windows = pd.concat([each.astype({"symbol": str}) for each in tables], ignore_index=True)
    again = windows.duplicated(keys)  # of a walk-forward: tested in one fold, validated in another
    codes = pd.factorize(windows["symbol"])[0]
    times = windows["timestamp"].dt.tz_convert(None).to_numpy()
    probabilities = windows[PROBABILITIES].to_numpy()

    def forecasts(rows: np.ndarray) -> Forecasts:
        return Forecasts(times[rows], codes[rows], probabilities[rows])

    place = np.arange(len(windows))
    before = forecasts(np.flatnonzero((place >= len(table)) & ~again.to_numpy()))
    by_bar, blocks = correlations(
        forecasts(place[: len(table)]),
        table["forward_return"].to_numpy(),
        block_seconds=block_seconds,
        before=before if len(before.times) else None,
    )
    return (by_bar, blocks) if len(blocks) else None


def _sums(plan: Plan, cell: str, split: str) -> np.ndarray:
    """Returns the block sums of a run; see `recipe.study.effects.block_sums`."""
    path = plan.run(cell) / SPLITS[split]
    if not path.exists():
        raise InputError(
            "the run folder {cell} must hold {path}; it does not",
            cell=plan.run(cell),
            path=path.name,
        )
    figures = checked.read(BlockSummary, plan.run(cell) / files.METRICS)
    block_seconds = figures.verdict.block_seconds
    earlier = plan.run(cell) / files.VALIDATION
    past = earlier if split == "test" and earlier.exists() else None
    return _read_sums(path, past, block_seconds, path.stat().st_mtime)


def _measured(sums: np.ndarray) -> dict[str, float]:
    return dict(zip(measured(sums), measures(sums.sum(axis=0)).tolist(), strict=True))


def _cost(plan: Plan, both: list[tuple[str, str]], comparison: str) -> float:
    """Returns how many seconds longer training takes with the improvement than without."""
    longer = [training_seconds(plan, a) - training_seconds(plan, b) for a, b in both]
    return float(np.mean(longer)) * (1 if comparison == "alone" else -1)
