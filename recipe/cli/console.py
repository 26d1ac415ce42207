"""Everything printed on the screen: aligned lines, each with a name and a text."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import one_line
from core.i18n import N_, _, date, listed, ngettext, number
from core.place import PROGRAM
from data.market.labels import CLASS_NAMES
from data.market.relative import relative_in_words
from data.times.grid import every
from evaluation.figures.run import FoldMetrics, Member, Metrics, Split
from evaluation.verdict_words import lines
from recipe.cli.screen import OWN, bar, drawn_table, log, note, paragraphs, table, working
from recipe.run import folder as files

__all__ = ["bar", "log", "note", "table", "working"]  # what a Reporter has, beside what is here

# It learns what there is to learn in half a minute.
TRY_NEXT = f"{PROGRAM} --data synthetic:persistent_drift --set SUPERVISED_EPOCHS=4"
_FIGURES = {
    "direction": (N_("direction"), 11),
    "movement": (N_("movement"), 10),
    "mcc": ("MCC", 8),
    "balanced_accuracy": (N_("bal. acc."), 11),
    "nll": ("NLL", 8),
    "ece": ("ECE", 8),
}  # name and width of the column


def announce_market(market, num_bars: int) -> None:
    """Prints which bars were read, and the shape of their windows."""
    first, last = market.timestamps.min(), market.timestamps.max()
    log(
        _("bars"),
        ngettext(
            "{num_bars:,} of {n} symbol, {first} to {last} UTC, {span}",
            "{num_bars:,} of {n} symbols, {first} to {last} UTC, {span}",
            len(market.symbol_names),
            num_bars=num_bars,
            first=_moment(first, market.interval_seconds),
            last=_moment(last, market.interval_seconds),
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


def _moment(time: Any, interval_seconds: float) -> str:
    """Returns a time to the minute, or to the day for daily bars."""
    letters = 10 if interval_seconds >= 86_400 else 16
    return date(str(time)[:letters].replace("T", " "))


def announce_number(number: int, num_folds: int, left: float = 0.0) -> None:
    """Prints which of several folds begins.

    Args:
        number: of the fold, counted from 0.
        num_folds: of the whole run; nothing is printed for a single fold.
        left: expected seconds of this fold and those after it; 0 if not known yet.
    """
    if num_folds > 1:
        text = _("{n} of {num_folds}", n=number + 1, num_folds=num_folds)
        log(_("fold"), text + (_(", about {span} left", span=took(left)) if left else ""))


def announce_fold(training, splits: dict[str, Split]) -> None:
    """Prints what the training of a fold is about to see.

    Args:
        training: a `recipe.run.training.Training`.
        splits: as `evaluation.judge.describe_splits` returns them.
    """
    describe(splits)
    dropped = (training.market.dropped | training.fold.dropped).items()
    reasons = listed(f"{_(why)} {number(count, ',')}" for why, count in dropped if count)
    if reasons:
        log(_("dropped"), reasons)
    log(_("batches"), _batches_in_words(training.batches.plan))
    size = training.classifier.count_params()
    log(_("model"), ngettext("{n:,} parameter", "{n:,} parameters", size))
    log(_("forecast"), forecast_in_words(training.forecast().as_dict(CLASS_NAMES)))


def _batches_in_words(plan) -> str:
    several = hasattr(plan, "runs")  # labels in a sequence
    what = (
        N_("{num_batches} an epoch, of {batch_size} sequences each; weight of the classes {shares}")
        if several
        else N_("{num_batches} an epoch, of {batch_size} windows each; shares {shares}")
    )
    return _(
        what,
        num_batches=plan.num_batches,
        batch_size=plan.batch_size,
        shares=_shares_in_words(zip(CLASS_NAMES, plan.class_prior, strict=True)),
    )


def _shares_in_words(shares) -> str:
    return listed(f"{name} {number(share, '.1%')}" for name, share in shares)


def announce_device(devices: Sequence[str]) -> None:
    """Prints which devices are used.

    Args:
        devices: as Keras names them: cpu:0, gpu:0.
    """
    kinds = [device.partition(":")[0].upper() for device in devices]
    others = [kind for kind in kinds if kind != "CPU"]
    if others:
        log(_("device"), f"{len(others)} × {others[0]}")
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    log(_("device"), ngettext("CPU, {n} core", "CPU, {n} cores", cores or 1))


def epoch(place: int, num_epochs: int, row: Mapping[str, float], seconds: float) -> None:
    """Prints the figures of an epoch.

    Args:
        place: of the epoch, counted from 0.
        num_epochs: of the training.
        row: its logs.
        seconds: of the epoch, with validation and mining.
    """
    figures = [
        (N_("loss {value:.3f}"), "loss"),
        (N_("val NLL {value:.4f}"), "val_nll"),
        (N_("direction {value:+.3f}"), "val_direction"),
    ]
    parts = [_(text, value=row[name]) for text, name in figures if name in row]
    log(_("epoch"), "  ".join([f"{place + 1}/{num_epochs}", *parts, took(seconds)]))


def announce_member(training) -> None:
    """Prints which member of an ensemble is trained; nothing for a single model."""
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


def describe(splits: Mapping[str, Split]) -> None:
    """Prints windows, class shares and times of each split."""
    rows = []
    for name, split in splits.items():
        total = split.windows
        shares = [number(count / total, ".1%") for count in split.class_counts.values()]
        rows.append(
            [
                _(name),
                number(total, ","),
                *shares,
                *(date(time[:10]) for time in (split.first_time, split.last_time)),
            ]
        )
    if sys.stdout.isatty():
        names = [_("split"), _("windows"), *CLASS_NAMES, _("from"), _("to")]
        drawn_table(names, rows)
        return
    for name, total, *shares, first, last in rows:
        class_shares = "  ".join(
            f"{c} {share:>5}" for c, share in zip(CLASS_NAMES, shares, strict=True)
        )
        log(
            name,
            _(
                "{total:>7} windows  {class_shares}  {first} to {last}",
                total=total,
                class_shares=class_shares,
                first=first,
                last=last,
            ),
        )


def answers(table) -> None:
    """Prints a line for each row of `classify_latest`: the call, then its probabilities."""
    for row in table.to_dict("records"):
        shares = "  ".join(
            f"{name} {number(row[f'p_{name.lower()}'], '.3f')}" for name in CLASS_NAMES
        )
        known = row["unfamiliar"] == row["unfamiliar"]  # not NaN: the model has ranges
        shares = f"({shares})"
        shares += _("  unfamiliar {share:4.0%}", share=row["unfamiliar"]) if known else ""
        when = date(f"{row['timestamp']:%Y-%m-%d %H:%M}")
        print(f"{when}  {one_line(row['symbol']):<14}  {row['call']:<4}  {shares}", flush=True)


def conclude(metrics: Metrics, folder: Path, run_info: dict[str, Any]) -> None:
    """Prints the results at the end of a run."""
    scores = {OWN: metrics.test}
    if metrics.blend is not None:
        scores = {_("blend"): metrics.test, OWN: metrics.blend.network.test}
    scores |= {name: baseline.test for name, baseline in metrics.baselines.items()}
    print()
    table(
        {_("test windows"): 22} | {_(name): width for name, width in _FIGURES.values()},
        [
            [_(name), *(number(getattr(row, figure), ".4f") for figure in _FIGURES)]
            for name, row in scores.items()
        ],
    )
    print()
    confusion = zip(CLASS_NAMES, metrics.test.confusion, strict=True)
    table(
        {_("true, predicted"): 18} | dict.fromkeys(CLASS_NAMES, 9),
        [[name, *(number(count, ",") for count in counts)] for name, counts in confusion],
    )
    print()
    paragraphs(_("verdict"), lines(metrics.verdict))
    for place, fold in enumerate(metrics.folds, 1):
        where = _("fold {n}: ", n=place) if len(metrics.folds) > 1 else ""
        if fold.members:
            log(_("members"), where + _spread(fold, fold.members))
        if fold.blend:
            log(_("blend"), where + _shares(fold.blend.weights))
    if metrics.known_optimum:
        log(_("made up"), metrics.known_optimum.sentence or "")
    seconds, peak = run_info["wall_seconds"], run_info["peak_memory_bytes"]
    text = took(seconds)
    if peak is not None:
        text = _("{time}, {peak:.2f} GB at its peak", time=text, peak=peak / 1e9)
    log(_("run"), text)
    log(_("report"), str(folder / files.REPORT))
    if run_info.get("data", "") is None:
        log(_("next"), _("a market with something to find, in under a minute:"))
        print(f"{'':<10} {TRY_NEXT}")


def _spread(fold: FoldMetrics, members: Sequence[Member]) -> str:
    """Returns a line with test MCC and NLL of each member of a fold, and of their mean."""
    together = fold.blend.network.test if fold.blend else fold.test

    def words(mean: float, alone: Iterable[float]) -> str:
        each = "  ".join(number(value, ".4f") for value in alone)
        return _("{alone}, together {mean}", alone=each, mean=number(mean, ".4f"))

    return _(
        "test MCC {mcc}; NLL {nll}",
        mcc=words(together.mcc, (member.test.mcc for member in members)),
        nll=words(together.nll, (member.test.nll for member in members)),
    )


def _shares(weights: Mapping[str, float]) -> str:
    """Returns a line with the weight of each member of a blend."""
    shares = (f"{_(name)} {number(weight, '.2f')}" for name, weight in weights.items())
    return _("mean of probabilities, weighted {shares}", shares=listed(shares))


def forecast_in_words(forecast: Mapping[str, Any]) -> str:
    """Returns the content of `Forecast.as_dict` as a line in the current language."""
    from models.training.collapse_forecast import NO_EDGE

    shares = _shares_in_words(forecast["probabilities"].items())
    if forecast["margin"] < NO_EDGE:
        return _("with nothing to learn no class is favoured: {shares}", shares=shares)
    return _(
        "with nothing to learn the raw outputs end at {shares}: {favoured} everywhere",
        favoured=forecast["favoured"],
        shares=shares,
    )


def took(seconds: float) -> str:
    """Returns a readable duration: 9 s, 12 min, 1 h 2 min."""
    if seconds < 120:
        return _("{n} s", n=round(seconds))
    minutes = round(seconds / 60)
    if minutes < 60:
        return _("{n} min", n=minutes)
    return _("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)
