"""All that is printed on the screen: aligned lines, a name and a text each."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.i18n import N_, _, date, listed, ngettext, number
from core.texts import one_line
from data.bars.grid import every
from data.market.labels import CLASS_NAMES
from data.market.relative import relative_in_words
from recipe.run import folder as files

OWN = "xLSTM"  # the row of the model
_FIGURES = {
    "direction": (N_("direction"), 11),
    "movement": (N_("movement"), 10),
    "mcc": ("MCC", 8),
    "balanced_accuracy": (N_("bal. acc."), 11),
    "nll": ("NLL", 8),
    "ece": ("ECE", 8),
}  # name and width of the column
_COMPARED = {
    "validation_direction": N_("val. direction"),
    "direction": N_("test direction"),
    "mcc": N_("test MCC"),
}


def log(name: str, text: str) -> None:
    """Prints a name and a text."""
    print(f"{name:<10} {one_line(text)}", flush=True)


def note(text: str) -> None:
    """Prints a remark."""
    log(_("note"), text)


def table(widths: dict[str, int], rows: list[list[str]]) -> None:
    """Prints a table: drawn on a terminal, aligned text elsewhere.

    Args:
        widths: of the columns as text, by their names, at the least; the first is aligned to the
            left.
        rows: texts.
    """
    rows = [[one_line(text) for text in row] for row in rows]
    if sys.stdout.isatty():
        _drawn_table(list(widths), rows)
        return
    lines = [list(widths), *rows]
    needed = [max(len(text) for text in column) + 2 for column in zip(*lines, strict=True)]
    places = [max(both) for both in zip(widths.values(), needed, strict=True)]
    for row in lines:
        first, *others = zip(row, places, strict=True)
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
def working(name: str, text: str) -> Iterator[Callable[[float], None]]:
    """Says what takes a while: a line, and on a terminal a clock under it until it is done.

    Yields:
        A function that takes the share that is done, 0 to 1: the clock then has a bar and the
        time left. A share below the last one begins anew, with what comes next.
    """
    log(name, text)
    if not sys.stdout.isatty():
        yield lambda share: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=None)

        def done(share: float) -> None:
            if share < progress.tasks[0].completed:
                progress.reset(task)
            progress.update(task, total=1.0, completed=share)

        yield done


def announce_market(market, num_bars: int) -> None:
    """Says which bars were read and what their windows are."""
    first, last = market.timestamps.min(), market.timestamps.max()
    log(
        _("bars"),
        _(
            "{num_bars:,} of {num_symbols} symbols, {first} to {last} UTC, {span}",
            num_bars=num_bars,
            num_symbols=len(market.symbol_names),
            first=date(str(first)[:16]),
            last=date(str(last)[:16]),
            span=every(market.interval_seconds),
        ),
    )
    log(
        _("windows"),
        _(
            "{sequence_length} bars of {num_features} features; labels {future_window} bars "
            "ahead ({label_method})",
            sequence_length=market.sequence_length,
            num_features=len(market.feature_names),
            future_window=market.future_window,
            label_method=market.label_method,
        ),
    )
    if market.settings.relative:
        log(_("labels"), relative_in_words())


def announce_number(number: int, num_folds: int, left: float = 0.0) -> None:
    """Says which of several folds begins.

    Args:
        number: of the fold, counted from 0.
        num_folds: of the whole run; of one nothing is said.
        left: seconds that this fold and those after it are expected to take; 0: not known yet.
    """
    if num_folds > 1:
        text = _("{n} of {num_folds}", n=number + 1, num_folds=num_folds)
        log(_("fold"), text + (_(", about {span} left", span=span(left)) if left else ""))


def announce_fold(training, splits: dict[str, Any]) -> None:
    """Says what the training of a fold is about to see.

    Args:
        training: a `recipe.run.training.Training`.
        splits: as `evaluation.judge.describe_splits` returns them.
    """
    describe(splits)
    for why, count in (training.market.dropped | training.fold.dropped).items():
        if count:
            log(_("dropped"), f"{number(count, ',')} {_(why)}")
    plan = training.batches.plan
    quotas = "  ".join(
        f"{name} {number(share, '.3f')}"
        for name, share in zip(CLASS_NAMES, plan.class_prior, strict=True)
    )
    log(
        _("batches"),
        _(
            "{num_batches} of {batch_size}; {quotas}",
            num_batches=plan.num_batches,
            batch_size=plan.batch_size,
            quotas=quotas,
        ),
    )
    size = training.classifier.count_params()
    log(_("model"), ngettext("{n:,} parameter", "{n:,} parameters", size))
    log(_("forecast"), forecast_in_words(training.forecast().as_dict(CLASS_NAMES)))


def announce_member(training) -> None:
    """Says which member of an ensemble is trained; nothing where there is one model."""
    size = training.settings.ensemble_size
    if size > 1:
        log(
            _("member"),
            _(
                "{member} of {size}, seed {seed}",
                member=training.member + 1,
                size=size,
                seed=str(training.seed),
            ),
        )


def describe(splits: dict[str, Any]) -> None:
    """Prints windows, class shares and times of each split."""
    rows = []
    for name, split in splits.items():
        total = split["windows"]
        shares = [number(count / total, ".1%") for count in split["class_counts"].values()]
        rows.append(
            [
                _(name),
                number(total, ","),
                *shares,
                *(date(split[when][:10]) for when in ("first_time", "last_time")),
            ]
        )
    if sys.stdout.isatty():
        names = [_("split"), _("windows"), *CLASS_NAMES, _("from"), _("to")]
        _drawn_table(names, rows)
        return
    for name, total, *shares, first, last in rows:
        told = "  ".join(f"{c} {share:>6}" for c, share in zip(CLASS_NAMES, shares, strict=True))
        log(
            name,
            _(
                "{total:>9} windows  {told}  {first} to {last}",
                total=total,
                told=told,
                first=first,
                last=last,
            ),
        )


def answers(table) -> None:
    """Prints a line for each row of what `classify_latest` returned: the call, then its grounds."""
    for row in table.to_dict("records"):
        shares = "  ".join(
            f"{name} {number(row[f'p_{name.lower()}'], '.3f')}" for name in CLASS_NAMES
        )
        known = row["unfamiliar"] == row["unfamiliar"]  # not NaN: the model has ranges
        shares = f"({shares})"
        shares += _("  unfamiliar {share:4.0%}", share=row["unfamiliar"]) if known else ""
        when = date(f"{row['timestamp']:%Y-%m-%d %H:%M}")
        print(f"{when}  {one_line(row['symbol']):<14}  {row['call']:<4}  {shares}", flush=True)


def conclude(metrics: dict[str, Any], folder: Path, run_info: dict[str, Any]) -> None:
    """Prints what a person wants to know at the end."""
    scores = {OWN: metrics["test"]}
    scores |= {name: both["test"] for name, both in metrics["baselines"].items()}
    print()
    table(
        {_("test windows"): 22} | {_(name): width for name, width in _FIGURES.values()},
        [
            [_(name), *(number(row[figure], ".4f") for figure in _FIGURES)]
            for name, row in scores.items()
        ],
    )
    print()
    confusion = zip(CLASS_NAMES, metrics["test"]["confusion"], strict=True)
    table(
        {_("true, predicted"): 18} | dict.fromkeys(CLASS_NAMES, 9),
        [[name, *(number(count, ",") for count in counts)] for name, counts in confusion],
    )
    print()
    log(_("verdict"), metrics["verdict"]["sentence"])
    for place, fold in enumerate(metrics["folds"], 1):
        if "members" in fold:
            where = _("fold {n}: ", n=place) if len(metrics["folds"]) > 1 else ""
            log(_("members"), where + _spread(fold))
    if "known_optimum" in metrics:
        log(_("made up"), metrics["known_optimum"]["sentence"])
    seconds, peak = run_info["wall_seconds"], run_info["peak_memory_bytes"]
    took = _("{seconds:.0f} s", seconds=seconds)
    if peak is not None:
        took = _("{seconds:.0f} s, {peak:.2f} GB at its peak", seconds=seconds, peak=peak / 1e9)
    log(_("run"), took)
    log(_("report"), str(folder / files.REPORT))


def _spread(fold: dict[str, Any]) -> str:
    """Returns test MCC and NLL of each member of a fold, and of their mean."""
    told = {}
    for figure in ("mcc", "nll"):
        alone = "  ".join(number(member["test"][figure], ".4f") for member in fold["members"])
        mean = number(fold["test"][figure], ".4f")
        told[figure] = _("{alone}, together {mean}", alone=alone, mean=mean)
    return _("test MCC {mcc}; NLL {nll}", **told)


def comparison(found: dict[str, Any]) -> None:
    """Prints what `evaluation.report.compare.compare_runs` found."""
    rows, best = found["rows"], found["rows"][0]["name"]
    table(
        {
            _("run"): max(len(row["name"]) for row in rows) + 2,
            **{_(name): 9 for name in _COMPARED.values()},
            _("seconds"): 9,
            _("above {best}", best=best): 30,
        },
        [_compared(row) for row in rows],
    )
    for name, values in found["flags"].items():
        log(_("flag"), f"{name}: {', '.join(map(str, values))}")
    log(
        _("note"),
        ngettext(
            "{n} runs were looked at; the best of several looks better than it is",
            "{n} runs were looked at; the best of several looks better than it is",
            len(rows),
        ),
    )


def _compared(row: dict[str, Any]) -> list[str]:
    scores = [number(row["values"][name], ".4f") for name in _COMPARED]
    seconds = "" if row["seconds"] is None else number(row["seconds"], ",.0f")
    return [row["name"], *scores, seconds, _above(row)]


def _above(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return "" if row["same_windows"] else _("other test windows or labels")
    low, high = row["interval"]
    return _(
        "{difference:+.4f} ({low:+.4f} to {high:+.4f})",
        difference=row["difference"],
        low=low,
        high=high,
    )


def forecast_in_words(forecast: Mapping[str, Any]) -> str:
    """Returns what `Forecast.as_dict` gives in the language of now."""
    from models.training.collapse_forecast import NO_EDGE

    shares = listed(
        f"{name} {number(share, '.3f')}" for name, share in forecast["probabilities"].items()
    )
    if forecast["margin"] < NO_EDGE:
        return _("without signal no class is favoured ({shares})", shares=shares)
    return _(
        "without signal every window would be {favoured}, ahead by {margin:.3f} ({shares})",
        favoured=forecast["favoured"],
        margin=forecast["margin"],
        shares=shares,
    )


def span(seconds: float) -> str:
    """Returns a time as hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
