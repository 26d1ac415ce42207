"""Measures the data path beside imbalanced-learn and tf.data, and its memory; writes a table.

`python benchmarks/data_path.py` runs all contestants in turns in one process, so that they meet
the same moods of the machine, and writes benchmarks/data_path.md. It needs the `bench` extra and
the folder of real bars (XLSTM_DATA_DIR, default ../shared/data).
"""

import argparse
import gc
import json
import os
import platform
import resource
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

from data.bars import read_bars  # noqa: E402
from data.labels import METHODS  # noqa: E402
from data.market import build_market, training_statistics  # noqa: E402
from data.quotas import quotas  # noqa: E402
from data.rows import by_symbol  # noqa: E402
from data.sampling import BatchPlan  # noqa: E402
from data.synthetic import random_walk  # noqa: E402
from data.windows import first_window_ends  # noqa: E402

BARS = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
FILE = "crypto_5m_10sym_full.parquet"
RATIOS = (0.33, 0.40, 0.33)
LENGTH, NUM_FEATURES, BATCH = 60, 25, 256
PLANNED_WINDOWS, PLANNED_SYMBOLS, PLANNED_BATCH = 700_000, 10, 64
COPIED_WINDOWS = 30_000  # for the generator that needs them as one array: 180 MB
ALL = {"noise_std": 0.02, "time_shift": 2, "mask_prob": 0.1, "mask_max_t": 4}
ROUNDS, CALLS = 25, 40
LIMITED_SYMBOLS, LIMITED_BARS = 20, 1_000_000
LIMIT = 1_800_000_000  # bytes; the features alone have 2.4 billion


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
        _speed_table("A batch of 64 planned, from 700,000 windows of 10 symbols", *planning()),
        _speed_table(f"A batch of {BATCH} x {LENGTH} x {NUM_FEATURES}", *batching(market)),
    ]
    text = "\n".join([_head(), *tables, _reading_table(reading), _memory_table(memory)])
    text += "\n" + _limited_table(limited)
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


def make_batches(market, features, augmentations, hard_share=lambda epoch: 0.4):
    """Returns the training batches of the market's fold, with all quotas."""
    from data.batches import WindowBatches

    fold = market.folds[0]
    labels, symbols = fold.labels[fold.train], market.symbols[fold.train]
    plan = BatchPlan(
        labels,
        symbols,
        batch_size=BATCH,
        seed=0,
        class_ratios=RATIOS,
        balance_classes=True,
        balance_symbols=True,
        hard_share=hard_share,
    )
    plan.set_hard_pool({c: np.flatnonzero(labels == c)[:45_000:50] for c in range(3)}, epoch=0)
    mean, variance = training_statistics(market, fold)
    return WindowBatches(
        features,
        fold.train,
        plan=plan,
        sequence_length=LENGTH,
        first_ends=first_window_ends(fold.train, market.bounds, LENGTH),
        augmentations=augmentations,
        feature_std=np.resize(np.sqrt(variance), features.shape[1]),
        fill=np.resize(mean, features.shape[1]),
    )


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
            market = build_market(bars, **settings(method))
            seconds.setdefault("read and check the bars", []).append(read - begun)
            name = f"features, {method} labels, windows, split"
            seconds.setdefault(name, []).append(time.perf_counter() - read)
            del bars
    return market, {name: statistics.median(values) for name, values in seconds.items()}


def settings(method: str = "volatility", feature_store: str | None = None) -> dict:
    """Returns how `build_market` is to be called: the default flags of the project."""
    return {
        "sequence_length": LENGTH,
        "future_window": 12,
        "label_method": method,
        "price_change_threshold": 0.01,
        "target_class_ratios": RATIOS,
        "embargo_bars": 12,
        "max_gap_bars": 5,
        "feature_store": feature_store,
    }


# --- memory


def measure_memory(method: str) -> dict:
    """Returns megabytes at the peak of each stage, in a process of its own.

    A run over a small file comes first: what the libraries load from disk when they are first
    used, 10 MB of code, belongs to the imports and not to the data.
    """
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.parquet"
        random_walk(2, 2000, interval="5min").to_parquet(small)
        _draw_batches(small, method, 10, {})
    gc.collect()
    stages = {"imports": _megabytes("VmRSS")}
    _forget_peak()
    return {"features": _draw_batches(BARS / FILE, method, 1000, stages), "stages": stages}


