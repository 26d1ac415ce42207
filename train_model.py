"""The command line. Its commands and their options are in recipe/cli/."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from core import i18n
from core.errors import InputError, hint, nearest
from core.foreign import check_path
from core.i18n import _
from recipe.cli import training
from recipe.cli.options import argparse_speaking, parsers

if TYPE_CHECKING:
    from data.batches.augment import augment_sequences_batched
    from data.batches.generator import balanced_batch_generator

__all__ = ["augment_sequences_batched", "balanced_batch_generator", "main"]

BAD_INPUT, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        the exit status: 0, 1 where training diverged or the audit found a leak, 2 for bad input,
        130 for Ctrl-C. Any other error passes, and ends the process with its traceback and 1.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with i18n.speaking(_language(argv)):
        return _run(argv)


def _run(argv: list[str]) -> int:
    folder = None
    try:
        with argparse_speaking():
            parser, known = parsers()
            options, left = parser.parse_known_args(_with_command(argv, known))
        if left:
            raise InputError(_unknown(left, parser, known[options.command_name]))
        for value in vars(options).values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    check_path(path)
        options.command, folder = ["train_model.py", *argv], options.folder
        with _screen(options.quiet):
            return options.run(options)
    except InputError as error:
        for line in error.faults:
            print(line, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\n" + _("interrupted"), training.how_to_go_on(folder), sep="; ", file=sys.stderr)
    gc.collect()  # the batches of TensorFlow, which would warn of them once Python has ended
    return INTERRUPTED


def _unknown(left: Sequence[str], *tried: argparse.ArgumentParser) -> str:
    """Returns what to do about arguments that no option takes."""
    name, equals, value = left[0].partition("=")
    options = {text.strip("-"): text for each in tried for text in each._option_string_actions}
    close = options.get(nearest(name.strip("-"), options) or "") if name.startswith("-") else None
    is_named = name.startswith("-") or bool(equals)
    takes_flags = "set" in options  # predict, say, takes none
    flag = config.meant(name) if is_named and takes_flags else None
    if flag and flag not in config.MEANT.values() and close:
        flag = None  # an option that is spelt alike is nearer
    if flag:
        value = value or next(iter(left[1:]), "...")
        return _(
            "unknown option {name}; flags are set with --set {flag}={value}",
            name=name,
            flag=flag,
            value=value,
        )
    if close:
        return _("unknown option {name}; did you mean {close}?", name=name, close=close)
    return _("unrecognized arguments: %s") % " ".join(left)


def _language(argv: Sequence[str]) -> str:
    """Returns the language that is asked for, else that of the locale: help speaks it too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--lang", choices=i18n.LANGUAGES)
    with contextlib.suppress(argparse.ArgumentError, SystemExit):  # the command's parser says so
        language = parser.parse_known_args(argv)[0].lang
        if language:
            return language
    return i18n.of_locale(os.environ)


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
    if name == "augment_sequences_batched":
        from data.batches import augment as home
    elif name == "balanced_batch_generator":
        from data.batches import generator as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)


def _with_command(argv: list[str], known: Collection[str]) -> list[str]:
    """Returns the arguments with their command; without one they are those of `train`."""
    first = argv[0] if argv else ""
    if first in known or first in ("-h", "--help", "--version"):
        return argv
    name, equals, _value = first.partition("=")
    if not first or first.startswith("-") or equals and config.meant(name):
        return ["train", *argv]  # which says how a flag is set
    raise InputError(
        "the command must be one of {known}, got {first}{hint}",
        known=", ".join(known),
        first=first,
        hint=hint(first, known),
    )


if __name__ == "__main__":
    sys.exit(main())
