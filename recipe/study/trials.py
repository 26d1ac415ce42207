"""What Optuna does for a study: it draws the flags of a sweep, and finds hopeless runs.

Results are kept in the folder of the study alone. What Optuna needs of other cells is read from it
again each time, so that there is no state to lose, lock or repair. A database, if there is one,
gets a copy of the trials, for Optuna's dashboard or for queries.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

import config
from core.errors import InputError
from core.lock import Lock
from recipe.run import folder as files
from recipe.study.arms import first_fair_epoch, space_for, suggest
from recipe.study.plan import DONE, FAILED, OPEN, PRUNED, Plan

try:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, TrialState, create_trial
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise InputError("a sweep, and --storage, need Optuna: pip install -e '.[study]'") from error

optuna.logging.set_verbosity(optuna.logging.ERROR)
_PATIENCE = 60.0  # seconds to wait for another worker that is drawing or copying
_FEWEST_FINISHED = 5  # trials before any run is given up


def draw(plan: Plan, cell: str) -> dict[str, Any]:
    """Returns the flags of a cell of a sweep by name: those it was begun with, or new ones.

    They are written to the cell's file before another worker draws, so that no two workers try the
    same. A single worker draws reproducibly: each cell has a seed of its own.

    Raises:
        InputError: if a file of the study was changed.
    """
    path = plan.flags_file(cell)
    values = config.as_dict(plan.flags)
    with _alone(plan):
        if path.exists():
            return values | plan.drawn(cell, space_for(plan.flags))
        seed = 1000 * plan.flags.SEED + list(plan.cells).index(cell)
        study = _study(plan, optuna.samplers.TPESampler(seed=seed, constant_liar=True))
        study.add_trials([_trial(plan, other) for other in plan.cells if _is_begun(plan, other)])
        values |= suggest(study.ask(), plan.flags)
        files.write_json(path, values)
    return values


def pruner(plan: Plan, cell: str) -> Callable[[], bool]:
    """Returns a function that returns whether a running cell of a sweep is hopeless.

    A cell is hopeless if its best validation NLL so far is worse than the median of the finished
    trials at the same epoch.
    """
    judged, ended = 0, {}  # epochs; trials by cell

    def hopeless() -> bool:
        nonlocal judged
        values = _history(plan, cell)
        if len(values) <= judged:
            return False
        for other in plan.cells:
            if other not in ended and _is_begun(plan, other) and plan.state(other) == DONE:
                with contextlib.suppress(InputError):  # another cell's file was changed
                    ended[other] = _trial(plan, other)
        study = _study(plan)
        study.add_trials(ended.values())
        trial, first = study.ask(), judged
        judged = len(values)
        for epoch, value in enumerate(values):
            trial.report(value, epoch)
            if epoch >= first and trial.should_prune():
                return True
        return False

    return hopeless


def copy_to(plan: Plan, storage: str) -> None:
    """Adds the trials of ended cells to a database, unless it has them.

    Args:
        plan: of the study.
        storage: URL of the database.

    Raises:
        InputError: if it cannot be opened.
    """
    try:
        with _alone(plan):
            # A connection for each question: none is kept open through hours of training.
            database = RDBStorage(storage, engine_kwargs={"poolclass": NullPool})
            study = optuna.create_study(
                study_name=plan.name, storage=database, load_if_exists=True, direction="minimize"
            )
            there = {(t.user_attrs.get("cell"), t.state) for t in study.get_trials(deepcopy=False)}
            for cell in plan.cells:
                state = plan.state(cell)
                if state != OPEN and (cell, _STATES[state]) not in there:
                    study.add_trial(_trial(plan, cell))
    except (ImportError, ValueError, SQLAlchemyError) as error:
        text = str(error).strip().splitlines()[0]
        raise InputError("the storage of the study cannot be opened: {text}", text=text) from error


_STATES = {
    DONE: TrialState.COMPLETE,
    FAILED: TrialState.FAIL,
    PRUNED: TrialState.PRUNED,
    OPEN: TrialState.RUNNING,
}


def _alone(plan: Plan) -> Lock:
    return Lock(plan.folder / "draw.lock", str(plan.folder), _PATIENCE)


def _study(plan: Plan, sampler: Any = None) -> optuna.Study:
    """Returns a new study in memory, without trials."""
    return optuna.create_study(
        direction="minimize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=_FEWEST_FINISHED, n_warmup_steps=first_fair_epoch(plan.flags)
        ),
    )


def _is_begun(plan: Plan, cell: str) -> bool:
    return plan.flags_file(cell).exists()


def _trial(plan: Plan, cell: str) -> FrozenTrial:
    """Returns a cell as a trial, from the folder of the study."""
    state = plan.state(cell)
    space = space_for(plan.flags) if plan.kind == "sweep" and _is_begun(plan, cell) else {}
    return create_trial(
        state=_STATES[state],
        value=plan.value(cell) if state == DONE else None,
        params=plan.drawn(cell, space),
        distributions={n: FloatDistribution(r.low, r.high, log=r.log) for n, r in space.items()},
        user_attrs={"cell": cell},
        intermediate_values=dict(enumerate(_history(plan, cell))),
    )


def _history(plan: Plan, cell: str) -> list[float]:
    """Returns the validation NLL of the first training's epochs; other folds have other bars."""
    path: Path = plan.run(cell) / files.HISTORY
    if not path.exists():
        return []
    try:
        rows = pd.read_csv(path)
        first = (rows["fold"] == 0) & (rows["member"] == 0 if "member" in rows else True)
        return rows.loc[first, "val_nll"].astype(float).tolist()
    except (OSError, ValueError, KeyError, TypeError):  # somebody edited it: unknown
        return []