def _draw_batches(file: Path, method: str, count: int, stages: dict[str, float]) -> float:
    """Draws batches from a file, notes the peak of each stage, returns megabytes of features."""

    def note(stage):
        stages[stage] = _megabytes("VmHWM")
        _forget_peak()

    def read():
        bars = read_bars(file)
        note("read and check the bars")
        return bars

    market = build_market(by_symbol(read()), **settings(method))
    note("features, labels, windows, split")
    batches = make_batches(market, market.features, ALL)
    for index in range(count):
        batches[index % len(batches)]
    note("1,000 batches of 256")
    return market.features.nbytes / 1e6


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure_limited(store: str) -> dict:
    """Returns how a run over 20 million rows went under a limit of private memory.

    Args:
        store: folder of the feature store; "": features in memory.
    """
    import data.batches  # noqa: F401

    begun, taken = time.perf_counter(), _megabytes("VmData")
    limit = int(taken * 1e6) + LIMIT
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        market = build_market(_generated(), **settings(feature_store=store or None))
        made = time.perf_counter() - begun
        batches = make_batches(market, market.features, ALL)
        begun = time.perf_counter()
        for index in range(1000):
            batches[index]
    except MemoryError as error:
        return {"outcome": type(error).__name__, "seconds": time.perf_counter() - begun}
    return {
        "outcome": "1,000 batches of 256 drawn",
        "rows": len(market.symbols),
        "features": market.features.nbytes / 1e6,
        "private": _megabytes("VmData") - taken,
        "seconds": made,
        "milliseconds": time.perf_counter() - begun,
    }


def _generated():
    """Yields the bars of 20 random walks of a million bars, one symbol at a time."""
    for index in range(LIMITED_SYMBOLS):
        bars = random_walk(1, LIMITED_BARS, seed=index, interval="5min")
        bars["symbol"] = bars["symbol"].cat.rename_categories([f"SYN{index:02d}"])
        yield bars


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


def _medians(calls) -> dict[str, float]:
    """Returns milliseconds of a call: medians over rounds in which the contestants take turns."""
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((time.perf_counter() - begun) / CALLS * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _speed_table(title: str, calls, notes) -> str:
    lines = [f"## {title}\n", "| | ms per batch | set up, s | |", "|---|---|---|---|"]
    for name, milliseconds in _medians(calls).items():
        text, seconds = notes[name]
        lines.append(f"| {name} | {milliseconds:.3f} | {seconds:.2f} | {text} |")
    return "\n".join([*lines, ""])


def _reading_table(seconds) -> str:
    lines = ["## Reading 717,690 five-minute bars of 10 symbols\n", "| | seconds |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in seconds.items()]
    return "\n".join([*lines, ""])


def _memory_table(memory) -> str:
    features = memory[METHODS[0]]["features"]
    lines = [
        "## Memory of the same run\n",
        f"Peaks in a process of its own above the imports and a first run over a small file (for "
        f"which 10 MB of library code are read), in float32 feature arrays of {features:.0f} MB.\n",
        f"| stage | {' | '.join(f'{method} labels' for method in memory)} |",
        "|---|" + "---|" * len(memory),
    ]
    for stage in list(memory[METHODS[0]]["stages"])[1:]:
        above = [
            (told["stages"][stage] - told["stages"]["imports"]) / told["features"]
            for told in memory.values()
        ]
        lines.append(f"| {stage} | {' | '.join(f'{value:.2f}' for value in above)} |")
    return "\n".join([*lines, ""])


def _limited_table(limited) -> str:
    lines = [
        f"## {LIMITED_SYMBOLS * LIMITED_BARS / 1e6:.0f} million rows in bounded memory\n",
        f"Generated bars; at most {LIMIT / 1e9:.1f} GB of private memory beyond the imports.\n",
        "| features | outcome | rows made, s | ms per batch | private memory left, MB |",
        "|---|---|---|---|---|",
    ]
    for name, told in limited.items():
        figures = [
            f"{told[key]:.1f}" if key in told else ""
            for key in ("seconds", "milliseconds", "private")
        ]
        size = f" of {told['features']:.0f} MB" if "features" in told else ""
        lines.append(f"| {name}{size} | {told['outcome']} | {' | '.join(figures)} |")
    return "\n".join([*lines, ""])


def _head() -> str:
    import imblearn
    import keras
    import tensorflow as tf

    return (
        "# The data path, measured\n\n"
        "Written by `python benchmarks/data_path.py`. All contestants of a table ran in turns in "
        f"one process; medians of {ROUNDS} rounds of {CALLS} batches. Linux {platform.machine()}, "
        f"{os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Keras {keras.__version__}, TensorFlow {tf.__version__}, imbalanced-learn "
        f"{imblearn.__version__}. Load average of the machine, not idle otherwise, over the "
        f"last five minutes: {os.getloadavg()[1]:.1f}.\n"
    )


if __name__ == "__main__":
    main()
