"""What switching each improvement off did in some ablations, as a table in Markdown for each.

    python train_model.py study ablation --data BARS --seeds 5 --out studies/NAME
    python benchmarks/ablation.py studies/NAME ...

Effects are those of study.csv: the arm with the improvement off less the one with everything on,
so above 0 the improvement helps NLL, and below 0 it helps MCC.
"""

import sys
from pathlib import Path

import pandas as pd

OFF, ALONE = ("together", "off"), ("alone",)
COLUMNS = {
    "validation NLL": (OFF, "validation", "nll"),
    "test NLL": (OFF, "test", "nll"),
    "test direction": (OFF, "test", "direction"),
    "test MCC": (OFF, "test", "mcc"),
    "alone, validation NLL": (ALONE, "validation", "nll"),
}


def table(study: Path) -> str:
    """Returns the table of one study."""
    effects = pd.read_csv(study / "study.csv")
    lines = [
        f"| switched off | {' | '.join(COLUMNS)} | s | word |",
        f"|---|{'---:|' * len(COLUMNS)}---:|---|",
    ]
    for number, own in effects.groupby("improvement", sort=True):
        first = own[own["word"].notna()].iloc[0]
        cells = [_effect(own, *key) for key in COLUMNS.values()]
        cells += [f"{first['cost_seconds']:.1f}", first["word"]]
        lines.append(f"| [{number or '1-8'}] {first['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _effect(own: pd.DataFrame, comparisons: tuple[str, ...], split: str, measure: str) -> str:
    found = own[own["comparison"].isin(comparisons)]
    found = found[(found["split"] == split) & (found["measure"] == measure)]
    return "".join(
        f"{row['effect']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        for row in found.to_dict("records")
    )


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        print(f"## {folder.name}\n\n{table(folder)}\n")
