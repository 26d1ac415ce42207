"""Where the seconds and the memory of a run go, by stage; the tables are in stages.md.

    python benchmarks/stages.py [--data BARS] [--set FLAG=VALUE ...]   as train_model.py takes them
    python benchmarks/stages.py --bars FILE   writes three million bars: 136 symbols, 15 minutes

Wraps what a run calls, and otherwise leaves it as it is. A stage has its seconds by the clock and
of processors (of all threads, those of what works beside it too), and the resident memory when it
ended; the last row is the whole process and its peak. Epochs are told by the command itself.
"""

import functools
import importlib
import pkgutil
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import train_model  # noqa: E402
from data.bars.synthetic import read_synthetic  # noqa: E402
from recipe.cli import training  # noqa: E402

BARS = "synthetic:persistent_drift?bars=22072&symbols=136"
BEFORE = {  # the backend is imported
    "reading": "recipe.run.market.bars_or_sample",
    "features, labels, splits": "recipe.run.market.build_market",
}
AFTER = {
    "batches and models": "recipe.run.run.assemble",
    "summaries for the baselines": "evaluation.baselines.fold.fitting_windows",
    "baselines, beside the training": "recipe.run.run.fit_learners",
    "validation of an epoch": "models.training.callbacks.validation.ValidationMetrics.on_epoch_end",
    "mining": "models.training.callbacks.mining.HardNegativeMining._mine",
    "calibration, validation and test windows": "recipe.run.fold.deploy",
    "training and these": "recipe.run.run.train_fold",
    "importance": "recipe.run.run.explain",
    "figures": "recipe.run.run.run_metrics",
    "predictions written": "recipe.run.run._Run._write_predictions",
    "report": "recipe.run.run.report_page",
}


def main() -> int:
    if sys.argv[1:2] == ["--bars"]:
        frame = read_synthetic(BARS)
        frame.assign(symbol=frame["symbol"].astype(str)).to_parquet(sys.argv[2], index=False)
        return 0
    print("| stage | from, s | seconds | of processors | memory then, MiB |")
    print("|---|---:|---:|---:|---:|")
    begun, start_backend = time.perf_counter(), training.start_backend

    def started() -> None:
        start_backend()
        importlib.import_module("recipe.run.run")
        row("imports, and the backend", begun, time.perf_counter(), time.process_time())
        for stage, path in AFTER.items():
            wrap(stage, path, begun)

    training.start_backend = started
    for stage, path in BEFORE.items():
        wrap(stage, path, begun)
    status = train_model.main(["train", *sys.argv[1:]])
    used = resource.getrusage(resource.RUSAGE_SELF)
    row("all", begun, time.perf_counter(), used.ru_utime + used.ru_stime)
    print(f"peak {used.ru_maxrss >> 10:,} MiB")
    return status


def wrap(stage: str, path: str, begun: float) -> None:
    """Has a function of a run tell its row when it ends."""
    parent, name = path.rsplit(".", 1)
    home = pkgutil.resolve_name(parent)  # a module, or a class in one
    work = getattr(home, name)

    @functools.wraps(work)
    def told(*arguments, **options):
        entered, spent = time.perf_counter(), time.process_time()
        try:
            return work(*arguments, **options)
        finally:
            row(stage, begun, time.perf_counter(), time.process_time() - spent, entered)

    setattr(home, name, told)


def row(stage: str, begun: float, ended: float, spent: float, entered: float | None = None) -> None:
    """Prints a row of the table; of the whole process where there is no time of entry."""
    status = Path("/proc/self/status").read_text().split("VmRSS:")[1]
    entered = begun if entered is None else entered
    figures = f"{entered - begun:.1f} | {ended - entered:.2f} | {spent:.2f}"
    print(f"| {stage} | {figures} | {int(status.split()[0]) >> 10:,} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
