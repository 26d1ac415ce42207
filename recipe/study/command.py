"""What the verb `study` does: begins a study, takes part in one, or shows what it says so far."""

import argparse
from pathlib import Path

import config
from data.errors import InputError
from recipe import console
from recipe.study import plan as plans

OK, FAILED, INTERRUPTED = 0, 1, 130
COUNTS = {"ablation": ("seeds", 5), "sweep": ("trials", 100), "seeds": ("seeds", 10)}
OLD = ("work", "show")


def study(options: argparse.Namespace) -> int:
    """Returns the exit status: 0, 1 where a cell failed, 130 for Ctrl-C."""
    if options.workers < 1:
        raise InputError(f"a study needs at least 1 worker, got {options.workers}")
    plan = _old(options) if options.action in OLD else _new(options)
    ended = True
    if options.action != "show":
        from recipe.study.launch import run_workers

        try:
            ended = run_workers(plan, options.workers, options.storage, _say)
        except KeyboardInterrupt:
            console.log("study", f"interrupted; go on with: {_how(plan)}")
            return INTERRUPTED
    from recipe.study.page import write_study

    for path in write_study(plan, console.log):
        console.log("file", str(path))
    if not ended:
        console.log("study", f"not at its end; go on with: {_how(plan)}")
    failed = [cell for cell in plan.cells if plan.state(cell) == plans.FAILED]
    for cell in failed:
        console.log("failed", f"{cell}: {plan.reason(cell)}")
    return FAILED if failed or not ended else OK


def _new(options: argparse.Namespace) -> plans.Plan:
    """Begins a study."""
    name, usual = COUNTS[options.action]
    if options.study is not None:
        raise InputError(f"study {options.action} takes its folder as --out DIR")
    other = "trials" if name == "seeds" else "seeds"
    if getattr(options, other) is not None:
        raise InputError(f"study {options.action} counts its {name}, not its {other}")
    flags = config.load(options.set, options.config)
    given = getattr(options, name)
    folder = options.out or _default_folder()
    plan = plans.make(
        folder,
        options.action,
        options.data,
        flags,
        usual if given is None else given,
        database=bool(options.storage),
    )
    console.log("study", f"{len(plan.cells)} cells; {_how(plan)} elsewhere takes part")
    return plan


def _old(options: argparse.Namespace) -> plans.Plan:
    """Opens a study that was begun."""
    if options.study is None:
        raise InputError(f"study {options.action} needs the folder of a study")
    fixed = ("data", "set", "config", "out", "seeds", "trials")
    given = [f"--{name}" for name in fixed if getattr(options, name)]
    if given:
        raise InputError(f"study {options.action} takes these from the study: {', '.join(given)}")
    return plans.load(options.study)


def _say(progress: str) -> None:
    console.log("cells", progress)


def _default_folder() -> Path:
    from recipe.run_folder import default_folder

    return Path("studies") / default_folder().name


def _how(plan: plans.Plan) -> str:
    storage = " --storage URL" if plan.database else ""
    return f"python train_model.py study work {plan.folder}{storage}"
