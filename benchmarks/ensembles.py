"""What several members are worth: MCC and NLL of the mean of 1, 3 and 5 models of other seeds.

    python benchmarks/ensembles.py --out runs/ensembles [--members 15] [--set NAME=VALUE ...]

On a synthetic drift and on the 15-minute bars of the folder XLSTM_DATA_DIR. Each member is trained
once, in turn, with checkpoints under `--out`: the same command goes on after an interruption. The
members are cut into ensembles that share none, so that their spread is what the seeds decide. Each
mean gets its own temperature on validation windows, as a run with ENSEMBLE_SIZE does. Prints tables
in Markdown: mean over the ensembles, and their standard deviation.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from recipe.cli.backend import prepare_process, start_backend  # noqa: E402

prepare_process()  # as train_model.py does
start_backend()

import numpy as np  # noqa: E402

import config  # noqa: E402
from core.priors import fit_temperature, tempered  # noqa: E402
from data.market.market import Market, training_prior  # noqa: E402
from evaluation.figures.scores import Scores  # noqa: E402
from evaluation.judge import blocks_of  # noqa: E402
from evaluation.metrics import evaluate  # noqa: E402
from recipe.run.fold import TrainedMember, train  # noqa: E402
from recipe.run.market import read_market  # noqa: E402
from recipe.run.settings import RunSettings, run_settings  # noqa: E402
from recipe.run.training import assemble  # noqa: E402

REAL = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
BARS = {
    "persistent drift": "synthetic:persistent_drift",
    "15-minute bars": str(REAL / "crypto_15m.csv.gz"),
}
SIZES = (1, 3, 5)
FIGURES = ("mcc", "nll")
SPLITS = ("validation", "test")


def restored(member: TrainedMember) -> dict[str, np.ndarray]:
    """Returns the probabilities of each split without the member's own temperature."""
    temperature, prior = (member.alone.calibration[n] for n in ("temperature", "temperature_prior"))
    return {
        split: np.exp(
            tempered(np.log(np.maximum(values.astype(float), 1e-30)), prior, 1 / temperature)
        )
        for split, values in member.alone.probabilities.items()
    }


def trained_members(market: Market, settings: RunSettings, folder: Path) -> list[dict]:
    """Returns the restored probabilities of every member of the first fold."""
    members = []
    for number in range(settings.ensemble_size):
        training = assemble(settings, market, 0, number)
        trained = train(
            training,
            folder / f"member-{number}",
            resume=True,
            note=print,
            on_rows=lambda rows: None,
        )
        test = evaluate(
            training.fold.labels[training.fold.test],
            trained.alone.probabilities["test"],
            training.restoration.natural_prior,
        )
        told = "  ".join(f"{figure} {getattr(test, figure):.4f}" for figure in FIGURES)
        print(f"member {number}: epoch {trained.best_epoch}  {told}", file=sys.stderr, flush=True)
        members.append(restored(trained))
    return members


def judged(members: list[dict], market: Market) -> dict[str, Scores]:
    """Returns the figures of the mean of some members in the first fold, by split."""
    fold = market.folds[0]
    prior, ends = training_prior(fold), fold.validation
    log_p = {split: np.log(np.mean([m[split] for m in members], axis=0)) for split in SPLITS}
    temperature = fit_temperature(
        log_p["validation"], fold.labels[ends], prior, blocks_of(market, ends)
    )
    return {
        split: evaluate(
            fold.labels[getattr(fold, split)], np.exp(tempered(values, prior, temperature)), prior
        )
        for split, values in log_p.items()
    }


def table(name: str, members: list[dict], market: Market) -> str:
    """Returns the table of one market."""
    columns = [(split, figure) for split in SPLITS for figure in FIGURES]
    lines = [
        f"## {name}\n",
        "| members | ensembles | " + " | ".join(f"{s} {f.upper()}" for s, f in columns) + " |",
        "|---:|---:|" + "---:|" * len(columns),
    ]
    for size in SIZES:
        starts = range(0, len(members) - size + 1, size)
        found = [judged(members[start : start + size], market) for start in starts]
        if found:
            cells = [
                _mean_and_spread([getattr(f[split], figure) for f in found])
                for split, figure in columns
            ]
            lines.append(f"| {size} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def check_flags(path: Path, flags: dict) -> None:
    """Keeps the flags beside the checkpoints, and ends where those there are of other flags."""
    of_all = {name: value for name, value in flags.items() if name != "ENSEMBLE_SIZE"}
    if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(of_all)):
        sys.exit(f"the flags must be those of {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(of_all, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--members", type=int, default=15)
    parser.add_argument("--market", action="append", choices=BARS, help="default: both")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    flags = config.load([*options.set, f"ENSEMBLE_SIZE={options.members}"])
    check_flags(options.out / "config.json", config.as_dict(flags))
    tables = []
    for name in options.market or BARS:
        market, _ = read_market(BARS[name], flags)
        folder = options.out / name.replace(" ", "-")
        tables.append(table(name, trained_members(market, run_settings(flags), folder), market))
    print("\n".join(tables))


if __name__ == "__main__":
    main()
