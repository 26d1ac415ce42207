"""The commands of the command line and their options; the other files here carry them out."""

import argparse
import contextlib
import gettext
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from core import i18n, place
from core.i18n import N_, _
from recipe.cli import commands, predict, retrain, training
from recipe.run.folder import default_folder, versions

# Messages of argparse itself, for the catalogue.
ARGPARSE = (
    N_("usage: "),
    N_("options"),
    N_("positional arguments"),
    N_("show this help message and exit"),
    N_("%(prog)s: error: %(message)s\n"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("the following arguments are required: %s"),
    N_("unrecognized arguments: %s"),
    N_("expected one argument"),
    N_("expected at least one argument"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
)


@contextlib.contextmanager
def argparse_speaking() -> Iterator[None]:
    """Makes argparse use our catalogue.

    It translates with Python's `gettext`, which takes the language from the environment only.
    """
    gettext.bindtextdomain(i18n.DOMAIN, i18n.LOCALE)
    before = os.environ.get("LANGUAGE")
    os.environ["LANGUAGE"] = i18n.language()
    try:
        yield
    finally:
        del os.environ["LANGUAGE"]
        if before is not None:
            os.environ["LANGUAGE"] = before


def parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Returns the parser of the command line, and its commands' parsers by name."""
    parser = argparse.ArgumentParser(
        prog=place.PROGRAM.rpartition(" ")[2],
        description=_(
            "Trains an xLSTM that says SELL, HOLD or BUY, and says whether it has skill. "
            "Without a command it trains."
        ),
        epilog=_("example: {command}", command=place.PROGRAM + " train --help"),
    )
    numbers = _own_version() | versions()
    listed = ", ".join(f"{name} {number}" for name, number in numbers.items())
    text = _("show versions and exit")
    parser.add_argument("--version", action="version", version=listed, help=text)
    subparsers = parser.add_subparsers(
        dest="command_name", metavar="COMMAND", title=_("commands"), required=True
    )

    def command(name: str, run: Callable, purpose: str, example: str) -> Callable:
        subparser = subparsers.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=_("example: {command}", command=place.PROGRAM + " " + example),
        )
        subparser.set_defaults(run=run, folder=None, quiet=False)
        languages = _(" or ").join(i18n.LANGUAGES)
        text = _("language: {languages}; default: that of the locale", languages=languages)
        subparser.add_argument("--lang", choices=i18n.LANGUAGES, help=text)
        return subparser.add_argument

    add = command(
        "train",
        training.train,
        _("train on bars and write a run folder (the command that may be left out)"),
        "--data bars.parquet --set EMA_DECAY=0.995",
    )
    _add_data(add)
    _add_adjust(add)
    _add_flags(add)
    add(
        "--out",
        dest="folder",
        metavar="DIR",
        type=Path,
        default=default_folder(),
        help=_("the run folder to make; default: runs/<UTC time>"),
    )
    text = _("start at the weights of an earlier run, with its flags and newer bars")
    add("--from", metavar="RUN", dest="start", type=Path, help=text)
    _add_processes(add)
    add("--smoke", action="store_true", help=_("two small epochs, under a minute"))
    text = _("figures of the model alone: no fitted baselines, no verdict, no report")
    add("--brief", action="store_true", help=text)
    _add_quiet(add)

    add = command("resume", training.resume, _("go on with an interrupted run"), "resume runs/ID")
    add("folder", metavar="RUN", type=Path, help=_("its run folder"))
    _add_data(add, default=N_("those of the run"))
    _add_set(add)
    _add_processes(add)
    add("--force", action="store_true", help=_("accept changed flags, bars, versions"))
    _add_quiet(add)

    add = command(
        "audit",
        commands.audit,
        _("look for values that depend on later bars"),
        "audit --data bars.parquet",
    )
    _add_data(add)
    _add_adjust(add)
    _add_flags(add)

    add = command(
        "compare",
        commands.compare,
        _("put finished runs side by side, on the screen and as a page"),
        "compare runs/A runs/B --out compare.html",
    )
    add("folders", metavar="RUN", type=Path, nargs="+", help=_("their run folders"))
    add(
        "--out", metavar="FILE", type=Path, default=Path("compare.html"), help=_("the page to make")
    )

    add = command(
        "predict",
        predict.predict,
        _("write the probabilities of a trained model as CSV"),
        "predict runs/ID --data bars.parquet --out table.csv",
    )
    add("model", metavar="RUN", help=_("a run folder, or its model.keras"))
    _add_data(add, default=N_("with --newest those of the run; else needed without --exchange"))
    _add_adjust(add)
    help_ = _(
        "bars of the symbols of the training that are not asked for, where the model needs them"
    )
    add("--universe", metavar="PATH", help=help_)
    _add_features(add)
    text = _("the newest call of each symbol alone, in words")
    add("--newest", action="store_true", help=text)
    add("--exchange", metavar="NAME", help=_("answer for the newest closed bars of an exchange"))
    text = _("its symbols: BTC/USDT ...; default: those of the training")
    add("--symbols", metavar="SYMBOL", nargs="+", default=[], help=text)
    add("--follow", action="store_true", help=_("with --exchange: answer at every next close too"))
    text = _("with --follow and --data DIR: train on newer bars so often, such as 7d, beside")
    add("--retrain-every", metavar="SPAN", help=text)
    add("--out", metavar="FILE", type=Path, help=_("the file to make; default: standard output"))

    add = command(
        "retrain",
        retrain.retrain,
        _("train on the bars that came since; the new model answers where it is not worse"),
        "retrain runs/ID --data bars",
    )
    add("run_folder", metavar="RUN", type=Path, help=_("its run folder"))
    _add_data(add, default=N_("those of the run"))
    text = _("fetch the newest bars of an exchange into --data DIR before")
    add("--exchange", metavar="NAME", help=text)
    text = _("its symbols: BTC/USDT ...; default: those of the training")
    add("--symbols", metavar="SYMBOL", nargs="+", default=[], help=text)
    _add_quiet(add)

    add = command(
        "export",
        commands.export,
        _("ship a trained model as ONNX or SavedModel, compared with Keras"),
        "export runs/ID --format onnx",
    )
    add("model", metavar="RUN", type=Path, help=_("a run folder, or its model.keras"))
    _add_features(add)
    add("--format", metavar="NAME", required=True, help=_(" or ").join(commands.FORMATS))
    add("--out", metavar="DIR", type=Path, help=_("the folder to make; default: RUN/<format>"))

    add = command(
        "download",
        commands.download,
        _("fetch closed bars of an exchange, a file for each symbol; goes on where it stopped"),
        "download binance BTC/USDT ETH/USDT --timeframe 5m --since 2024-01-01 --to bars",
    )
    add("exchange", metavar="EXCHANGE", help=_("a name of ccxt's, such as binance"))
    text = _("such as BTC/USDT, or BTC/USDT:USDT for the perpetual contract")
    # Not nargs="*": argparse would then refuse symbols that stand behind an option.
    add("symbols", metavar="SYMBOL", nargs="+", default=[], help=text).required = False
    text = _("instead of symbols: the most traded ones that are quoted in this currency")
    add("--quote", metavar="CURRENCY", help=text)
    add("--top", metavar="N", type=int, help=_("with --quote: how many (50)"))
    text = _("with --quote: perpetual contracts instead of spot")
    add("--perpetuals", action="store_true", help=text)
    add("--timeframe", metavar="SPAN", required=True, help=_("length of a bar, such as 5m"))
    text = _("first day, UTC, such as 2024-01-01; default: two years ago")
    add("--since", metavar="DATE", help=text)
    text = _("the folder for the files; default: bars")
    add("--to", metavar="DIR", type=Path, default=Path("bars"), help=text)

    add = command(
        "study",
        commands.study,
        _("find out what each improvement is worth, what settings serve, how much is luck"),
        "study ablation --data bars.parquet --seeds 5 --workers 2 --out studies/first",
    )
    _add_study(add)
    return parser, subparsers.choices


def _own_version() -> dict[str, str]:
    try:
        return {"xlstm-classifier": importlib.metadata.version("xlstm-classifier")}
    except importlib.metadata.PackageNotFoundError:  # a bare checkout
        return {}


def _add_study(add: Callable) -> None:
    actions = ["ablation", "sweep", "seeds", "work", "show"]
    add("action", choices=actions, help=_("begin a study, take part in one, or show one"))
    # Not nargs="?": argparse would then refuse a folder that stands behind an option.
    text = _("of work and show: the study's folder")
    add("study", metavar="DIR", nargs="+", type=Path, default=[], help=text).required = False
    _add_data(add)
    _add_flags(add)
    add("--seeds", metavar="N", type=int, help=_("of ablation (5) and seeds (10): from SEED on"))
    add("--trials", metavar="N", type=int, help=_("of sweep (100)"))
    add("--workers", metavar="N", type=int, default=1, help=_("processes here (1)"))
    add("--smoke", action="store_true", help=_("two small epochs a run, and 2 seeds or trials"))
    add(
        "--storage",
        metavar="URL",
        default="",
        help=_("a database that is given a copy of the trials"),
    )
    add(
        "--out", metavar="DIR", type=Path, help=_("the folder to make; default: studies/<UTC time>")
    )


def _add_data(add: Callable, *, default: str = N_("the sample")) -> None:
    text = _(
        "bars: CSV, Parquet or Feather file, or folder; default: {default}", default=_(default)
    )
    add("--data", metavar="PATH", help=text)


def _add_adjust(add: Callable) -> None:
    text = _("scale the bars before a jump that looks like a split to the prices after it")
    add("--adjust-splits", action="store_true", help=text)


def _add_features(add: Callable) -> None:
    text = _("the file of OWN_FEATURES that the model was trained with; it is run")
    add("--features", metavar="FILE", type=Path, help=text)


def _add_processes(add: Callable) -> None:
    text = _("several processes, on JAX: HOST:PORT of process 0, or slurm")
    add("--coordinator", metavar="HOST:PORT", help=text)
    add("--processes", metavar="N", type=int, help=_("how many there are"))
    add("--process", metavar="I", type=int, help=_("which of them this is, from 0"))


def _add_quiet(add: Callable) -> None:
    add("--quiet", action="store_true", help=_("nothing on the screen but errors"))


def _add_flags(add: Callable) -> None:
    _add_set(add)
    add("--config", metavar="FILE", help=_("replay the flags of an earlier run"))


def _add_set(add: Callable) -> None:
    text = _("change one flag of config.py; may be repeated")
    add("--set", metavar="NAME=VALUE", action="append", default=[], help=text)
