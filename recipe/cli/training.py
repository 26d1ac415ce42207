"""The commands `train` and `resume`, from their options to their exit status.

Everything heavy is imported inside the functions, after flags and bars have been checked:
TensorFlow takes seconds to import, and a misspelt flag should not have to wait for it.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import config
from core import atomic, place
from core.errors import InputError
from core.i18n import _
from core.memory import importing
from core.native_chatter import without_native_chatter
from recipe.cli.backend import prepare_process, start_backend
from recipe.devices import processes
from recipe.run import folder as files
from recipe.run.origin import read_run

OK, FAILED = 0, 1

# Two small epochs with every improvement at work.
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
}


def train(options: argparse.Namespace) -> int:
    """Reads the bars, trains and tests, and fills a new run folder."""
    before: dict = {}
    if options.start is not None:
        before = read_run(options.start)
        options.config = options.config or options.start / files.CONFIG
    flags = config.load(options.set, options.config, **(SMOKE if options.smoke else {}))
    with _processes(options):
        processes.agree(_("flags"), str(flags))
        if processes.is_first():
            files.check_absent(options.folder)
        from recipe.cli import console
        from recipe.run.market import read_market
        from recipe.run.origin import ORIGINS, START, check_same, origin, started

        start = None
        if options.start is not None:
            check_same(options.start, config.as_dict(flags))
            start = files.current_model(options.start)
        data = options.data or before.get("data")
        adjust = options.adjust_splits or before.get("adjust_splits", False)
        market, bars_info = read_market(data, flags, console, adjust=adjust)
        bars_info |= {START: started(start)} if start else {}
        run_info = {"command": options.command, "data": data, **bars_info}
        run_info |= {ORIGINS: [origin(flags, bars_info)]}
        run_info |= {"brief": True} if options.brief else {}
        return _run(flags, market, options.folder, run_info, resume=False, start=start)


def resume(options: argparse.Namespace) -> int:
    """Goes on with an interrupted run from its newest checkpoint."""
    with _processes(options):
        return _resume(options)


def _resume(options: argparse.Namespace) -> int:
    folder = options.folder
    if _is_finished(folder):
        return OK
    with files.lock(folder) if processes.is_first() else contextlib.nullcontext():
        if _is_finished(folder):  # by the process that had the lock
            return OK
        return _go_on(options, folder)


def _is_finished(folder: Path) -> bool:
    """Returns whether a run is complete, and prints so."""
    before = read_run(folder)
    if not (folder / files.METRICS).exists():
        return False
    from recipe.cli import console

    report, figures = folder / files.REPORT, folder / files.METRICS
    if report.exists():
        text = _("{folder} is finished; its report is {report}", folder=folder, report=report)
    elif before.get("brief"):
        text = _("{folder} is finished; its figures are in {file}", folder=folder, file=figures)
    else:  # it ended between the two: the checkpoints still hold all that the report shows
        return False
    console.log(_("complete"), text)
    return True


def _go_on(options: argparse.Namespace, folder: Path) -> int:
    before = read_run(folder)
    saved_flags = files.read_json(folder / files.CONFIG)
    flags = config.load(options.set, folder / files.CONFIG)
    processes.agree(_("flags"), str(flags))
    from recipe.cli import console
    from recipe.run.market import read_market
    from recipe.run.origin import (
        START,
        changes_since,
        check_checkpoints,
        known_origins,
        origin,
        taken_up,
    )

    known = known_origins(before, saved_flags)
    changes = check_checkpoints(folder, known)
    if processes.is_first():
        atomic.clear(folder)
    data = options.data or before.get("data")
    adjust = before.get("adjust_splits", False)
    market, bars_info = read_market(data, flags, console, adjust=adjust)
    bars_info |= {START: before[START]} if START in before else {}
    current = origin(flags, bars_info)
    changes += changes_since(before, known, current)
    if changes and not options.force:
        faults = [_("{change}; --force accepts it", change=change) for change in changes]
        raise InputError(faults)
    for change in changes:
        console.note(change)
    run_info = taken_up(before | {"data": data, **bars_info}, known, current, changes)
    start = folder / files.START if START in before else None
    return _run(flags, market, folder, run_info, resume=True, start=start)


def _processes(options: argparse.Namespace):
    """Returns the context of a training over one process or several."""
    prepare_process()  # before JAX starts: a resumed run must compile to the same program
    return processes.together(
        options.coordinator,
        options.processes,
        options.process,
        lambda: how_to_go_on(options.folder),
    )


def how_to_go_on(folder: Path | None) -> str:
    """Returns what to do after an interruption."""
    if folder is not None and (folder / files.RUN).exists():
        command = f"{place.PROGRAM} resume {folder}"
        return _("go on with: {command}", command=command)
    return _("nothing was written yet: start again")


def _run(
    flags: config.Flags, market, folder: Path, run_info: dict, *, resume: bool, start: Path | None
) -> int:
    with without_native_chatter(), importing():
        start_backend()
        from models.training.callbacks.nan_guard import TrainingDiverged
        from recipe.cli import console
        from recipe.run.run import run, run_worker

    processes.agree(_("bars"), run_info["bars_sha256"])
    try:
        if not processes.is_first():
            brief = run_info.get("brief", False)
            run_worker(flags, market, folder, resume=resume, brief=brief, start=start)
            return OK
        run(flags, market, folder, run_info=run_info, resume=resume, start=start, reporter=console)
    except TrainingDiverged as error:
        print(error, how_to_go_on(folder), sep="; ", file=sys.stderr)
        return FAILED
    except OSError:  # a full disk, above all
        print(_("a file could not be written"), how_to_go_on(folder), sep="; ", file=sys.stderr)
        raise
    return OK
