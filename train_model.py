"""The command line: its verbs and their options. What a verb does is in recipe/verbs.py."""

import argparse
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.i18n import _
from recipe import verbs
from recipe.run_folder import default_folder

if TYPE_CHECKING:
    from data.augment import augment_sequences_batched
    from data.generator import balanced_batch_generator

__all__ = ["augment_sequences_batched", "balanced_batch_generator", "main"]

BAD_INPUT, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        the exit status: 0, 1 where training diverged or the audit found a leak, 2 for bad input,
        130 for Ctrl-C. Any other error passes, and ends the process with its traceback and 1.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser, known = _parsers()
    folder = None
    try:
        options = parser.parse_args(_with_verb(argv, known))
        options.command, folder = ["train_model.py", *argv], options.folder
        with _screen(options.quiet):
            return options.run(options)
    except InputError as error:
        for line in error.faults:
            print(line, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"\ninterrupted; {verbs.how_to_go_on(folder)}", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def _screen(quiet: bool) -> Iterator[None]:
    """Keeps standard output from the screen where it is asked for; errors are still shown."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def __getattr__(name: str) -> Any:
    """Imports what notebooks expect here, when it is asked for: it needs NumPy and more."""
    homes = {
        "augment_sequences_batched": "data.augment",
        "balanced_batch_generator": "data.generator",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)


def _with_verb(argv: list[str], known: Collection[str]) -> list[str]:
    """Returns the arguments with their verb; without one they are those of `train`."""
    first = argv[0] if argv else ""
    if first in known or first in ("-h", "--help"):
        return argv
    if not first or first.startswith("-"):
        return ["train", *argv]
    close = difflib.get_close_matches(first, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise InputError(
        _(
            "the verb must be one of {known}, got {first}{hint}",
            known=", ".join(known),
            first=first,
            hint=hint,
        )
    )


def _parsers() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """Returns the parser of the command line and the names of its verbs."""
    parser = argparse.ArgumentParser(
        prog="train_model.py",
        description="Trains an xLSTM that says SELL, HOLD or BUY, and says whether it has skill. "
        "Without a verb it trains.",
        epilog="example: python train_model.py train --help",
    )
    found = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)

    def verb(name: str, run: Callable, purpose: str, example: str) -> Callable:
        own = found.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=f"example: python train_model.py {example}",
        )
        own.set_defaults(run=run, folder=None, quiet=False)
        return own.add_argument

    add = verb(
        "train",
        verbs.train,
        "train on bars and write a run folder (the verb that may be left out)",
        "--data bars.parquet --set EMA_DECAY=0.995",
    )
    _add_data(add)
    _add_flags(add)
    add(
        "--out",
        dest="folder",
        metavar="DIR",
        type=Path,
        default=default_folder(),
        help="the run folder to make; default: runs/<UTC time>",
    )
    add("--smoke", action="store_true", help="two small epochs, under a minute")
    _add_quiet(add)

    add = verb("resume", verbs.resume, "go on with an interrupted run", "resume runs/ID")
    add("folder", metavar="RUN", type=Path, help="its run folder")
    _add_data(add, default="those of the run")
    _add_set(add)
    add("--force", action="store_true", help="accept changed flags, bars, versions")
    _add_quiet(add)

    add = verb(
        "audit",
        verbs.audit,
        "look for values that depend on later bars",
        "audit --data bars.parquet",
    )
    _add_data(add)
    _add_flags(add)

    add = verb(
        "compare",
        verbs.compare,
        "put finished runs side by side, on the screen and as a page",
        "compare runs/A runs/B --out compare.html",
    )
    add("folders", metavar="RUN", type=Path, nargs="+", help="their run folders")
    add("--out", metavar="FILE", type=Path, default=Path("compare.html"), help="the page to make")

    add = verb(
        "predict",
        verbs.predict,
        "write the probabilities of a trained model as CSV",
        "predict runs/ID/model.keras --data bars.parquet --out table.csv",
    )
    add("model", metavar="MODEL", help="the model.keras of a run folder")
    _add_data(add, default="none; needed without --exchange")
    add("--exchange", metavar="NAME", help="answer for the newest closed bars of an exchange")
    add("--symbols", metavar="SYMBOL", nargs="+", default=[], help="its symbols: BTC/USDT ...")
    add("--follow", action="store_true", help="with --exchange: answer at every next close too")
    add("--out", metavar="FILE", type=Path, help="the file to make; default: standard output")

    add = verb(
        "export",
        verbs.export,
        "ship a trained model as ONNX or SavedModel, compared with Keras",
        "export runs/ID --format onnx",
    )
    add("model", metavar="RUN", type=Path, help="a run folder, or its model.keras")
    add("--format", metavar="NAME", required=True, help=" or ".join(verbs.FORMATS))
    add("--out", metavar="DIR", type=Path, help="the folder to make; default: RUN/<format>")

    add = verb(
        "download",
        verbs.download,
        "fetch closed bars of an exchange, a file for each symbol; goes on where it stopped",
        "download binance BTC/USDT ETH/USDT --timeframe 5m --since 2024-01-01 --to bars",
    )
    add("exchange", metavar="EXCHANGE", help="a name of ccxt's, such as binance")
    add("symbols", metavar="SYMBOL", nargs="+", help="such as BTC/USDT")
    add("--timeframe", metavar="SPAN", required=True, help="length of a bar, such as 5m")
    add("--since", metavar="DATE", required=True, help="first day, UTC, such as 2024-01-01")
    add("--to", metavar="DIR", type=Path, required=True, help="the folder for the files")

    add = verb(
        "study",
        verbs.study,
        "find out what each improvement is worth, what settings serve, how much is luck",
        "study ablation --data bars.parquet --seeds 5 --workers 2 --out studies/first",
    )
    _add_study(add)
    return parser, found.choices


def _add_study(add: Callable) -> None:
    actions = ["ablation", "sweep", "seeds", "work", "show"]
    add("action", choices=actions, help="begin a study, take part in one, or show one")
    add("study", metavar="DIR", nargs="?", type=Path, help="of work and show: the study's folder")
    _add_data(add)
    _add_flags(add)
    add("--seeds", metavar="N", type=int, help="of ablation (5) and seeds (10): from SEED on")
    add("--trials", metavar="N", type=int, help="of sweep (100)")
    add("--workers", metavar="N", type=int, default=1, help="processes here (1)")
    add("--storage", metavar="URL", default="", help="a database; default: a file in the folder")
    add("--out", metavar="DIR", type=Path, help="the folder to make; default: studies/<UTC time>")


def _add_data(add: Callable, *, default: str = "the sample", required: bool = False) -> None:
    text = "bars: CSV, Parquet or Feather file, or folder"
    text += "" if required else f"; default: {default}"
    add("--data", metavar="PATH", required=required, help=text)


def _add_quiet(add: Callable) -> None:
    add("--quiet", action="store_true", help="nothing on the screen but errors")


def _add_flags(add: Callable) -> None:
    _add_set(add)
    add("--config", metavar="FILE", help="replay the flags of an earlier run")


def _add_set(add: Callable) -> None:
    text = "change one flag of config.py; may be repeated"
    add("--set", metavar="NAME=VALUE", action="append", default=[], help=text)


if __name__ == "__main__":
    sys.exit(main())
