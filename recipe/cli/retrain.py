"""The command `retrain`, and retraining beside `predict --follow`."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core import place
from core.errors import InputError
from recipe.cli.backend import load_model, quiet_backend
from recipe.retrain.beside import Beside, seconds_of
from recipe.run import folder as files

OK, FAILED = 0, 1


def retrain(options: argparse.Namespace) -> int:
    """Trains a run's model anew on newer bars, and says which model answers from now on."""
    current = files.current_model(options.run_folder)
    quiet_backend()
    if options.exchange:
        _fetch(current, options)
    from models.training.callbacks.nan_guard import TrainingDiverged
    from recipe.cli import console
    from recipe.retrain.retrain import retrain as train_anew

    try:
        train_anew(
            options.run_folder,
            options.data,
            command=options.command,
            reporter=console,
        )
    except TrainingDiverged as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


def _fetch(model: Path, options: argparse.Namespace) -> None:
    """Downloads what the exchange has since, into the folder of the bars."""
    if not options.data:
        raise InputError("--exchange needs --data DIR, the folder that its bars are kept in")
    from datetime import UTC, datetime, timedelta

    from models.deployable import contract_of
    from recipe.cli import console
    from recipe.live.download import download
    from recipe.live.exchange import open_exchange
    from recipe.live.markets import members_of
    from recipe.live.newest import timeframe_named

    contract = contract_of(load_model(model))
    exchange = open_exchange(options.exchange, note=console.note)
    members, _remark = members_of(exchange, contract, options.symbols)
    download(
        options.exchange,
        [*members.num_bars],
        timeframe=timeframe_named(contract["interval_seconds"]),
        since=f"{datetime.now(UTC) - timedelta(days=730):%Y-%m-%d}",
        folder=options.data,
        note=console.note,
    )


@contextlib.contextmanager
def retraining(
    options: argparse.Namespace, note: Callable[[str], None]
) -> Iterator[Callable[[], Any]]:
    """Retrains in a process beside where the options of `predict` ask for it.

    Yields:
        a function that returns the model that is to answer from now on, None where that is the one
        that answered before.

    Raises:
        InputError: where the options do not go together.
    """
    if not options.retrain_every:
        yield lambda: None
        return
    from models.deployable import load_classifier

    with _beside(options, note) as beside:

        def newer() -> Any:
            path = beside.look()
            try:
                return None if path is None else load_classifier(path)
            except InputError as error:  # whatever comes of it, answers go on
                note(str(error))
                return None

        yield newer


def _beside(options: argparse.Namespace, note: Callable[[str], None]) -> Beside:
    every_s = seconds_of(options.retrain_every)
    if not (options.follow and options.data and options.exchange):
        raise InputError(
            "--retrain-every goes with --exchange and --follow, and with --data DIR: the "
            "folder that `download` keeps the bars in"
        )
    path = Path(options.model)
    run = path if path.is_dir() else path.parent
    command = [sys.executable, "-m", place.module("train_model"), "retrain", str(run)]
    command += ["--data", options.data, "--exchange", options.exchange]
    command += ["--symbols", *options.symbols] if options.symbols else []
    environment = place.environment()
    environment.pop("COLUMNS", None)  # what is told is read back, and must be one line
    return Beside(run, command, every_s, note, environment=environment)
