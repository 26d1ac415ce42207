"""Features of one's own: functions marked `@feature` in a file, from one symbol's bars to columns.

A model keeps the names and the digest of the file, never its text: whoever lets it answer gives the
file, by `load_features` or an option of the command line, and another file is refused.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.contract import is_count, is_text
from core.errors import InputError, printable
from core.foreign import reason_of
from core.i18n import _
from data.features.indicators import WARM_UP_BARS

_MARK = "own_feature"
_LONGEST_PAST = 100_000  # bars
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class OwnFeature:
    """A function of a file.

    Attributes:
        name: of the function.
        columns: that it gives.
        past_bars: bars before a row that reach it at the most.
        function: from bars (DataFrame) to the columns.
    """

    name: str
    columns: tuple[str, ...]
    past_bars: int
    function: Callable[[pd.DataFrame], Any]

    def compute(self, bars: pd.DataFrame) -> np.ndarray:
        """Returns the columns of ONE symbol's bars, float32 (bars, columns).

        What is not known is 0: NaN, and what is infinite.

        Args:
            bars: `timestamp`, `symbol`, prices, `volume` and own columns, sorted by time.

        Raises:
            InputError: in one line, where the function fails or gives something else.
        """
        try:
            made = self.function(bars.reset_index(drop=True))
            values = self._values(made, len(bars))
        except InputError:
            raise
        except Exception as error:  # whatever a person's own lines raise
            reason = f"{type(error).__name__}: {reason_of(error)}"
            raise InputError(
                "the feature {name} failed: {reason}", name=self.name, reason=reason
            ) from error
        values = np.where(np.isfinite(values), values, 0.0)
        return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)

    def _values(self, made: Any, num_bars: int) -> np.ndarray:
        if isinstance(made, (pd.DataFrame, Mapping)):
            names = [str(name) for name in made]
            parts = [made[name] for name in self.columns] if set(names) == {*self.columns} else []
        else:
            names = [_("one without a name")]
            parts = [made] if len(self.columns) == 1 else []
        values = [np.asarray(pd.Series(part), np.float64) for part in parts]
        lengths = {len(value) for value in values}
        if lengths != {num_bars}:
            raise InputError(
                "the feature {name} must give {num_bars} values of {columns}, one for each "
                "bar; it gave {lengths} of {found}",
                name=self.name,
                num_bars=num_bars,
                columns=", ".join(self.columns),
                lengths=", ".join(map(str, sorted(lengths))) or _("some"),
                found=printable(", ".join(names), 200),
            )
        return np.stack(values, axis=1)


@dataclass(frozen=True)
class OwnFeatures:
    """The functions of a file.

    Attributes:
        file: its name.
        sha256: its digest.
        features: in the order of the file.
    """

    file: str
    sha256: str
    features: tuple[OwnFeature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in their order."""
        return tuple(name for one in self.features for name in one.columns)

    @property
    def past_bars(self) -> int:
        """Bars before a row that reach it at the most."""
        return max(one.past_bars for one in self.features)

    def fill(self, bars: pd.DataFrame, out: np.ndarray) -> None:
        """Writes the columns of the last of ONE symbol's bars into an array.

        Args:
            bars: without a hole in time.
            out: float32 (rows, columns), at most bars - `past_bars` rows.
        """
        stop, num_rows = 0, len(out)
        for one in self.features if num_rows else ():
            start, stop = stop, stop + len(one.columns)
            out[:, start:stop] = one.compute(bars.iloc[-(num_rows + one.past_bars) :])[-num_rows:]

    def as_dict(self) -> dict[str, Any]:
        """Returns what a model keeps of them."""
        columns = {one.name: list(one.columns) for one in self.features}
        return {"file": self.file, "sha256": self.sha256, "columns": columns}


_loaded: dict[str, OwnFeatures] = {}  # by digest: what this process may answer with


