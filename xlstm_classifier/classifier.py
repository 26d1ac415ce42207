"""From a DataFrame to a model in three lines: the recipe of the command line as a Python object."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pandas as pd

import config
from core.errors import InputError
from core.foreign import writing
from core.i18n import _
from data.features.own import load_features
from recipe.cli import console
from recipe.run import folder as files
from recipe.run.market import bars_or_sample, read_market, source_of, without_splits
from recipe.run.origin import ORIGINS, origin
from recipe.run.reporter import SILENT
from xlstm_classifier.card import Evaluation
from xlstm_classifier.kept_run import FinishedRun, TemporaryFolder, take_up, train


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
        self._flags = flags
        self._run: FinishedRun | None = None
        self._begun: TemporaryFolder | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns all flags by name, as scikit-learn asks for them; `deep` changes nothing.

        Examples:
            >>> XLSTMClassifier(EMA_DECAY=0.995).get_params()["EMA_DECAY"]
            0.995
        """
        return config.as_dict(config.Flags()) | self._flags

    def set_params(self, **flags: Any) -> Self:
        """Changes flags by name, for the next `fit`, and returns the object.

            model.set_params(SUPERVISED_EPOCHS=20).fit(bars)

        Raises:
            InputError: as the class does; nothing is changed then.
        """
        config.load(**(self._flags | flags))
        self._flags = self._flags | flags
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

        A fit that fails leaves the object as it was.

            model = XLSTMClassifier().fit(bars, folder="runs/first")
            model = XLSTMClassifier().fit(bars, folder="runs/first", resume=True)  # if interrupted

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
                "the run folder must be a path, got {kind}; labels are made of the bars",
                kind=type(folder).__name__,
            )
        flags, reporter = config.load(**self._flags), SILENT if quiet else console
        place, temporary = self._place(folder, resume)
        goes_on = resume and (place / files.RUN).exists()
        if not goes_on:
            files.check_absent(place)
        market, bars_info = read_market(bars, flags, reporter, adjust=adjust_splits)
        bars_info |= {"data": source_of(bars)}
        self._begun = temporary
        if goes_on:
            take_up(flags, market, place, bars_info, reporter)
        else:
            command = [type(self).__name__, *(f"{n}={v}" for n, v in self._flags.items())]
            run_info = {"command": command, **bars_info, ORIGINS: [origin(flags, bars_info)]}
            train(flags, market, place, run_info, reporter, resume=False)
        self._run, self._begun = FinishedRun(place, temporary), None
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

        Whatever is odd about the bars or the model, such as a symbol without a window, is a
        `UserWarning`.

            calls = model.predict(newer_bars)
            calls.loc[calls["call"] == "BUY", ["symbol", "timestamp", "p_buy"]]

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

        def read(source: Any) -> pd.DataFrame:
            frame = bars_or_sample(source, extra=extra)
            return without_splits(frame, notes.append) if adjust_splits else frame

        try:
            others = None if universe is None else read(universe)
            return answer(model, read(bars), universe=others, note=notes.append)
        finally:
            for text in notes:
                warnings.warn(text, UserWarning, stacklevel=2)

    def evaluate(self) -> Evaluation:
        """Returns the verdict on the test windows, and the figures of the model and the baselines.

        Examples:
            >>> print(model.evaluate().verdict)
            >>> model.evaluate().table["mcc"]
        """
        return self._fitted.evaluation

    def report(self, path: str | Path | None = None) -> Path:
        """Returns the path of the report, one HTML file that needs nothing else.

            webbrowser.open(model.report().as_uri())

        Args:
            path: a file to copy it to; None: the one in the run folder.
        """
        report = self._fitted.folder / files.REPORT
        if not report.is_file():
            raise InputError("the run in {folder} has no report", folder=report.parent)
        if path is None:
            return report
        files.check_new_file(Path(path))
        with writing(Path(path)):
            shutil.copyfile(report, path)
        return Path(path)

    def save(self, folder: str | Path) -> Path:
        """Writes model, figures and report into a new folder, and returns its path.

        Examples:
            >>> model.save("models/first")
            >>> model = XLSTMClassifier.load("models/first")
        """
        path = _folder(folder)
        self._fitted.copy_to(path)
        return path

    @classmethod
    def load(cls, folder: str | Path, *, features: str | Path | None = None) -> Self:
        """Returns a classifier that was saved, or that a run of the command line trained.

            XLSTMClassifier.load("runs/20260101-120000").predict(bars)

        Args:
            folder: of `save`, or a finished run folder.
            features: the file of OWN_FEATURES that it was trained with; it is run.

        Raises:
            InputError: where the folder holds no finished run.
        """
        path = _folder(folder)
        if features is not None:
            load_features(features)
        run = FinishedRun(path)
        run.check()
        loaded = cls(**_changed(config.as_dict(config.load(replay=path / files.CONFIG))))
        loaded._run = run
        return loaded

    @property
    def _fitted(self) -> FinishedRun:
        if self._run is None:
            raise InputError("nothing is trained yet: call fit, or XLSTMClassifier.load")
        return self._run

    def _place(
        self, folder: str | Path | None, resume: bool
    ) -> tuple[Path, TemporaryFolder | None]:
        """Returns the run folder, and the temporary one that it is in, if any."""
        if folder is not None:
            return Path(folder), None
        if not resume or self._begun is None:
            temporary = TemporaryFolder()
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
        flags = _changed(self.get_params())
        changed = ", ".join(f"{name}={value!r}" for name, value in flags.items())
        return f"{type(self).__name__}({changed})"

    def _repr_html_(self) -> str:
        from xlstm_classifier.card import unfitted_card

        return self._run.evaluation._repr_html_() if self._run else unfitted_card(repr(self))


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise InputError(
            "the folder of a model must be a path, such as models/first, got {kind}",
            kind=type(folder).__name__,
        )
    return Path(folder)


def _changed(flags: dict[str, Any]) -> dict[str, Any]:
    """Returns the flags that differ from their defaults."""
    defaults = config.as_dict(config.Flags())
    return {name: value for name, value in flags.items() if value != defaults[name]}
