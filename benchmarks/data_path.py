"""Measures the data path beside imbalanced-learn and tf.data, and its memory; writes a table.

`python benchmarks/data_path.py` runs all contestants in turns in one process, so that they meet
the same moods of the machine, and writes benchmarks/data_path.md. It needs the `bench` extra and
the folder of real bars (XLSTM_DATA_DIR, default ../shared/data).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
from data_path_memory import measure_limited, measure_memory  # noqa: E402
from data_path_run import (  # noqa: E402
    ALL,
    BARS,
    BATCH,
    FILE,
    LENGTH,
    NUM_FEATURES,
    RATIOS,
    make_batches,
    settings,
)
from data_path_tables import head, limited_table, memory_table, reading_table, speed_table  # noqa: E402

from data.bars.read import read_bars  # noqa: E402
from data.batches.quotas import quotas  # noqa: E402
from data.batches.sampling import BatchPlan  # noqa: E402
from data.market.labels import METHODS  # noqa: E402
from data.market.market import build_market  # noqa: E402

PLANNED_WINDOWS, PLANNED_SYMBOLS, PLANNED_BATCH = 700_000, 10, 64
COPIED_WINDOWS = 30_000  # for the generator that needs them as one array: 180 MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    children = parser.add_mutually_exclusive_group()
    children.add_argument("--memory", metavar="METHOD", help="used by itself: a child process")
    children.add_argument("--limited", metavar="FOLDER", help="the same; '' for no feature store")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    if not (BARS / FILE).is_file():
        sys.exit(f"the benchmark needs {FILE} in {BARS}; set XLSTM_DATA_DIR to its folder")
    if arguments.memory is not None:
        print(json.dumps(measure_memory(arguments.memory)))
        return
    if arguments.limited is not None:
        print(json.dumps(measure_limited(arguments.limited)))
        return
    memory = {method: _in_child("--memory", method) for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        limited = {"in memory": _in_child("--limited", ""), "store": _in_child("--limited", folder)}
    market, reading = measure_reading()
    tables = [
        speed_table("A batch of 64 planned, from 700,000 windows of 10 symbols", *planning()),
        speed_table(f"A batch of {BATCH} x {LENGTH} x {NUM_FEATURES}", *batching(market)),
    ]
    text = "\n".join([head(), *tables, reading_table(reading), memory_table(memory)])
    text += "\n" + limited_table(limited)
    arguments.out.write_text(text)
    print(text)


# --- planning


def planning():
    """Returns contestants, by name a call that plans one batch, and what is to be said of each."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, PLANNED_WINDOWS, p=[0.3, 0.4, 0.3]).astype(np.int32)
    symbols = np.sort(rng.integers(PLANNED_SYMBOLS, size=PLANNED_WINDOWS)).astype(np.int16)
    pool = {c: np.flatnonzero(labels == c)[:45_000:50] for c in range(3)}
    settings = {
        "class, symbol and hard quotas": {
            "balance_classes": True,
            "balance_symbols": True,
            "hard_share": lambda epoch: 0.4,
        },
        "class quotas": {"balance_classes": True},
        "all off": {},
    }
    calls, notes = {}, {}
    for name, options in settings.items():
        begun = time.perf_counter()
        plan = BatchPlan(
            labels, symbols, batch_size=PLANNED_BATCH, seed=0, class_ratios=RATIOS, **options
        )
        if "hard_share" in options:
            plan.set_hard_pool(pool, epoch=0)
        name = f"this library, {name}"
        calls[name] = _cycle(lambda i, plan=plan: plan.indices(0, i), plan.num_batches)
        notes[name] = _exactness(plan, labels, symbols, options), time.perf_counter() - begun
    calls |= (rivals := _planning_rivals(labels))[0]
    return calls, notes | rivals[1]


def _exactness(plan, labels, symbols, options) -> str:
    batch = plan.indices(0, 0)
    parts = []
    if "balance_classes" in options:
        assert np.array_equal(np.bincount(labels[batch]), quotas(RATIOS, PLANNED_BATCH))
        parts.append("exact class counts")
    if "balance_symbols" in options:
        parts.append("symbols even inside each class")
    return ", ".join([*parts, "every window reached"])


