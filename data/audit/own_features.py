"""The audit of features of one's own before a training: none looks ahead, or too far back."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from core.errors import InputError
from core.i18n import _
from data.audit.cuts import alter_bars
from data.features.own import OwnFeature, OwnFeatures

_SYMBOLS, _BARS = 3, 2000  # that are looked at: those with most bars, their newest ones
_CUTS = 12
_EXACT, _NEAR = 1e-5, 1e-2  # of a column's deviation: of its past alone an average may forget


def check_own_features(bars: pd.DataFrame, features: OwnFeatures) -> None:
    """Checks that no feature depends on bars after its own, or on more of the past than it says.

    The bars after a dozen moments are cut off, then altered; then those before the past.

    Args:
        bars: checked.
        features: of a person's own file.

    Raises:
        InputError: with a line for each function at fault.
    """
    counts = bars["symbol"].value_counts()
    parts = [bars[bars["symbol"] == symbol] for symbol in counts.index[:_SYMBOLS]]
    newest = [part.iloc[-(_BARS + features.past_bars) :].reset_index(drop=True) for part in parts]
    faults = []
    for feature in features.features:
        first = next((fault for part in newest for fault in _faults(part, feature)), None)
        faults += [first] if first else []
    if faults:
        raise InputError(faults)


def _faults(bars: pd.DataFrame, feature: OwnFeature) -> Iterator[str]:
    past, rng = feature.past_bars, np.random.default_rng(0)
    rows = np.arange(past, len(bars) - 1)
    if not len(rows):
        return
    # In a row, too: what looks ahead at some bars alone shows where it is cut there.
    first = int(rng.choice(rows[: max(len(rows) - _CUTS // 2, 1)]))
    drawn = {*rng.choice(rows, min(len(rows), _CUTS // 2), replace=False).tolist()}
    cuts = sorted(drawn | set(range(first, min(first + _CUTS // 2, int(rows[-1]) + 1))))
    whole = feature.compute(bars)
    scale = whole[past:].std(axis=0)
    for cut in cuts:
        for later in (bars.iloc[: cut + 1], alter_bars(bars, np.arange(len(bars)) > cut)):
            made = feature.compute(later)[past : cut + 1]
            column = _differs(made, whole[past : cut + 1], _EXACT * scale)
            if column is not None:
                yield _told(bars, feature, column, cut, _("it looks ahead"))
        made = feature.compute(bars.iloc[cut - past : cut + 1])[-1:]
        column = _differs(made, whole[cut : cut + 1], _NEAR * scale)
        if column is not None:
            what = _(
                "it depends on more than the {past} bars before; say on how many with "
                "@feature(past_bars=...), or limit its memory",
                past=past,
            )
            yield _told(bars, feature, column, cut, what)


def _differs(made: np.ndarray, whole: np.ndarray, slack: np.ndarray) -> int | None:
    """Returns the first column that differs."""
    apart = np.abs(made - whole) > slack + 1e-5 * np.abs(whole)
    return int(apart.any(axis=0).argmax()) if apart.any() else None


def _told(bars: pd.DataFrame, feature: OwnFeature, column: int, cut: int, what: str) -> str:
    return _(
        "the feature {name} ({column}) at {time} of {symbol}: {what}",
        name=feature.name,
        column=feature.columns[column],
        time=str(bars["timestamp"].iloc[cut])[:16],
        symbol=bars["symbol"].iloc[cut],
        what=what,
    )
