"""Makes the windows that a trained model classifies from raw bars: the same rows as in training.

Needs no Keras: it feeds the model whether TensorFlow runs it or not.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.calls import LARGEST_LIFT, calls
from core.contract import Contract, check_contract
from core.errors import InputError
from core.i18n import _, listed
from data.bars.checks import check_bars
from data.bars.sessions import GAP_RULE
from data.features.settings import settings_of
from data.market.labels import CLASS_NAMES
from data.market.relative import MARKET, relative_in_words
from data.market.training_range import unfamiliar_shares, warnings
from data.market.windows import ends_within, gather, symbol_bounds
from data.times.grid import every, grid_ns, no_grid
from recipe.serve.guards import check_features, check_probabilities
from recipe.serve.parts import parts_of, remarks, rows_of, universe_of
from recipe.serve.universe import check_universe, with_universe

_INTERVAL_TOLERANCE = 0.1  # relative: months differ in length
_LIBRARY = "ta-lib"  # computes most features; some of its versions compute them wrongly
Note = Callable[[str], None]


@dataclass(frozen=True)
class InferenceWindows:
    """The windows to classify.

    Attributes:
        features: float32 (rows, features), unscaled.
        ends: end rows of the windows, (windows,), rising.
        sequence_length: bars of a window.
        about: a row for each window: timestamp (of its last bar), symbol, unfamiliar (share of its
            values outside the ranges of the training, NaN if the contract has none).
        prior: class frequencies that a call's lift is relative to, (classes,).
    """

    features: np.ndarray
    ends: np.ndarray
    sequence_length: int
    about: pd.DataFrame
    prior: np.ndarray

    def gather(self, positions: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Returns the bars of some windows, float32 (windows, time, features)."""
        return gather(self.features, self.ends[positions], self.sequence_length)

    def table(self, probabilities: np.ndarray) -> pd.DataFrame:
        """Returns a row for each window, with its call and probabilities.

        Args:
            probabilities: of the windows, (windows, classes).

        Returns:
            timestamp, symbol, call (SELL, HOLD or BUY), p_sell, p_hold, p_buy, unfamiliar.

        Raises:
            InputError: if they are not probabilities.
        """
        check_probabilities(probabilities, self.about)
        columns: dict[str, Any] = {
            "call": np.array(CLASS_NAMES, object)[calls(probabilities, self.prior)]
        }
        for code, name in enumerate(CLASS_NAMES):
            columns[f"p_{name.lower()}"] = probabilities[:, code]
        return pd.concat(
            [
                self.about[["timestamp", "symbol"]],
                pd.DataFrame(columns, index=self.about.index),
                self.about[["unfamiliar"]],
            ],
            axis=1,
        )


def inference_windows(
    contract: Contract,
    bars: pd.DataFrame,
    *,
    newest_only: bool = False,
    universe: pd.DataFrame | None = None,
    note: Note | None = None,
) -> InferenceWindows:
    """Returns every window of the bars, or only the newest window of each symbol.

    Args:
        contract: what the model was trained on, see `models.deployable.ModelContract`.
        bars: of any number of symbols: timestamp, symbol, open, high, low, close, volume.
        newest_only: whether only the newest windows are wanted; only their features are made.
        universe: bars of other symbols of the training, which make the market that features stand
            beside; they get no answer.
        note: called with a sentence for each symbol whose newest bar has no answer, with the
            reason, for moves that look like splits or bad bars, and with one where many windows are
            unfamiliar, the model is old against its training period, it was saved before calls had
            a rule, or its calls are relative to the market.

    Returns:
        windows by symbol, then time.

    Raises:
        InputError: where the bars are faulty or give no window, or their interval, the features
            or the class order are not those of the contract, or its calls have an unknown rule;
            where features stand beside the market and most of its symbols are missing.
    """
    check_contract(contract, _("the model"))
    settings = settings_of(contract)
    bars = check_bars(bars, extra=settings.columns)
    _check_contract(contract, bars)
    prior, remark = prior_of_calls(contract)
    answered_symbols = bars["symbol"].cat.categories
    if universe is not None and settings.market:
        others = check_bars(universe, extra=settings.columns)
        _check_contract(contract, others)
        bars = with_universe(bars, others)
    length, names = contract["sequence_length"], bars["symbol"].cat.categories.to_numpy()
    parts = parts_of(contract, bars, newest_only=newest_only)
    features, timestamps, bounds = rows_of(contract, parts)
    ends = ends_within(bounds, length, 0)
    stops = np.cumsum([part.num_rows for part in parts])
    symbols = np.searchsorted(stops, ends, side="right")
    wanted = np.isin(names, answered_symbols)[symbols]
    if newest_only:
        answered = np.array([not part.fault for part in parts])
        wanted &= answered[symbols] & (ends == stops[symbols] - 1)
    ends, symbols = ends[wanted], symbols[wanted]
    if note is not None:
        answered_parts = [part for part in parts if part.symbol in answered_symbols]
        for text in remarks(
            answered_parts, symbols, warm_up_bars=settings.warm_up_bars, newest_only=newest_only
        ):
            note(text)
    if not len(ends):
        raise InputError(
            "a window needs {num_bars} bars of a symbol without a hole ({warm_up} "
            "of warm-up); no symbol has them",
            num_bars=settings.warm_up_bars + length,
            warm_up=settings.warm_up_bars,
        )
    if settings.market:
        known = universe_of(contract, parts, timestamps)
        text = check_universe(
            contract, [part.symbol for part in parts], known, ends, newest_only=newest_only
        )
        if text and note is not None:
            note(text)
    about = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(timestamps[ends], utc=True),
            "symbol": names[symbols],
            "unfamiliar": unfamiliar_shares(contract, features, ends),
        }
    )
    check_features(features, ends, length, contract["feature_names"], about)
    if note is not None:
        others = filter(None, [remark, _other_library(contract), _relative(contract)])
        for warning in [*warnings(contract, about), *others]:
            note(warning)
    return InferenceWindows(features, ends, length, about, prior)


