"""What many labels per sequence learn, and how fast, against one label per window; several seeds.

    python benchmarks/learning.py run --bars drift --mode sequences --seeds 0,1,2,3,4
    python benchmarks/learning.py run --bars 15min --mode windows --seeds 0,1
    python benchmarks/learning.py show          the table, and the curves in benchmarks/learning.png

`run` trains by the recipe and adds a line for each seed to learning.jsonl (`--out`); what is there
is not trained again. Sequences have the default flags. Windows have the schedule that suits them:
they know the set by heart after two or three passes, so everything happens in five. Seconds are
those of the passes, without compilation, validation and mining.
"""

import argparse
import json
import os
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from recipe.cli.backend import prepare_process, start_backend  # noqa: E402

prepare_process()  # as train_model.py does
start_backend()

DATA = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
BARS = {
    "drift": "synthetic:persistent_drift?bars=5000&symbols=8&seed={seed}",
    "15min": str(DATA / "crypto_15m.csv.gz"),
}
MODES = {
    "sequences": {},
    "windows": {
        "LABELS_PER_SEQUENCE": 1,
        "SUPERVISED_BATCH_SIZE": 64,
        "SUPERVISED_EPOCHS": 5,
        "LR_BASE": 5e-4,
        "LR_WARMUP_EPOCHS": 0.5,
        "EMA_DECAY": 0.998,
        "AFL_WARMUP_EPOCHS": 2,
        "LOGIT_CLIP_RELEASE_EPOCH": 1,
        "HNM_START_EPOCH": 2,
        "HNM_END_EPOCH": 4,
        "HNM_UPDATE_PERIOD": 2,
        "HNM_MAX_SCORED": 8192,
        "DROPOUT_RNN1": 0.3,
        "DROPOUT_RNN2": 0.3,
        "RECURRENT_DROPOUT": 0.2,
    },
}
COLOURS = {"sequences": "#0072b2", "windows": "#d55e00"}
OUT = Path(__file__).with_name("learning.jsonl")


def read(out: Path) -> list[dict]:
    """Returns what has been trained."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def train_one(bars: str, mode: str, seed: int, changes: list[str]) -> dict:
    """Returns what a training gave, in numbers that JSON can hold."""
    import config
    from evaluation.metrics import evaluate
    from recipe.run.fold import train
    from recipe.run.market import read_market
    from recipe.run.settings import run_settings
    from recipe.run.training import assemble

    flags = config.load(changes, SEED=seed, **MODES[mode])
    market, _ = read_market(BARS[bars].format(seed=seed), flags)
    training = assemble(run_settings(flags), market, 0)
    with tempfile.TemporaryDirectory() as folder:
        done = train(
            training,
            Path(folder),
            resume=False,
            verbose=0,
            note=print,
            on_rows=lambda rows: print(json.dumps(rows[-1]), flush=True) if rows else None,
        )
    seconds = [epoch["training"] for epoch in done.record.timing["epochs"]]
    seconds[0] -= done.record.timing["compilation_seconds"]
    figures = {
        split: evaluate(
            training.fold.labels[getattr(training.fold, split)],
            done.alone.probabilities[split],
            training.restoration.natural_prior,
        )
        for split in ("validation", "test")
    }
    return {
        "bars": bars,
        "mode": mode,
        "seed": seed,
        "changes": changes,
        "chosen": done.best_epoch,
        "val_nll": [row["val_nll"] for row in done.rows],
        "val_mcc": [row["val_mcc"] for row in done.rows],
        "hard_share": [row.get("hard_share", 0.0) for row in done.rows],
        "ce_weight": [row["ce_weight"] for row in done.rows],
        "seconds": list(accumulate(seconds)),
        "validation_seconds": done.record.timing["validation_seconds"],
        "mining_seconds": done.record.timing["mining_seconds"],
        **{
            split: {n: getattr(figures[split], n) for n in ("mcc", "nll", "ece")}
            for split in figures
        },
    }


def run(options) -> None:
    """Trains what is missing."""
    known = {(r["bars"], r["mode"], r["seed"], *r["changes"]) for r in read(options.out)}
    for seed in map(int, options.seeds.split(",")):
        if (options.bars, options.mode, seed, *options.set) in known:
            continue
        found = train_one(options.bars, options.mode, seed, options.set)
        with options.out.open("a") as file:
            file.write(json.dumps(found) + "\n")


def show(options) -> None:
    """Prints the table and draws the curves."""
    from matplotlib.figure import Figure

    runs = [r for r in read(options.out) if not r["changes"]]
    shown = [bars for bars in BARS if any(r["bars"] == bars for r in runs)]
    figure = Figure(figsize=(5 * len(shown), 3.6), layout="constrained")
    print("| bars | training | seeds | chosen epochs | validation NLL | test NLL | test MCC | s |")
    print("|---|---|---:|---|---:|---:|---:|---:|")
    for place, bars in enumerate(shown):
        panel = figure.add_subplot(1, len(shown), place + 1)
        for mode in MODES:
            own = [r for r in runs if (r["bars"], r["mode"]) == (bars, mode)]
            if not own:
                continue
            print(f"| {bars} | {mode} | {len(own)} | {_chosen(own)} | {_averages(own)} |")
            for number, r in enumerate(own):
                label = mode if number == 0 else None
                panel.plot(r["seconds"], r["val_nll"], color=COLOURS[mode], label=label)
                panel.plot(
                    r["seconds"][r["chosen"]], r["val_nll"][r["chosen"]], "o", color=COLOURS[mode]
                )
        panel.set(title=bars, xlabel="seconds of training", ylabel="validation NLL", xscale="log")
        panel.legend()
    figure.savefig(options.picture, dpi=110)


def _chosen(runs: list[dict]) -> str:
    return ", ".join(f"{r['chosen'] + 1} of {len(r['val_nll'])}" for r in runs)


def _averages(runs: list[dict]) -> str:
    at_chosen = mean(r["val_nll"][r["chosen"]] for r in runs)
    nll, mcc = (mean(r["test"][name] for r in runs) for name in ("nll", "mcc"))
    return f"{at_chosen:.4f} | {nll:.4f} | {mcc:.3f} | {mean(r['seconds'][-1] for r in runs):.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--bars", choices=list(BARS), default="drift")
    parser.add_argument("--mode", choices=list(MODES), default="sequences")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--picture", type=Path, default=OUT.with_suffix(".png"), help="of show")
    options = parser.parse_args()
    (run if options.what == "run" else show)(options)
