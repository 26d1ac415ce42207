"""The command `retrain`, and retraining alongside `predict --follow`."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core import i18n, place
from core.contract import Contract
from core.errors import InputError
from recipe.cli.backend import load_model, quiet_backend
from recipe.retrain.beside import Beside, seconds_of
from recipe.run import folder as files
from recipe.run.origin import read_run

OK, FAILED = 0, 1


def retrain(options: argparse.Namespace) -> int:
    """Retrains a run's model on newer bars, and prints which model answers from now on."""
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
    """Downloads newer bars from the exchange into the folder of the bars."""
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
    options: argparse.Namespace, answers: Path, contract: Contract, note: Callable[[str], None]
) -> Iterator[Callable[[], Any]]:
    """Retrains in a separate process if the options of `predict` ask for it.

    Args:
        options: of `predict`.
        answers: file of the model in use.
        contract: of that model.
        note: called with a line when a retraining begins, and on how it ended.

    Yields:
        a function that returns the model to answer from now on, or None to keep the current one.

    Raises:
        InputError: if the options do not go together.
    """
    if not options.retrain_every:
        yield lambda: None
        return
    from models.deployable import load_classifier

    with _beside(options, answers, contract, note) as beside:

        def newer() -> Any:
            try:
                path = beside.look()
                return None if path is None else load_classifier(path)
            except InputError as error:  # answers must go on
                note(str(error))
                return None

        yield newer


def _beside(
    options: argparse.Namespace, answers: Path, contract: Contract, note: Callable[[str], None]
) -> Beside:
    every_s = seconds_of(options.retrain_every)
    if not (options.follow and options.data and options.exchange):
        raise InputError(
            "--retrain-every goes with --exchange and --follow, and with --data DIR: the "
            "folder that `download` keeps the bars in"
        )
    path = Path(options.model)
    run = path if path.is_dir() else path.parent
    read_run(run)
    command = [sys.executable, "-m", place.module("train_model"), "retrain", str(run)]
    command += ["--data", options.data, "--exchange", options.exchange]
    command += ["--lang", i18n.language()]
    # Whoever wants answers for a few symbols still trains on all that the training had.
    if options.symbols and not contract.get("universe"):
        command += ["--symbols", *options.symbols]
    environment = place.environment()
    environment.pop("COLUMNS", None)  # the output is read back line by line
    return Beside(run, answers, command, every_s, note, environment=environment)