def _relative(contract: Contract) -> str:
    """Returns what calls say where that is not the move of prices."""
    label = contract.get("label") or {}
    return relative_in_words() if label.get("reference") == MARKET else ""


def _other_library(contract: Contract) -> str:
    """Returns a warning where another version of TA-Lib made the features of the training."""
    versions = contract.get("versions")
    made = versions.get(_LIBRARY) if isinstance(versions, Mapping) else None
    try:
        here = importlib.metadata.version(_LIBRARY)
    except importlib.metadata.PackageNotFoundError:
        here = made
    if made in (None, here):
        return ""
    return _(
        "the model was trained on features from TA-Lib {made}; this is TA-Lib {here}, so answers "
        "may differ: pip install ta-lib=={made} to match",
        made=str(made),
        here=str(here),
    )


def prior_of_calls(contract: Contract) -> tuple[np.ndarray, str]:
    """Returns over which prior a model's calls are made, and a remark where that is not stored.

    Args:
        contract: of the model.

    Returns:
        class frequencies, float64 (classes,), and a sentence, empty for a model with the key
        `call`. Equal frequencies make the most probable class the call.

    Raises:
        InputError: where the contract names a rule that is not known here.
    """
    if "call" in contract:
        rule = contract["call"]["rule"]
        if rule != LARGEST_LIFT:
            raise InputError(
                "the model's calls must be made by the rule {known!r}, got {rule!r}: it was "
                "saved by another version of the project",
                known=LARGEST_LIFT,
                rule=rule,
            )
        return np.asarray(contract["call"]["prior"], np.float64), ""
    stored = contract.get("priors", {}).get("training_period")
    if stored is not None:
        return np.asarray(stored, np.float64), _(
            "the model was saved before calls had a rule: its calls are the classes that gain most "
            "over their frequencies in the training period"
        )
    return np.full(len(CLASS_NAMES), 1 / len(CLASS_NAMES)), _(
        "the model was saved without class frequencies: its calls are the most probable classes"
    )


def _check_names(needed: list[str], made: list[str]) -> None:
    """Raises InputError with the features that a model of another version has changed."""
    if needed == made:
        return
    gone = [name for name in needed if name not in made]
    new = [name for name in made if name not in needed]
    if gone or new:
        raise InputError(
            "the model's features must be those of this version of the project: it was trained "
            "on {gone}, which are not made any more, and without {new}; train it again",
            gone=listed(gone) or _("no others"),
            new=listed(new) or _("none that are made now"),
        )
    first = next(old for old, now in zip(needed, made, strict=True) if old != now)
    raise InputError(
        "the model's features must stand in the order of this version of the project, the "
        "first that does not is {name}; train it again",
        name=first,
    )


def _check_contract(contract: Contract, bars: pd.DataFrame) -> None:
    if list(contract["class_names"]) != list(CLASS_NAMES):
        raise InputError(
            "the model's classes must be {class_names}, got {given}",
            class_names=list(CLASS_NAMES),
            given=contract["class_names"],
        )
    names = settings_of(contract).names(intraday=contract["intraday"])
    _check_names(list(contract["feature_names"]), list(names))
    rule = contract.get("gaps", GAP_RULE)  # models that were saved before have no name for it
    if rule != GAP_RULE:
        raise InputError(
            "the model's holes in time must be told by the rule {known!r}, got {rule!r}: it "
            "was saved by another version of the project",
            known=GAP_RULE,
            rule=rule,
        )
    expected = contract["interval_seconds"]
    intervals = []
    places = symbol_bounds(bars["symbol"].cat.codes.to_numpy())
    for first, last in zip(places[:-1], places[1:], strict=True):
        times = bars["timestamp"].to_numpy("datetime64[ns]")[first:last]
        interval = grid_ns(times)
        if not interval:
            symbol = bars["symbol"].iloc[first]
            raise InputError("symbol {symbol}: {why}", symbol=symbol, why=no_grid(times))
        intervals += [interval / 1e9] * (len(times) > 1)
    interval = np.median(intervals or [expected])
    if abs(interval - expected) > _INTERVAL_TOLERANCE * expected:
        raise InputError(
            "the model was trained on bars {expected}, got bars {given}",
            expected=every(expected),
            given=every(float(interval)),
        )
