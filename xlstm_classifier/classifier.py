"""From a DataFrame to a model in three lines: the recipe of the command line as a Python object."""

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

import config
from core.errors import InputError
from core.foreign import writing
from core.i18n import N_, _
from data.features.own import load_features
from recipe.cli import console
from recipe.cli.backend import load_model, quiet_backend
from recipe.run import folder as files
from recipe.run.market import bars_or_sample, read_market, source_of, without_splits
from recipe.run.origin import (
    ORIGINS,
    changes_since,
    check_checkpoints,
    known_origins,
    origin,
    read_run,
    taken_up,
)
from recipe.run.reporter import SILENT
from xlstm_classifier.card import Evaluation

# What a model is without: checkpoints are for the training alone.
SAVED = (
    *(files.CONFIG, files.RUN, files.MODEL, files.METRICS, files.HISTORY),
    *(files.PREDICTIONS, files.VALIDATION, files.REPORT),
)


class XLSTMClassifier:
    """An xLSTM that says SELL, HOLD or BUY on market bars, trained and judged by the whole recipe.

    `fit` is what `train_model.py train` does: with the same bars, flags and seed it gives the same
    figures. All state is in a run folder, so that `load` takes any folder of the command line.

        model = XLSTMClassifier(SUPERVISED_EPOCHS=10).fit(bars)
        model.predict(newer_bars)

    Args:
        **flags: those of config.py that are to differ from their defaults, by name.

    Raises:
        InputError: with a line for every unknown flag, wrong type and broken rule.
    """

    def __init__(self, **flags: Any):
        config.load(**flags)
        self._given = flags
        self._run: _Run | None = None
        self._begun: _Temporary | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns all flags by name, as scikit-learn asks for them; `deep` changes nothing."""
        return config.as_dict(config.Flags()) | self._given

    def set_params(self, **flags: Any) -> Self:
        """Changes flags by name, for the next `fit`, and returns the object.

        Raises:
            InputError: as the class does; nothing is changed then.
        """
        config.load(**(self._given | flags))
        self._given = self._given | flags
        return self

    def fit(
        self,
        bars: Any = None,
        folder: str | Path | None = None,
        *,
        resume: bool = False,
        adjust_splits: bool = False,
        quiet: bool = False,
    ) -> Self:
        """Trains, calibrates and judges a model on bars, and returns the object.

        What goes wrong leaves the object as it was.

        Args:
            bars: a DataFrame (of pandas, or what has a `to_pandas`), the path of a file or folder,
                a market such as `synthetic:persistent_drift`; None: the sample. See
                `data.bars.frames.read_frame` for the forms that a DataFrame may have.
            folder: the run folder to make; None: a temporary one that lives as long as the object.
            resume: takes up what is in the folder (without one, the last `fit` of this object that
                did not end): an interrupted training goes on, a finished one is taken as it is,
                and where nothing was begun it begins.
            adjust_splits: scales the past of splits away.
            quiet: prints nothing.

        Raises:
            InputError: with a line for every fault of bars and flags, or where a run to resume had
                others.
            TrainingDiverged: where the loss became NaN or infinite.
        """
        if folder is not None and not isinstance(folder, (str, Path)):
            raise InputError(
                _(
                    "the run folder must be a path, got {kind}; labels are made of the bars",
                    kind=type(folder).__name__,
                )
            )
        flags, reporter = config.load(**self._given), SILENT if quiet else console
        place, temporary = self._place(folder, resume)
        taken_over = resume and (place / files.RUN).exists()
        if not taken_over:
            files.check_absent(place)
        market, bars_info = read_market(bars, flags, reporter, adjust=adjust_splits)
        bars_info |= {"data": source_of(bars)}
        self._begun = temporary
        if taken_over:
            _take_up(flags, market, place, bars_info, reporter)
        else:
            command = [type(self).__name__, *(f"{n}={v}" for n, v in self._given.items())]
            run_info = {"command": command, **bars_info, ORIGINS: [origin(flags, bars_info)]}
            _train(flags, market, place, run_info, reporter, resume=False)
        self._run, self._begun = _Run(place, temporary), None
        return self

    def predict(
        self,
        bars: Any,
        *,
        universe: Any = None,
        newest_only: bool = False,
        adjust_splits: bool = False,
    ) -> pd.DataFrame:
        """Returns the call and the probabilities of every bar that ends a window.

        What is odd of the bars or the model (a symbol without a window, say) is a warning of
        Python's.

        Args:
            bars: as `fit` takes them, with some past: the warm-up of the features and a window.
            universe: bars of other symbols of the training, for a model whose features stand
                beside the market; they get no answer.
            newest_only: only the newest bar of every symbol, as for live use.
            adjust_splits: scales the past of splits away.

        Returns:
            one row for each window, by symbol, then time: timestamp (of the window's last bar),
            symbol, call, p_sell, p_hold, p_buy, unfamiliar; see `recipe.serve.predict.classify`.

        Raises:
            InputError: where nothing was trained yet, or the bars are faulty or do not fit.
        """
        model = self._fitted.model
        from data.features.settings import settings_of
        from models.deployable import contract_of
        from recipe.serve.predict import classify, classify_latest

        extra = settings_of(contract_of(model)).columns
        answer: Callable[..., pd.DataFrame] = classify_latest if newest_only else classify
        notes: list[str] = []

        def read(given: Any) -> pd.DataFrame:
            found = bars_or_sample(given, extra=extra)
            return without_splits(found, notes.append) if adjust_splits else found

        try:
            others = None if universe is None else read(universe)
            return answer(model, read(bars), universe=others, note=notes.append)
        finally:
            for text in notes:
                warnings.warn(text, UserWarning, stacklevel=2)

    def evaluate(self) -> Evaluation:
        """Returns the verdict on the test windows, and the figures of the model and the others."""
        return self._fitted.evaluation

    def report(self, path: str | Path | None = None) -> Path:
        """Returns the path of the report, one HTML file that needs nothing else.

        Args:
            path: a file to copy it to; None: the one in the run folder.
        """
        report = self._fitted.folder / files.REPORT
        if not report.is_file():
            raise InputError(_("the run in {folder} has no report", folder=report.parent))
        if path is None:
            return report
        files.check_new_file(Path(path))
        with writing(Path(path)):
            shutil.copyfile(report, path)
        return Path(path)

    def save(self, folder: str | Path) -> Path:
        """Writes model, figures and report into a new folder, and returns its path."""
        source, new = self._fitted.folder, Path(folder)
        files.check_absent(new, N_("folder of the model"))
        whole = new.with_name(f".{new.name}.tmp")
        shutil.rmtree(whole, ignore_errors=True)  # of a process that was killed
        files.make(whole)
        with writing(new):
            for name in SAVED:
                if (source / name).exists():
                    shutil.copyfile(source / name, whole / name)
            whole.rename(new)
        return new

    @classmethod
    def load(cls, folder: str | Path, *, features: str | Path | None = None) -> Self:
        """Returns a classifier that was saved, or that a run of the command line trained.

        Args:
            folder: of `save`, or a finished run folder.
            features: the file of OWN_FEATURES that it was trained with; it is run.

        Raises:
            InputError: where it is none.
        """
        if features is not None:
            load_features(features)
        run = _Run(Path(folder))
        run.check()
        given = config.as_dict(config.load(replay=run.folder / files.CONFIG))
        defaults = config.as_dict(config.Flags())
        loaded = cls(**{name: v for name, v in given.items() if v != defaults[name]})
        loaded._run = run
        return loaded

    @property
    def _fitted(self) -> "_Run":
        if self._run is None:
            raise InputError(_("nothing is trained yet: call fit, or XLSTMClassifier.load"))
        return self._run

    def _place(self, folder: str | Path | None, resume: bool) -> "tuple[Path, _Temporary | None]":
        """Returns the run folder, and the temporary one that it is in, if any."""
        if folder is not None:
            return Path(folder), None
        if not resume or self._begun is None:
            temporary = _Temporary()
        else:
            temporary = self._begun
        return temporary.path / "run", temporary

    def __sklearn_is_fitted__(self) -> bool:
        return self._run is not None

    def __getstate__(self) -> dict[str, Any]:
        if self._run is not None:
            raise TypeError(_("a trained classifier is kept by save(folder), not by pickle"))
        return self.__dict__ | {"_begun": None}

    def __repr__(self):
        defaults = config.as_dict(config.Flags())
        given = {name: v for name, v in self.get_params().items() if v != defaults[name]}
        changed = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"{type(self).__name__}({changed})"

    def _repr_html_(self) -> str:
        from xlstm_classifier.card import unfitted_card

        return self._run.evaluation._repr_html_() if self._run else unfitted_card(repr(self))


class _Temporary:
    """A folder that goes with the object, or with the process."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="xlstm-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass
class _Run:
    """A finished run: its folder, and what is read of it once it is asked for.

    Attributes:
        folder: of the run.
        temporary: that goes with this object, if any.
    """

    folder: Path
    temporary: _Temporary | None = None

    def check(self) -> None:
        """Raises InputError where the folder holds no finished run."""
        for name in (files.CONFIG, files.RUN, files.METRICS):
            files.read_json(self.folder / name)
        if not (self.folder / files.MODEL).is_file():
            raise InputError(
                _(
                    "need a finished run; {folder} has no {name}",
                    folder=self.folder,
                    name=files.MODEL,
                )
            )

    @cached_property
    def model(self) -> Any:
        """The deployable model."""
        return load_model(self.folder / files.MODEL)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The figures."""
        metrics = files.read_json(self.folder / files.METRICS)
        return Evaluation.of(metrics, read_run(self.folder), self.folder)


def _take_up(
    flags: config.Flags, market: Any, folder: Path, bars_info: dict[str, Any], reporter: Any
) -> None:
    """Goes on with a run, unless it has ended."""
    with files.lock(folder):
        before, saved = read_run(folder), files.read_json(folder / files.CONFIG)
        known, own = known_origins(before, saved), origin(flags, bars_info)
        ended = (folder / files.METRICS).exists() and (folder / files.REPORT).exists()
        if ended:
            changes = files.differences(known[-1], own)
        else:
            changes = check_checkpoints(folder, known) + changes_since(before, known, own)
        if changes:
            faults = [_("{change}: the run cannot go on with it", change=text) for text in changes]
            raise InputError(faults)
        if not ended:
            run_info = taken_up(before | bars_info, known, own)
            _train(flags, market, folder, run_info, reporter, resume=True)


def _train(
    flags: config.Flags,
    market: Any,
    folder: Path,
    run_info: dict[str, Any],
    reporter: Any,
    *,
    resume: bool,
) -> None:
    quiet_backend()
    from recipe.run.run import run

    run(flags, market, folder, run_info=run_info, resume=resume, reporter=reporter)
