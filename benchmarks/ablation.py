"""What switching each improvement off did in some ablations, as a table in Markdown for each.

    python train_model.py study ablation --data BARS --seeds 5 --out studies/NAME
    python benchmarks/ablation.py studies/NAME ...

Effects are those of study.csv: the arm with the improvement off less the one with everything on,
so above 0 the improvement helps NLL, and below 0 it helps MCC.
"""

import sys
from pathlib import Path

import pandas as pd

COLUMNS = {
    "validation NLL": ("off", "validation", "nll"),
    "test NLL": ("off", "test", "nll"),
    "test MCC": ("off", "test", "mcc"),
    "alone, validation NLL": ("alone", "validation", "nll"),
}


def table(study: Path) -> str:
    """Returns the table of one study."""
    effects = pd.read_csv(study / "study.csv")
    lines = [
        f"| switched off | {' | '.join(COLUMNS)} | s | word |",
        f"|---|{'---:|' * len(COLUMNS)}---:|---|",
    ]
    for number, own in effects.groupby("improvement", sort=True):
        rows = own.set_index(["comparison", "split", "measure"])
        first = rows.loc[("off", "validation", "nll")]
        cells = [_effect(rows.loc[key]) for key in COLUMNS.values()]
        cells += [f"{first['cost_seconds']:.1f}", first["word"]]
        lines.append(f"| [{number}] {first['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _effect(row: pd.Series) -> str:
    return f"{row['effect']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        print(f"## {folder.name}\n\n{table(folder)}\n")
