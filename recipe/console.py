"""All that is printed on the screen: aligned lines, a name and a text each."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.labels import CLASS_NAMES
from recipe import run_folder as files

# A machine without a GPU says "(303)" or NO_DEVICE, which is no fault.
_GPU_FAULT = re.compile(
    r"dlopen|could not load dynamic library|cuInit(?!.*(\(303\)|NO_DEVICE))", re.IGNORECASE
)


def log(name: str, text: str) -> None:
    """Prints a name and a text."""
    print(f"{name:<10} {text}", flush=True)


def note(text: str) -> None:
    """Prints a remark."""
    log("note", text)


def announce_market(market, num_bars: int) -> None:
    """Says which bars were read and what their windows are."""
    first, last = market.timestamps.min(), market.timestamps.max()
    log(
        "bars",
        f"{num_bars:,} of {len(market.symbol_names)} symbols, {str(first)[:16]} to "
        f"{str(last)[:16]} UTC, every {_span(market.interval_seconds)}",
    )
    log(
        "windows",
        f"{market.sequence_length} bars of {len(market.feature_names)} features; labels "
        f"{market.future_window} bars ahead ({market.label_method})",
    )


def announce_fold(assembly, num_folds: int, splits: dict[str, Any]) -> None:
    """Says what the training of a fold is about to see.

    Args:
        assembly: a `recipe.fold.Assembly`.
        num_folds: of the whole run.
        splits: as `evaluation.evaluate.describe_splits` returns them.
    """
    if num_folds > 1:
        log("fold", f"{assembly.number + 1} of {num_folds}")
    for name, split in splits.items():
        total = split["windows"]
        shares = "  ".join(f"{c} {n / total:6.1%}" for c, n in split["class_counts"].items())
        times = f"{split['first_time'][:10]} to {split['last_time'][:10]}"
        log(name, f"{total:9,} windows  {shares}  {times}")
    for why, count in (assembly.market.dropped | assembly.fold.dropped).items():
        if count:
            log("dropped", f"{count:,} {why}")
    plan = assembly.batches.plan
    quotas = "  ".join(
        f"{name} {share:.3f}" for name, share in zip(CLASS_NAMES, plan.class_prior, strict=True)
    )
    log("batches", f"{plan.num_batches} of {plan.batch_size}; {quotas}")
    log("model", f"{assembly.classifier.count_params():,} parameters")
    log("forecast", assembly.forecast().sentence(CLASS_NAMES))


def answers(table) -> None:
    """Prints a line for each row of what `classify_latest` returned."""
    for row in table.to_dict("records"):
        shares = "  ".join(f"{name} {row[f'p_{name.lower()}']:.3f}" for name in CLASS_NAMES)
        known = row["unfamiliar"] == row["unfamiliar"]  # not NaN: the model has ranges
        shares += f"  unfamiliar {row['unfamiliar']:4.0%}" if known else ""
        print(f"{row['timestamp']:%Y-%m-%d %H:%M}  {row['symbol']:<14}  {shares}", flush=True)


def conclude(metrics: dict[str, Any], folder: Path, run_info: dict[str, Any]) -> None:
    """Prints what a person wants to know at the end."""
    print()
    print(f"{'test windows':<22}{'MCC':>8}{'bal. acc.':>11}{'macro F1':>10}{'NLL':>8}{'ECE':>8}")
    rows = {"xLSTM": metrics["test"]}
    rows |= {name: both["test"] for name, both in metrics["baselines"].items()}
    for name, row in rows.items():
        print(
            f"{name:<22}{row['mcc']:>8.4f}{row['balanced_accuracy']:>11.4f}"
            f"{row['macro_f1']:>10.4f}{row['nll']:>8.4f}{row['ece']:>8.4f}"
        )
    print(f"\n{'true, predicted':<18}" + "".join(f"{name:>9}" for name in CLASS_NAMES))
    for name, counts in zip(CLASS_NAMES, metrics["test"]["confusion"], strict=True):
        print(f"{name:<18}" + "".join(f"{count:>9,}" for count in counts))
    print()
    log("verdict", metrics["verdict"]["sentence"])
    if "known_optimum" in metrics:
        log("made up", metrics["known_optimum"]["sentence"])
    seconds, peak = run_info["wall_seconds"], run_info["peak_memory_bytes"]
    log("run", f"{seconds:.0f} s, {peak / 1e9:.2f} GB at its peak")
    log("report", str(folder / files.REPORT))


def comparison(found: dict[str, Any]) -> None:
    """Prints what `evaluation.report.compare.compare_runs` found."""
    rows, best = found["rows"], found["rows"][0]["name"]
    width = max(len(row["name"]) for row in rows) + 2
    print(f"{'run':<{width}}{'val. MCC':>9}{'test MCC':>9}{'seconds':>9}  above {best}")
    for row in rows:
        values, seconds = row["values"], row["seconds"]
        print(
            f"{row['name']:<{width}}{values['validation_mcc']:>9.4f}{values['mcc']:>9.4f}"
            f"{'' if seconds is None else format(seconds, ',.0f'):>9}  {_above(row)}".rstrip()
        )
    for name, values in found["flags"].items():
        log("flag", f"{name}: {', '.join(map(str, values))}")
    log("note", f"{len(rows)} runs were looked at; the best of several looks better than it is")


def _above(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return "" if row["same_windows"] else "other test windows or labels"
    low, high = row["interval"]
    return f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"


@contextlib.contextmanager
def without_native_chatter() -> Iterator[None]:
    """Hides what TensorFlow's native code writes to standard error while it is imported.

    Its first messages come before it reads TF_CPP_MIN_LOG_LEVEL. They are shown after all where
    the import failed, or where they say that a GPU is there but its libraries could not be loaded.
    """
    # Level 1 hides remarks but not warnings: a missing CUDA library is one.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Each fold is a model of its own; TensorFlow takes them for one function traced in vain.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept, failed = os.dup(2), True
    with tempfile.TemporaryFile() as told:
        try:
            os.dup2(told.fileno(), 2)
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            told.seek(0)
            text = told.read().decode(errors="replace")
            if failed or _GPU_FAULT.search(text):
                print(text, end="", file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    for size, unit in [(86400, "day"), (3600, "hour"), (60, "minute")]:
        if seconds >= size:
            count = seconds / size
            return unit if count == 1 else f"{count:g} {unit}s"
    return f"{seconds:g} seconds"
