"""Labels a second of the training passes: many labels per sequence against one per window.

    python benchmarks/labels.py              the 15-minute bars in XLSTM_DATA_DIR, default flags
    python benchmarks/labels.py --part wide  an epoch of 281,060 labels, 25 features, 64 units

Both modes train by the recipe in turn, `--rounds` times, and what counts is `labels_per_second`, as
metrics.json has it: without the epoch that compiles. Prints a table in Markdown.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from recipe.cli.backend import prepare_process, start_backend  # noqa: E402

prepare_process()  # as train_model.py does
start_backend()

import numpy as np  # noqa: E402

import config  # noqa: E402
from data.market.market import Market  # noqa: E402
from evaluation.figures.run import Timing  # noqa: E402
from recipe.run.fold import train  # noqa: E402
from recipe.run.market import read_market  # noqa: E402
from recipe.run.metrics import training_time  # noqa: E402
from recipe.run.settings import RunSettings, run_settings  # noqa: E402
from recipe.run.training import assemble  # noqa: E402

BARS = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
FILE = "crypto_15m.csv.gz"
# Two epochs, of which the first compiles. Of windows a part of an epoch is enough.
SHORT = {"SUPERVISED_EPOCHS": 2, "LR_WARMUP_EPOCHS": 0.5, "VALIDATION_MAX_WINDOWS": 64}
MODES = {
    "windows": {"LABELS_PER_SEQUENCE": 1, "SUPERVISED_BATCH_SIZE": 64, "STEPS_PER_EPOCH": 200},
    "sequences": {"LABELS_PER_SEQUENCE": 0},
}
WIDE_LABELS, WIDE_FEATURES = 281_060, 25


def time_of(settings: RunSettings, market: Market) -> Timing:
    """Returns the timing of a training, as metrics.json has it."""
    training = assemble(settings, market, 0)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(
            training,
            Path(folder),
            resume=False,
            verbose=0,
            note=lambda text: None,
            on_rows=lambda rows: None,
        )
    return training_time([trained])


def compare(rounds: int) -> None:
    """Prints labels a second of both modes on the 15-minute bars."""
    found = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, changes in MODES.items():
            flags = config.load(**SHORT, **changes)
            market, _ = read_market(str(BARS / FILE), flags)
            found[mode].append(time_of(run_settings(flags), market).labels_per_second)
    print("| training | labels a second, each round | median | ratio |\n|---|---|---:|---:|")
    base = statistics.median(found["windows"])
    for mode, values in found.items():
        each, median = ", ".join(f"{v:,.0f}" for v in values), statistics.median(values)
        print(f"| {mode} | {each} | {median:,.0f} | {median / base:.1f} |")


def wide(rounds: int) -> None:
    """Prints the seconds of an epoch of 281,060 labels with 25 features and 64 units."""
    flags = config.load(**SHORT, LABELS_PER_SEQUENCE=0, XLSTM_UNITS=64)
    share = 1 - flags.VALIDATION_FRACTION - flags.TEST_FRACTION
    bars = int(WIDE_LABELS / share / 10) + 200
    market, _ = read_market(f"synthetic:walk?bars={bars}&symbols=10&seed=0", flags)
    market = dataclasses.replace(
        market,
        features=np.ascontiguousarray(market.features[:, :WIDE_FEATURES]),
        feature_names=market.feature_names[:WIDE_FEATURES],
    )
    labels = len(market.folds[0].train)
    seconds = [
        time_of(run_settings(flags), market).training_seconds_per_epoch[-1] for _ in range(rounds)
    ]
    print(f"{labels:,} labels of {WIDE_FEATURES} features: {statistics.median(seconds):.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["compare", "wide"], default="compare")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    (wide if options.part == "wide" else compare)(options.rounds)
