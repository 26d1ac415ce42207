"""The command line: bars in, run folder out.

`python train_model.py` trains on the sample bars with the flags of config.py. What a run does is
in recipe/, which is imported only after the flags and the bars were found good: TensorFlow takes
seconds to import, and a misspelt flag should not have to wait for it.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import config
from data.augment import augment_sequences_batched
from data.bars import digest, read_bars
from data.generator import balanced_batch_generator
from data.market import build_market
from data.rows import by_symbol
from data.sample import load_sample
from recipe import run_folder as files

__all__ = ["augment_sequences_batched", "balanced_batch_generator", "main"]

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Two small epochs in which every improvement takes part.
SMOKE = {
    "SUPERVISED_EPOCHS": 2,
    "STEPS_PER_EPOCH": 30,
    "LR_WARMUP_EPOCHS": 0.5,
    "AFL_WARMUP_EPOCHS": 1,
    "LOGIT_CLIP_RELEASE_EPOCH": 1,
    "HNM_START_EPOCH": 1,
    "HNM_END_EPOCH": 1,
    "HNM_UPDATE_PERIOD": 1,
    "HNM_MAX_SCORED": 1024,
    "VALIDATION_MAX_WINDOWS": 1024,
    "BOOTSTRAP_RESAMPLES": 200,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        the exit status: 0, 1 where training diverged or a file could not be written, 2 for bad
        input, 130 for Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Each fold is a model of its own; TensorFlow takes them for one function traced in vain.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folder = Path(arguments.resume or arguments.out or files.default_folder())
    try:
        return _command(arguments)(arguments, folder, argv)
    except ValueError as error:
        for line in getattr(error, "faults", str(error).splitlines()):
            print(line, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"\ninterrupted; {_how_to_go_on(folder)}", file=sys.stderr)
        return INTERRUPTED


def _command(arguments: argparse.Namespace) -> Callable[..., int]:
    if arguments.predict:
        return _predict
    if arguments.audit:
        return _audit
    return _resume if arguments.resume else _train


def _how_to_go_on(folder: Path) -> str:
    if (folder / files.RUN).exists():
        return f"go on with: python train_model.py --resume {folder}"
    return "nothing was written yet: start again"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_model.py",
        description="Trains an xLSTM that says SELL, HOLD or BUY, and says whether it has skill.",
    )
    add = parser.add_argument
    add("--data", metavar="PATH", help="CSV, Parquet or Feather file, or folder; default: sample")
    add(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change one flag of config.py; may be repeated",
    )
    add("--config", metavar="FILE", help="replay the flags of an earlier run")
    add("--out", metavar="DIR", help="the run folder to make; default: runs/<UTC time>")
    add("--smoke", action="store_true", help="two small epochs, under a minute")
    add("--resume", metavar="DIR", help="go on with an interrupted run")
    add("--force", action="store_true", help="with --resume: accept changed flags, bars, versions")
    add("--audit", action="store_true", help="look for values that depend on later bars")
    add(
        "--predict",
        metavar="MODEL",
        help="write the probabilities of a model.keras for the bars in --data as CSV to --out or "
        "to standard output",
    )
    return parser


def _train(arguments: argparse.Namespace, folder: Path, argv: list[str]) -> int:
    flags = config.load(arguments.set, arguments.config, **(SMOKE if arguments.smoke else {}))
    files.check_absent(folder)
    market, facts = _read_market(arguments.data, flags)
    facts = {"command": ["train_model.py", *argv], "data": arguments.data, **facts}
    return _run(flags, market, folder, facts, resume=False)


def _resume(arguments: argparse.Namespace, folder: Path, argv: list[str]) -> int:
    before = files.read_json(folder / files.RUN)
    saved_flags = files.read_json(folder / files.CONFIG)
    if (folder / files.METRICS).exists():
        _say("complete", f"{folder} is finished; its report is {folder / files.REPORT}")
        return OK
    flags = config.load(arguments.set, folder / files.CONFIG)
    data = arguments.data or before["data"]
    market, facts = _read_market(data, flags)
    with _without_native_chatter():
        from models.training.callbacks.checkpoint import differences

    names = ("bars_sha256", "versions")
    then = {"flags": saved_flags, **{name: before[name] for name in names}}
    now = {"flags": config.as_dict(flags), "versions": files.versions(), **facts}
    changes = differences(then, now)
    if changes and not arguments.force:
        raise ValueError("\n".join(f"{change}; --force accepts it" for change in changes))
    for change in changes:
        _say("note", change)
    facts = {**before, "data": data, **facts, "resumes": before.get("resumes", 0) + 1}
    return _run(flags, market, folder, facts, resume=True)


def _run(flags, market, folder: Path, facts: dict, *, resume: bool) -> int:
    with _without_native_chatter():
        from models.training.callbacks.nan_guard import TrainingDiverged
        from recipe.run import run

    try:
        run(flags, config.as_dict(flags), market, folder, facts=facts, resume=resume, say=_say)
    except (TrainingDiverged, OSError) as error:  # OSError: a full disk, above all
        print(f"{error}; {_how_to_go_on(folder)}", file=sys.stderr)
        return FAILED
    return OK


@contextlib.contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Hides what TensorFlow's native code writes to standard error while it is imported.

    Its first messages come before it reads TF_CPP_MIN_LOG_LEVEL. Python's errors pass.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
        import keras

        keras.ops.zeros(())  # looks for devices
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _audit(arguments: argparse.Namespace, folder: Path, argv: list[str]) -> int:
    from data.audit import audit_market

    flags = config.load(arguments.set, arguments.config)
    bars = _read_bars(arguments.data)
    settings = _market_settings(flags) | {"feature_store": None}
    _say("audit", "features, labels, thresholds and scaling on bars cut at several times")
    findings = audit_market(bars, **settings)
    for finding in findings:
        _say("leak", str(finding))
    if findings:
        return FAILED
    _say("audit", "clean: no value depends on later bars")
    return OK


def _predict(arguments: argparse.Namespace, folder: Path, argv: list[str]) -> int:
    if not arguments.data:
        raise ValueError("--predict needs the bars to classify: --data PATH")
    if arguments.out and Path(arguments.out).exists():
        raise ValueError(f"the file {arguments.out} must not exist yet; it does")
    with _without_native_chatter():
        from models.deployable import load_classifier
        from recipe.predict import classify

    def note(text):
        print(text, file=sys.stderr)

    table = classify(load_classifier(arguments.predict), read_bars(arguments.data, note=note))
    if arguments.out:
        files.write(Path(arguments.out), lambda path: table.to_csv(path, index=False))
    else:
        table.to_csv(sys.stdout, index=False)
    return OK


def _read_bars(path: str | None):
    if path is None:
        return load_sample()
    return read_bars(path, note=lambda text: _say("note", text))


def _read_market(path: str | None, flags):
    """Returns the market, and what is to be known of its bars."""
    _say("reading", path or "the sample: daily bars of five US stocks, 2000 to 2013")
    bars = _read_bars(path)
    facts, count = {"bars_sha256": digest(bars)}, len(bars)
    parts = by_symbol(bars)  # lets go of a symbol's bars when its features are made
    del bars
    market = build_market(parts, **_market_settings(flags))
    _say("bars", f"{count:,} of {len(market.symbol_names)} symbols, {_range(market)}")
    _say(
        "windows",
        f"{flags.SEQUENCE_LENGTH} bars of {len(market.feature_names)} features; labels "
        f"{flags.FUTURE_WINDOW} bars ahead ({flags.LABEL_METHOD})",
    )
    return market, facts


def _market_settings(flags) -> dict:
    return {
        "sequence_length": flags.SEQUENCE_LENGTH,
        "future_window": flags.FUTURE_WINDOW,
        "label_method": flags.LABEL_METHOD,
        "price_change_threshold": flags.PRICE_CHANGE_THRESHOLD,
        "target_class_ratios": flags.TARGET_CLASS_RATIOS,
        "embargo_bars": flags.EMBARGO_BARS,
        "max_gap_bars": flags.MAX_GAP_BARS,
        "validation_fraction": flags.VALIDATION_FRACTION,
        "test_fraction": flags.TEST_FRACTION,
        "num_folds": flags.WALK_FORWARD_FOLDS,
        "rolling": flags.WALK_FORWARD_ROLLING,
        "feature_store": flags.FEATURE_STORE or None,
        "note": lambda text: _say("note", text),
    }


def _range(market) -> str:
    first, last = market.timestamps.min(), market.timestamps.max()
    return f"{str(first)[:16]} to {str(last)[:16]} UTC, every {_span(market.interval_seconds)}"


def _span(seconds: float) -> str:
    for size, unit in [(86400, "day"), (3600, "hour"), (60, "minute")]:
        if seconds >= size:
            count = seconds / size
            return unit if count == 1 else f"{count:g} {unit}s"
    return f"{seconds:g} seconds"


def _say(name: str, text: str) -> None:
    print(f"{name:<10} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
