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

OWN = "xLSTM"  # the row of the model
_FIGURES = ("mcc", "balanced_accuracy", "macro_f1", "nll", "ece")
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


def table(widths: dict[str, int], rows: list[list[str]]) -> None:
    """Prints a table: drawn on a terminal, aligned text elsewhere.

    Args:
        widths: of the columns as text, by their names; the first is aligned to the left.
        rows: texts.
    """
    if sys.stdout.isatty():
        _drawn_table(list(widths), rows)
        return
    for row in [list(widths), *rows]:
        first, *others = zip(row, widths.values(), strict=True)
        line = f"{first[0]:<{first[1]}}" + "".join(f"{text:>{width}}" for text, width in others)
        print(line.rstrip())


def _drawn_table(names: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(names):
        drawn.add_column(Text(name), justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        drawn.add_row(*map(Text, row), style="bold" if row[0] == OWN else "")
    Console().print(drawn)


@contextlib.contextmanager
def working(name: str, text: str) -> Iterator[None]:
    """Says what takes a while: a line, and on a terminal a clock under it until it is done."""
    log(name, text)
    if not sys.stdout.isatty():
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TimeElapsedColumn(), transient=True) as progress:
        progress.add_task("", total=None)
        yield


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
    describe(splits)
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


def announce_member(assembly) -> None:
    """Says which member of an ensemble is trained; nothing where there is one model."""
    size = assembly.flags.ENSEMBLE_SIZE
    if size > 1:
        log("member", f"{assembly.member + 1} of {size}, seed {assembly.seed}")


def describe(splits: dict[str, Any]) -> None:
    """Prints windows, class shares and times of each split."""
    rows = []
    for name, split in splits.items():
        total = split["windows"]
        shares = [f"{count / total:.1%}" for count in split["class_counts"].values()]
        rows.append(
            [name, f"{total:,}", *shares, split["first_time"][:10], split["last_time"][:10]]
        )
    if sys.stdout.isatty():
        _drawn_table(["split", "windows", *CLASS_NAMES, "from", "to"], rows)
        return
    for name, total, *shares, first, last in rows:
        told = "  ".join(f"{c} {share:>6}" for c, share in zip(CLASS_NAMES, shares, strict=True))
        log(name, f"{total:>9} windows  {told}  {first} to {last}")


def answers(table) -> None:
    """Prints a line for each row of what `classify_latest` returned."""
    for row in table.to_dict("records"):
        shares = "  ".join(f"{name} {row[f'p_{name.lower()}']:.3f}" for name in CLASS_NAMES)
        known = row["unfamiliar"] == row["unfamiliar"]  # not NaN: the model has ranges
        shares += f"  unfamiliar {row['unfamiliar']:4.0%}" if known else ""
        print(f"{row['timestamp']:%Y-%m-%d %H:%M}  {row['symbol']:<14}  {shares}", flush=True)


def conclude(metrics: dict[str, Any], folder: Path, run_info: dict[str, Any]) -> None:
    """Prints what a person wants to know at the end."""
    scores = {OWN: metrics["test"]}
    scores |= {name: both["test"] for name, both in metrics["baselines"].items()}
    print()
    table(
        {"test windows": 22, "MCC": 8, "bal. acc.": 11, "macro F1": 10, "NLL": 8, "ECE": 8},
        [[name, *(f"{row[figure]:.4f}" for figure in _FIGURES)] for name, row in scores.items()],
    )
    print()
    confusion = zip(CLASS_NAMES, metrics["test"]["confusion"], strict=True)
    table(
        {"true, predicted": 18} | dict.fromkeys(CLASS_NAMES, 9),
        [[name, *(f"{count:,}" for count in counts)] for name, counts in confusion],
    )
    print()
    log("verdict", metrics["verdict"]["sentence"])
    for number, fold in enumerate(metrics["folds"]):
        if "members" in fold:
            where = f"fold {number + 1}: " if len(metrics["folds"]) > 1 else ""
            log("members", where + _spread(fold))
    if "known_optimum" in metrics:
        log("made up", metrics["known_optimum"]["sentence"])
    seconds, peak = run_info["wall_seconds"], run_info["peak_memory_bytes"]
    log("run", f"{seconds:.0f} s, {peak / 1e9:.2f} GB at its peak")
    log("report", str(folder / files.REPORT))


def _spread(fold: dict[str, Any]) -> str:
    """Returns test MCC and NLL of each member of a fold, and of their mean."""
    told = []
    for figure in ("mcc", "nll"):
        alone = ", ".join(f"{member['test'][figure]:.4f}" for member in fold["members"])
        told.append(f"{figure.upper()} {alone}, together {fold['test'][figure]:.4f}")
    return "test " + "; ".join(told)


def comparison(found: dict[str, Any]) -> None:
    """Prints what `evaluation.report.compare.compare_runs` found."""
    rows, best = found["rows"], found["rows"][0]["name"]
    table(
        {
            "run": max(len(row["name"]) for row in rows) + 2,
            **{"val. MCC": 9, "test MCC": 9, "seconds": 9},
            f"above {best}": 30,
        },
        [_compared(row) for row in rows],
    )
    for name, values in found["flags"].items():
        log("flag", f"{name}: {', '.join(map(str, values))}")
    log("note", f"{len(rows)} runs were looked at; the best of several looks better than it is")


def _compared(row: dict[str, Any]) -> list[str]:
    scores = [f"{row['values'][name]:.4f}" for name in ("validation_mcc", "mcc")]
    seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f}"
    return [row["name"], *scores, seconds, _above(row)]


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
