"""What newer bars are worth: a walk-forward cold and warm, with and without recency.

    python benchmarks/young.py BARS --out runs/young [--half-life 2000] [--set NAME=VALUE ...]

Six folds in each of four brief runs, one after another: folds that start at random weights or at
those of the fold before (WALK_FORWARD_WARM), labels of one weight or of half the weight after
`--half-life` bars (RECENCY_HALF_LIFE). A run that is there is not run again, and one that was
interrupted goes on. Prints a table in Markdown: NLL of the test windows of all folds, its
difference from the first run with a 95 % interval over blocks of time (the same windows, so it is
paired), the rank correlation across symbols, and seconds.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from evaluation.paired import paired  # noqa: E402
from evaluation.verdict import time_blocks  # noqa: E402

FOLDS = 6
SHARES = ["p_sell", "p_hold", "p_buy"]


def arms(half_life: int) -> dict[str, list[str]]:
    """Returns the flags of each run, by its name."""
    recent = f"RECENCY_HALF_LIFE={half_life}"
    return {
        "cold": [],
        "cold-recent": [recent],
        "warm": ["WALK_FORWARD_WARM=true"],
        "warm-recent": ["WALK_FORWARD_WARM=true", recent],
    }


def run(bars: str, folder: Path, changes: list[str]) -> None:
    """Makes a run folder whole."""
    program = [sys.executable, str(ROOT / "train_model.py")]
    if (folder / "metrics.json").exists():
        return
    if (folder / "run.json").exists():
        subprocess.run([*program, "resume", str(folder)], check=True)
        return
    settings = [f"--set={flag}" for flag in (f"WALK_FORWARD_FOLDS={FOLDS}", *changes)]
    command = [*program, "train", "--brief", "--data", bars, "--out", str(folder), *settings]
    subprocess.run(command, check=True)


def row(folder: Path, first: Path) -> str:
    """Returns the line of a run in the table."""
    metrics, told = (json.loads((folder / f"{n}.json").read_text()) for n in ("metrics", "run"))
    own, other = (
        pd.read_parquet(each / "predictions.parquet").sort_values(["timestamp", "symbol"])
        for each in (folder, first)
    )
    blocks = time_blocks(own["timestamp"].to_numpy(), metrics["verdict"]["block_seconds"])
    said = own[SHARES].to_numpy(), other[SHARES].to_numpy()
    found = paired(own["label"].to_numpy(), *said, blocks)
    across = (metrics["cross_section"] or {}).get("model")  # None: too few symbols
    ranked = f"{across['rank_correlation']['value']:+.4f}" if across else ""
    difference = f"{found.difference:+.4f} ({found.interval[0]:+.4f} to {found.interval[1]:+.4f})"
    return (
        f"| {folder.name} | {found.nll:.4f} | {'' if folder == first else difference} | {ranked} | "
        f"{told['wall_seconds']:.0f} |"
    )


def main() -> None:
    """Makes the four runs and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bars")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--half-life", type=int, default=2000, metavar="BARS")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    folders = {name: options.out / name for name in arms(options.half_life)}
    for name, flags in arms(options.half_life).items():
        run(options.bars, folders[name], [*options.set, *flags])
    print("| folds | NLL | less the first | rank correlation | seconds |")
    print("|---|---|---|---|---|")
    for folder in folders.values():
        print(row(folder, folders["cold"]))


if __name__ == "__main__":
    main()
