"""The command `predict`: answers for bars of a file, or for the newest ones of an exchange.

Everything heavy is imported inside the functions, after the options have been checked.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError, one_line
from core.foreign import writing
from core.i18n import _
from recipe.cli.backend import load_model, model_path
from recipe.cli.retrain import retraining
from recipe.run import folder as files
from recipe.run.origin import read_run

if TYPE_CHECKING:
    import pandas as pd

OK, INTERRUPTED = 0, 130


def predict(options: argparse.Namespace) -> int:
    """Writes the calls and probabilities of a trained model."""
    _check_together(options)
    path = model_path(options.model)
    data, adjust = options.data, options.adjust_splits
    if options.newest and not data:
        data, adjust = _bars_of_run(path.parent, adjust)
    if options.features:
        from data.features.own import load_features

        load_features(options.features)
    model, note = load_model(path), _noting()
    if options.exchange:
        return _answer_live(options, path, model, note)
    bars, universe = _bars(options, model, data, adjust, note)
    return _answer(options, model, bars, universe, note)


def _check_together(options: argparse.Namespace) -> None:
    """Raises an InputError if the options do not go together."""
    goes_on = options.exchange and options.out and options.out.is_file()
    if options.out and not goes_on:
        files.check_new_file(options.out)
    if options.newest and options.exchange:
        raise InputError("--newest goes with --data: --exchange always answers for the newest bars")
    if bool(options.data) == bool(options.exchange) and not (
        options.retrain_every or options.newest
    ):
        raise InputError("predict needs either --data PATH or --exchange NAME")
    if (options.symbols or options.follow) and not options.exchange:
        raise InputError("--symbols and --follow need --exchange")
    if options.universe and options.exchange:
        raise InputError(
            "--universe goes with --data: with --exchange the bars of all symbols come from "
            "the exchange"
        )


def _bars_of_run(run: Path, adjust: bool) -> tuple[str | None, bool]:
    """Returns the path of a run's bars, None for the sample, and whether to adjust splits.

    Raises:
        InputError: if the model is not in a run folder.
    """
    if not (run / files.RUN).is_file():
        raise InputError(
            "--newest needs --data PATH: no {name} in {folder} says where the bars of the model "
            "are",
            name=files.RUN,
            folder=run,
        )
    known = read_run(run)
    return known.get("data"), adjust or known.get("adjust_splits", False)


def _noting() -> Callable[[str], None]:
    noted: set[str] = set()

    def note(text: str) -> None:
        if text not in noted:  # --follow would say at every close that the model is old
            print(one_line(text), file=sys.stderr)  # standard output may hold the table
            noted.add(text)

    return note


def _answer_live(
    options: argparse.Namespace, path: Path, model: Any, note: Callable[[str], None]
) -> int:
    """Answers for the newest bars of an exchange, once or at every close until Ctrl-C."""
    from models.deployable import contract_of
    from recipe.cli import console
    from recipe.live.newest import answer_newest

    try:
        with retraining(options, path, contract_of(model), note) as newer:
            answer_newest(
                model,
                options.exchange,
                options.symbols,
                follow=options.follow,
                out=options.out,
                note=note,
                answered=console.answers,
                newer=newer,
            )
    except KeyboardInterrupt:
        print("\n" + _("ended"), file=sys.stderr)
        return INTERRUPTED
    return OK


def _bars(
    options: argparse.Namespace,
    model: Any,
    data: str | None,
    adjust: bool,
    note: Callable[[str], None],
) -> "tuple[pd.DataFrame, pd.DataFrame | None]":
    """Returns the bars to answer for, and those of other symbols that the model needs."""
    from data.bars.read import read_bars
    from data.features.settings import settings_of
    from models.deployable import contract_of
    from recipe.run.market import bars_or_sample, without_splits

    settings, universe = settings_of(contract_of(model)), None
    if options.data:
        bars = read_bars(data, note=note, extra=settings.columns)
    else:
        bars = bars_or_sample(data, extra=settings.columns)
        note(_("the bars are those of the run: {data}", data=data or _("the sample")))
    if options.universe and settings.market:
        universe = read_bars(options.universe, note=note, extra=settings.columns)
    elif options.universe:
        note(_("--universe is not used: the model's features do not stand beside the market"))
    if adjust:
        bars = without_splits(bars, note)
        universe = None if universe is None else without_splits(universe, note)
    return bars, universe


def _answer(
    options: argparse.Namespace,
    model: Any,
    bars: "pd.DataFrame",
    universe: "pd.DataFrame | None",
    note: Callable[[str], None],
) -> int:
    """Prints the newest answers, or writes the table of all."""
    from recipe.cli import console
    from recipe.serve.guards import plain_cells
    from recipe.serve.predict import classify, classify_latest

    if options.newest:
        table = classify_latest(model, bars, universe=universe, note=note)
        console.answers(table)
        if not options.out:
            return OK
    else:
        table = classify(model, bars, universe=universe, note=note)
    table = plain_cells(table)
    if options.out:
        with writing(options.out):
            files.write(options.out, lambda path: table.to_csv(path, index=False))
    else:
        table.to_csv(sys.stdout, index=False)
    return OK
