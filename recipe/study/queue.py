"""The queue of a study's cells, kept by Optuna: each cell is asked for and done by one worker.

Only the run folders hold results. A storage that is lost, or lacks a cell, is filled again from
them; a cell that is there twice is left to its first trial.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import config
from core.errors import InputError
from core.i18n import _
from recipe.study import beats
from recipe.study.plan import DONE, OPEN, PRUNED, Plan
from recipe.study.space import first_fair_epoch, space_for, suggest

try:
    import optuna
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise InputError(_("a study needs Optuna: pip install -e '.[study]'")) from error

JOURNAL = "journal.log"
# What reading a storage that somebody has changed ends in.
_BROKEN = (ImportError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
_BROKEN += (SQLAlchemyError,)


class Queue:
    """The cells of a study that wait, run or have ended.

    Args:
        plan: of the study.
        storage: URL of a database; "": the journal in the study's folder.
        grace: seconds without a sign after which a worker on another machine counts as dead.

    Raises:
        InputError: where the storage is not that of the plan, or cannot be opened.
    """

    def __init__(self, plan: Plan, storage: str = "", grace: float = beats.GRACE):
        if plan.database != bool(storage):
            needs = _("its database: --storage URL") if plan.database else _("no --storage")
            raise InputError(
                _("the study in {folder} needs {needs}", folder=plan.folder, needs=needs)
            )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._plan, self._beats = plan, plan.folder / "beats"
        self._watch = beats.Watch(self._beats, grace)
        self._journal = None if storage else plan.folder.absolute() / JOURNAL
        try:
            self._study = optuna.create_study(
                study_name=plan.name,
                storage=_open(storage, plan),
                load_if_exists=True,
                direction="minimize",
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=5, n_warmup_steps=first_fair_epoch(plan.flags)
                ),
            )
        except _BROKEN as error:
            self._tell_broken(error)
            if not isinstance(error, (ImportError, ValueError, SQLAlchemyError)):
                raise
            text = str(error).strip().splitlines()[0]
            raise InputError(
                _("the storage of the study cannot be opened: {text}", text=text)
            ) from error

    def refill(self) -> None:
        """Enqueues the cells without a trial that counts, and those of workers that died.

        Raises:
            InputError: where the journal is broken; as `take`, `flags` and `end` do.
        """
        with self._journal_is_checked():
            self._refill()

    def _refill(self) -> None:
        trials = self._trials()
        for trial in trials:
            if trial.state == TrialState.RUNNING and self._watch.dead(trial.number):
                self._tell(trial.number, TrialState.FAIL)
                beats.forget(self._beats, trial.number)
        counting = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)
        there = {_cell(t) for t in self._trials() if t.state in counting}
        there |= beats.living(self._beats)
        for cell in self._plan.cells:
            if cell not in there and self._plan.state(cell) in (OPEN, DONE):
                self._study.enqueue_trial(self._drawn(cell), user_attrs={"cell": cell})

    def take(self) -> tuple[Trial, str] | None:
        """Returns the next trial with its cell, or None where nothing waits."""
        with self._journal_is_checked():
            return self._take()

    def _take(self) -> tuple[Trial, str] | None:
        while any(trial.state == TrialState.WAITING for trial in self._trials()):
            trial = self._study.ask()
            cell = trial.user_attrs.get("cell")
            if cell is None or self._taken_before(trial.number, cell):
                self._tell(trial.number, TrialState.FAIL)
                continue
            if self._plan.state(cell) == DONE:
                self.flags(trial, cell)  # Optuna is to know what was drawn
                self.end(trial, cell)
                continue
            return trial, cell
        return None

    def flags(self, trial: Trial, cell: str) -> config.Flags:
        """Returns the flags of a cell; Optuna draws those of a sweep."""
        flags = self._plan.cells[cell].flags
        if self._plan.kind != "sweep":
            return flags
        # A seed for each trial: one worker repeats its draws, and several differ in theirs.
        seed = 1000 * flags.SEED + list(self._plan.cells).index(cell)
        trial.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        with self._journal_is_checked():
            drawn = suggest(trial, flags)
        return config.load(**config.as_dict(flags) | drawn)

    def end(self, trial: Trial, cell: str) -> None:
        """Tells how a cell ended, by what its folder holds."""
        state = self._plan.state(cell)
        if state == DONE:
            self._tell(trial.number, TrialState.COMPLETE, [self._plan.value(cell)])
        else:
            self._tell(trial.number, TrialState.PRUNED if state == PRUNED else TrialState.FAIL)

    def all_ended(self) -> bool:
        """Returns whether every cell is done, failed or pruned."""
        return all(self._plan.state(cell) != OPEN for cell in self._plan.cells)

    def _trials(self) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _taken_before(self, number: int, cell: str) -> bool:
        active = (TrialState.WAITING, TrialState.RUNNING)
        return any(
            trial.number < number and trial.state in active and _cell(trial) == cell
            for trial in self._trials()
        )

    def _drawn(self, cell: str) -> dict[str, Any]:
        """Returns the values that a cell of a sweep was begun with."""
        path = self._plan.flags_file(cell)
        if self._plan.kind != "sweep" or not path.exists():
            return {}
        return self._plan.drawn(cell, space_for(self._plan.flags))

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        try:
            with self._journal_is_checked():
                self._study.tell(number, values, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            pass  # another worker was faster

    @contextlib.contextmanager
    def _journal_is_checked(self) -> Iterator[None]:
        """Has a journal that cannot be read any more be told; other errors pass."""
        try:
            yield
        except InputError:
            raise
        except _BROKEN as error:
            self._tell_broken(error)
            raise

    def _tell_broken(self, error: Exception) -> None:
        """Raises InputError where the journal is broken."""
        if self._journal is None:
            return
        try:
            JournalStorage(JournalFileBackend(str(self._journal)))  # replays all of it
        except _BROKEN:
            raise InputError(
                _(
                    "the journal {path} of the study is broken: delete it, and it is filled again "
                    "from the run folders",
                    path=self._journal,
                )
            ) from error


def _cell(trial: FrozenTrial) -> str | None:
    return trial.user_attrs.get("cell")


def _open(url: str, plan: Plan) -> Any:
    if url:
        # A connection for each question: none is to be kept open through hours of training.
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    # Absolute: the lock is a link to the journal, and where it leads nowhere a killed process
    # keeps all others waiting without an end.
    journal = plan.folder.absolute() / JOURNAL
    backend = JournalFileBackend(str(journal), lock_obj=JournalFileSymlinkLock(str(journal)))
    _mend(journal)
    return JournalStorage(backend)


def _mend(journal: Path) -> None:
    """Cuts off a last line that is torn: what is appended to it would be lost, and all with it."""
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        with open(journal, "r+b") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
