"""The market that a model's features are relative to: which of its symbols have bars."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.contract import Contract
from core.errors import InputError
from core.i18n import _
from data.features.settings import settings_of
from data.features.universe import Universe
from data.market.moves import moment

_LEAST_SHARE = 0.5  # of the universe must have the newest bar
_MOST_NAMED = 12


class TooFewSymbols(InputError):
    """Most of the market that a model's features are relative to is missing.

    Args:
        reason: a sentence on what is missing.
        advice: what to do about it if a person gave the bars.
    """

    def __init__(self, reason: str, advice: str = ""):
        self.reason = reason
        super().__init__(f"{reason}: {advice}" if advice else reason)


def with_universe(bars: pd.DataFrame, universe: pd.DataFrame) -> pd.DataFrame:
    """Returns the bars joined with those of other symbols, by symbol, then time."""
    names = sorted({*bars["symbol"].cat.categories, *universe["symbol"].cat.categories})
    others = universe.loc[~universe["symbol"].isin(bars["symbol"].cat.categories)]
    kind = pd.CategoricalDtype(names)
    together = pd.concat([bars.astype({"symbol": kind}), others.astype({"symbol": kind})])
    return together.sort_values(by=["symbol", "timestamp"], ignore_index=True)


def symbols_needed(contract: Contract) -> int:
    """Returns how many symbols of the training must have a bar for an answer beside the market.

    At least half of those that traded at its end, and at least as many as form a market.
    """
    total = len(contract["universe"])
    least = min(settings_of(contract).market_min_symbols, total)
    return max(int(np.ceil(_LEAST_SHARE * total)), least)


def check_universe(
    contract: Contract,
    names: Sequence[str],
    universe: Universe,
    ends: np.ndarray,
    *,
    newest_only: bool,
) -> str:
    """Returns a remark on windows with few symbols of the training beside them; "" if none.

    Args:
        contract: of the model.
        names: of the symbols in `universe`.
        universe: the closes of all rows' bars.
        ends: rows of the windows' last bars.
        newest_only: whether these are only the newest windows.

    Raises:
        TooFewSymbols: if too few symbols have the newest bar (see `symbols_needed`); for all
            windows, if no window has enough.
    """
    expected = contract["universe"]
    needed = symbols_needed(contract)
    moments, counts = np.unique(np.concatenate(universe.closes)[ends], return_counts=True)
    present = universe.at(moments) >= 0
    there = present.sum(axis=1)
    if there[-1] < needed and (newest_only or (there < needed).all()):
        have = {name for name, here in zip(names, present[-1], strict=True) if here}
        missing = [name for name in expected if name not in have]
        raise TooFewSymbols(
            _(
                "answers stand beside a market of {total} symbols, {least} of which at least must "
                "have the bar that closes at {time} UTC; {count} have, missing are {missing}",
                total=len(expected),
                least=needed,
                count=int(there[-1]),
                time=moment(moments[-1].view("datetime64[ns]")),
                missing=first_of(missing),
            ),
            _("add their bars, or name them with --universe PATH"),
        )
    few = int(counts[there < needed].sum())
    if not few:
        return ""
    return _(
        "{few:,} of {total:,} windows end when fewer than {least} of the {symbols} symbols of the "
        "training had a bar: their answers stand beside a smaller market, or none",
        least=needed,
        few=few,
        total=int(counts.sum()),
        symbols=len(expected),
    )


def first_of(names: Sequence[str]) -> str:
    """Returns the first few names, separated by commas."""
    return ", ".join(names[:_MOST_NAMED]) + ", ..." * (len(names) > _MOST_NAMED)