def _planning_rivals(labels):
    import tensorflow as tf

    positions = np.arange(len(labels))
    begun = time.perf_counter()
    generator = _imblearn(positions[:, None], labels, PLANNED_BATCH)
    seconds = time.perf_counter() - begun
    reached = len(generator.indices_) / len(labels)
    begun = time.perf_counter()
    shuffled = tf.data.Dataset.from_tensor_slices(positions).shuffle(len(labels), seed=0)
    stream = iter(shuffled.repeat().batch(PLANNED_BATCH))
    next(stream)
    shuffle_seconds = time.perf_counter() - begun
    calls = {
        "imbalanced-learn BalancedBatchGenerator": _cycle(generator.__getitem__, len(generator)),
        "tf.data shuffle": lambda: next(stream).numpy(),
    }
    notes = {
        "imbalanced-learn BalancedBatchGenerator": (
            f"classes equal on average only, {reached:.0%} of the windows ever reached",
            seconds,
        ),
        "tf.data shuffle": ("no quotas, every window reached", shuffle_seconds),
    }
    return calls, notes


def _imblearn(x, labels, batch_size: int):
    from imblearn.keras import BalancedBatchGenerator

    with warnings.catch_warnings():  # it does not call the constructor of its Keras base class
        warnings.simplefilter("ignore")
        return BalancedBatchGenerator(x, labels, batch_size=batch_size, random_state=0)


# --- batches


def batching(market):
    """Returns contestants, by name a call that makes one batch, and what is to be said of each."""
    features = np.ascontiguousarray(market.features[:, :NUM_FEATURES])
    if features.shape[1] < NUM_FEATURES:
        features = np.pad(features, ((0, 0), (0, NUM_FEATURES - features.shape[1])), mode="wrap")
    fold = market.folds[0]
    calls, notes = {}, {}
    for name, augmentations in [("all augmentations", ALL), ("no augmentation", None)]:
        begun = time.perf_counter()
        batches = make_batches(market, features, augmentations)
        name = f"this library, all quotas, {name}"
        calls[name] = _cycle(batches.__getitem__, len(batches))
        notes[name] = f"of {len(fold.train):,} windows", time.perf_counter() - begun
    rivals = _batching_rivals(features, fold.train, fold.labels[fold.train])
    return calls | rivals[0], notes | rivals[1]


def _batching_rivals(features, ends, labels):
    import tensorflow as tf

    chosen = np.linspace(0, len(ends) - 1, COPIED_WINDOWS).astype(int)
    begun = time.perf_counter()
    windows = np.stack([features[e - LENGTH + 1 : e + 1].ravel() for e in ends[chosen]])
    generator = _imblearn(windows, labels[chosen], BATCH)
    copied = time.perf_counter() - begun
    begun = time.perf_counter()
    rows, offsets = tf.constant(features), tf.range(1 - LENGTH, 1, dtype=ends.dtype)
    stream = iter(
        tf.data.Dataset.from_tensor_slices((ends, labels))
        .shuffle(len(ends), seed=0)
        .repeat()
        .batch(BATCH)
        .map(lambda e, y: (tf.gather(rows, e[:, None] + offsets), y), tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    next(stream)
    piped = time.perf_counter() - begun
    whole = len(ends) * LENGTH * NUM_FEATURES * 4 / 1e9
    calls = {
        "imbalanced-learn BalancedBatchGenerator": _cycle(generator.__getitem__, len(generator)),
        "tf.data shuffle and gather": lambda: next(stream)[0].numpy(),
    }
    notes = {
        "imbalanced-learn BalancedBatchGenerator": (
            f"of {COPIED_WINDOWS:,} windows copied to one array; all would take {whole:.1f} GB",
            copied,
        ),
        "tf.data shuffle and gather": (f"of {len(ends):,} windows, no quotas, two threads", piped),
    }
    return calls, notes


# --- reading


def measure_reading():
    """Returns the market of the 5-minute file and the seconds of each part, medians of three."""
    seconds: dict[str, list[float]] = {}
    for _ in range(3):
        for method in METHODS[::-1]:
            begun = time.perf_counter()
            bars = read_bars(BARS / FILE)
            read = time.perf_counter()
            market = build_market(bars, settings(method))
            seconds.setdefault("read and check the bars", []).append(read - begun)
            name = f"features, {method} labels, windows, split"
            seconds.setdefault(name, []).append(time.perf_counter() - read)
            del bars
    return market, {name: statistics.median(values) for name, values in seconds.items()}


def _in_child(*arguments: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


# --- timing and tables


def _cycle(call, size: int):
    """Returns a call that asks for one batch after the other, beginning again after the last."""
    state = {"next": 0}

    def one():
        index, state["next"] = state["next"], (state["next"] + 1) % size
        return call(index)

    return one


if __name__ == "__main__":
    main()
