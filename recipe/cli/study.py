"""The command `study`: begins a study, takes part in one, or shows what it says so far."""

import argparse
from pathlib import Path

import config
from core import place
from core.errors import InputError
from core.i18n import _
from recipe.cli import console
from recipe.cli.training import SMOKE
from recipe.study import plan as plans

OK, FAILED, INTERRUPTED = 0, 1, 130
COUNTS = {"ablation": ("seeds", 5), "sweep": ("trials", 100), "seeds": ("seeds", 10)}
OLD = ("work", "show")
SMALL = 2  # seeds or trials of --smoke


def study(options: argparse.Namespace) -> int:
    """Returns the exit status: 0, 1 where a cell failed, 130 for Ctrl-C."""
    if options.workers < 1:
        raise InputError("a study needs at least 1 worker, got {workers}", workers=options.workers)
    plan = _old(options) if options.action in OLD else _new(options)
    ended = True
    if options.action != "show":
        from recipe.study.launch import run_workers

        try:
            ended = run_workers(plan, options.workers, options.storage, _say)
        except KeyboardInterrupt:
            console.log(_("study"), _("interrupted; go on with: {command}", command=_how(plan)))
            return INTERRUPTED
    from recipe.study.page import write_study

    paths = write_study(plan, console.log)
    for path in paths:
        console.log(_("file"), str(path))
    if not ended:
        console.log(_("study"), _("not at its end; go on with: {command}", command=_how(plan)))
    failed = [cell for cell in plan.cells if plan.state(cell) == plans.FAILED]
    for cell in failed:
        console.log(_("failed"), f"{cell}: {plan.reason(cell)}")
    return FAILED if failed or not ended else OK


def _new(options: argparse.Namespace) -> plans.Plan:
    """Begins a study."""
    name, usual = COUNTS[options.action]
    if options.study:
        raise InputError("study {action} takes its folder as --out DIR", action=options.action)
    if options.smoke:
        usual = SMALL
    other = "trials" if name == "seeds" else "seeds"
    if getattr(options, other) is not None:
        raise InputError(
            "study {action} counts its {name}, not its {other}",
            action=options.action,
            name=name,
            other=other,
        )
    flags = config.load(options.set, options.config, **(SMOKE if options.smoke else {}))
    count = getattr(options, name)
    folder = options.out or _default_folder()
    plan = plans.make(
        folder,
        options.action,
        options.data,
        flags,
        usual if count is None else count,
        database=bool(options.storage),
    )
    console.log(
        _("study"),
        _(
            "{num_cells} cells; {command} elsewhere takes part",
            num_cells=len(plan.cells),
            command=_how(plan),
        ),
    )
    return plan


def _old(options: argparse.Namespace) -> plans.Plan:
    """Opens a study that was begun."""
    if len(options.study) != 1:
        raise InputError("study {action} needs the folder of a study", action=options.action)
    fixed = ("data", "set", "config", "out", "seeds", "trials", "smoke")
    refused = [f"--{name}" for name in fixed if getattr(options, name)]
    if refused:
        raise InputError(
            "study {action} takes these from the study: {given}",
            action=options.action,
            given=", ".join(refused),
        )
    return plans.load(options.study[0])


def _say(progress: str) -> None:
    console.log(_("cells"), progress)


def _default_folder() -> Path:
    from recipe.run.folder import default_folder

    return Path("studies") / default_folder().name


def _how(plan: plans.Plan) -> str:
    storage = " --storage URL" if plan.database else ""
    return f"{place.PROGRAM} study work {plan.folder}{storage}"