def feature(*columns: Any, past_bars: int = WARM_UP_BARS) -> Any:
    """Marks a function from ONE symbol's bars (DataFrame, rising in time) to features.

    Row t may depend on bars up to t, and on no more than `past_bars` before; that is checked
    before a training. What is NaN or infinite counts as 0.

        @feature
        def gap(bars):
            return bars["open"] / bars["close"].shift(1) - 1

        @feature("day_range", "day_body", past_bars=200)
        def day(bars):
            return {"day_range": ..., "day_body": ...}

    Args:
        *columns: names of what it gives, as a DataFrame or dictionary; none: one column, called as
            the function is.
        past_bars: bars before a row that may reach it.
    """
    if len(columns) == 1 and callable(columns[0]):
        return _marked(columns[0], (), past_bars)
    return lambda function: _marked(function, columns, past_bars)


def load_features(path: str | Path) -> OwnFeatures:
    """Runs a file, and returns its functions that are marked `@feature`.

    Models that were trained with this very file can answer in this process from now on.

    Args:
        path: of the file, Python.

    Raises:
        InputError: in one line, where it cannot be read, fails, or marks no function well.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _refusal(path, reason_of(error)) from error
    digest = hashlib.sha256(text).hexdigest()
    if digest not in _loaded:
        features = _marked_in(path, text)
        _check(path, features)
        _loaded[digest] = OwnFeatures(printable(path.name), digest, features)
    return _loaded[digest]


def known_features(stored: Any) -> OwnFeatures:
    """Returns the features that a model was trained with, where their file was loaded.

    Args:
        stored: what `OwnFeatures.as_dict` gave.

    Raises:
        InputError: in one line, where it was not, or has been changed.
    """
    if not (
        isinstance(stored, Mapping)
        and is_text(stored.get("file"))
        and is_text(stored.get("sha256"))
        and isinstance(stored.get("columns"), Mapping)
        and all(map(is_text, stored["columns"]))
    ):
        raise InputError("the model's own features are not described in the form of this version")
    if stored["sha256"] in _loaded:
        return _loaded[stored["sha256"]]
    names = printable(", ".join(stored["columns"]), 200)
    if any(own.file == stored["file"] for own in _loaded.values()):
        raise InputError(
            "{file} is not the file that the model was trained with ({names}): it was changed "
            "since",
            file=stored["file"],
            names=names,
        )
    raise InputError(
        "the model was trained with features of your own ({names}): give their file {file} with "
        "--features FILE or load_features",
        names=names,
        file=stored["file"],
    )


def _marked(function: Callable, columns: tuple, past_bars: int) -> Callable:
    made = OwnFeature(function.__name__, columns or (function.__name__,), past_bars, function)
    setattr(function, _MARK, made)
    return function


def _marked_in(path: Path, code: bytes) -> tuple[OwnFeature, ...]:
    spec = importlib.util.spec_from_loader(path.stem, None, origin=str(path))
    module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
    module.__file__ = str(path)
    try:
        exec(compile(code, str(path), "exec"), module.__dict__)
    except Exception as error:  # whatever a person's own lines raise
        raise _refusal(path, f"{type(error).__name__}: {reason_of(error)}") from error
    marked = (getattr(value, _MARK, None) for value in vars(module).values())
    return tuple(dict.fromkeys(one for one in marked if isinstance(one, OwnFeature)))


def _check(path: Path, features: tuple[OwnFeature, ...]) -> None:
    if not features:
        raise _refusal(path, _("it marks no function with @feature"))
    names = [name for one in features for name in one.columns]
    for one in features:
        if not is_count(one.past_bars, 0, _LONGEST_PAST):
            reason = _("past_bars of {name} must be 0 to 100,000", name=one.name)
            raise _refusal(path, reason)
        if not all(map(is_text, one.columns)):
            raise _refusal(path, _("the columns of {name} must be names", name=one.name))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _refusal(path, _("two columns are called {name}", name=twice))


def _refusal(path: Path, reason: str) -> InputError:
    shown = printable(str(path), 200)
    return InputError("the features in {path} cannot be used: {reason}", path=shown, reason=reason)
