"""The commands other than training, from their options to their exit status.

Everything heavy is imported inside the functions, after the options have been checked:
TensorFlow takes seconds to import, and a misspelt flag should not have to wait for it.
"""

import argparse
import importlib.util
import sys
from datetime import UTC, datetime, timedelta

import config
from core.errors import InputError
from core.foreign import writing
from core.i18n import N_, _
from recipe.cli.backend import load_model
from recipe.run import folder as files

OK, FAILED, INTERRUPTED = 0, 1, 130
USUAL_TOP, USUAL_DAYS = 50, 730  # of download: symbols of --quote, and how far back
FORMATS = {"onnx": ("tf2onnx", "onnxruntime"), "saved_model": ()}  # and the packages they need


def audit(options: argparse.Namespace) -> int:
    """Looks for values that depend on later bars, and for splits whose windows share time."""
    flags = config.load(options.set, options.config)
    from data.audit.audit import NUM_CUTS, audit_market
    from data.audit.cuts import CUT_SHARES
    from recipe.cli import console
    from recipe.run.market import bars_or_sample, market_settings, without_splits

    settings = market_settings(flags)
    bars = bars_or_sample(options.data, console, extra=settings.features.columns)
    if options.adjust_splits:
        bars = without_splits(bars, console.note)
    console.log(
        _("audit"),
        _(
            "features with the later bars cut off and altered at {num_cuts} times, labels, "
            "thresholds and scaling at some of them",
            num_cuts=len(CUT_SHARES) + 2 * NUM_CUTS,
        ),
    )
    console.log(
        _("audit"), _("the span of every training, validation and test window, with the embargo")
    )
    findings = audit_market(bars, settings)
    for finding in findings:
        console.log(_("leak"), str(finding))
    if findings:
        return FAILED
    console.log(
        _("audit"), _("clean: no value depends on later bars, and no two splits share time")
    )
    return OK


def compare(options: argparse.Namespace) -> int:
    """Puts finished runs side by side, on the screen and as a page."""
    from evaluation.report.compare import compare_page, compare_runs, is_own_page

    if not is_own_page(options.out):
        files.check_new_file(options.out)
    from recipe.cli import console
    from recipe.cli.compare import comparison, read_runs

    result = compare_runs(read_runs(options.folders))
    with writing(options.out):
        files.write_text(options.out, compare_page(result))
    comparison(result)
    console.log(_("page"), str(options.out))
    return OK


def export(options: argparse.Namespace) -> int:
    """Ships a trained model as ONNX or SavedModel."""
    file = files.current_model(options.model) if options.model.is_dir() else options.model
    folder = options.out or file.parent / options.format
    if options.format not in FORMATS:
        raise InputError(
            "--format must be {formats}, got {format}",
            formats=_(" or ").join(FORMATS),
            format=options.format,
        )
    if not file.is_file():
        raise InputError("need a run folder or its model.keras; there is no file {file}", file=file)
    files.check_absent(folder, N_("folder of the export"))
    missing = [name for name in FORMATS[options.format] if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            "--format {format} needs {missing}: pip install -e '.[export]'",
            format=options.format,
            missing=_(" and ").join(missing),
        )
    from data.features.own import load_features
    from data.features.settings import settings_of
    from recipe.cli import console

    if options.features:
        load_features(options.features)
    model = load_model(file)
    from models.deployable import contract_of
    from recipe.run.market import bars_or_sample
    from recipe.serve.export import ExportFailed, windows_to_compare
    from recipe.serve.export import export as ship

    own_columns = settings_of(contract_of(model)).columns
    windows, what = windows_to_compare(
        model, file.parent, lambda path: bars_or_sample(path, console, extra=own_columns)
    )
    try:
        difference = ship(model, options.format, folder, windows)
    except ExportFailed as error:
        print(error, file=sys.stderr)
        return FAILED
    console.log(_("compared"), f"{len(windows)} {what}")
    console.log(
        _("export"),
        _(
            "{folder}; largest difference from Keras {difference:.1e}",
            folder=folder,
            difference=difference,
        ),
    )
    return OK


def download(options: argparse.Namespace) -> int:
    """Fetches closed bars of an exchange into one file for each symbol."""
    symbols = _symbols_to_download(options)
    from recipe.cli import console
    from recipe.live.download import download as fetch

    def progress(symbol: str, num_bars: int, reached) -> None:
        console.log(
            _("bars"),
            _(
                "{symbol}: {num_bars:,} new, up to {reached:%Y-%m-%d %H:%M} UTC",
                symbol=symbol,
                num_bars=num_bars,
                reached=reached,
            ),
        )

    try:
        paths = fetch(
            options.exchange,
            symbols,
            timeframe=options.timeframe,
            since=options.since or f"{datetime.now(UTC) - timedelta(days=USUAL_DAYS):%Y-%m-%d}",
            folder=options.to,
            note=console.note,
            progress=progress,
        )
    except KeyboardInterrupt:
        print("\n" + _("interrupted; the same command goes on"), file=sys.stderr)
        return INTERRUPTED
    for path in paths:
        console.log(_("file"), str(path))
    return OK


def _symbols_to_download(options: argparse.Namespace):
    """Returns the named symbols, or how to choose them; the two exclude each other."""
    from recipe.live.markets import MostTraded

    if bool(options.symbols) == bool(options.quote):
        raise InputError(
            "download needs either symbols, such as BTC/USDT, or --quote, such as --quote USDT"
        )
    if options.symbols:
        if options.top is not None or options.perpetuals:
            raise InputError("--top and --perpetuals go with --quote, not with named symbols")
        return options.symbols
    top = USUAL_TOP if options.top is None else options.top
    if top < 1:
        raise InputError("--top must be at least 1, got {top}", top=top)
    return MostTraded(options.quote, top, options.perpetuals)


def study(options: argparse.Namespace) -> int:
    """Runs the cells of a study, or shows their results."""
    from recipe.cli.study import study as run_study

    return run_study(options)
