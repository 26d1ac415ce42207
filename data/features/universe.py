"""Which bars of all symbols are known at a moment, their mean, and features set beside it.

A bar is known when it has closed. At a moment a symbol takes part with the last bar that has, as
long as that closed less than one of its own bars ago: where all symbols have bars at the same times
it is the bar of that time, or none where it is missing; bars of other lengths or other clocks are
the last closed ones.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.i18n import ngettext
from data.features.settings import FeatureSettings

_CELLS = 1 << 20  # moments times symbols looked at at a time
_LATE = 0.05  # of a bar: feeds are late by seconds
_MOST_NAMED = 12  # symbols in a note
_MOST_KEPT = 4  # moments times symbols, in bars
TRIMMED = 0.1  # share of the symbols left out at either end, at least one
_ROUNDING = 1e-9
MOST_SPREADS = 10.0  # at which the distance from the market is cut


class Universe:
    """When the bars of many symbols close.

    Args:
        closes: for each symbol when its bars close, rising, nanoseconds since 1970, (bars,).
        lengths: of a bar of each symbol, nanoseconds.
        members: which of the symbols take part, bool (symbols,); all by default.
        settled: bars of a symbol after which it takes part.

    Attributes:
        starts: number of the first bar of each symbol among those of all, then how many there are.
        times: all moments at which a bar closes, rising.
    """

    def __init__(
        self,
        closes: Sequence[np.ndarray],
        lengths: Sequence[int],
        members: np.ndarray | None = None,
        settled: int = 0,
    ):
        self.closes, self._lengths, self._settled = closes, lengths, settled
        self.starts = np.concatenate([[0], np.cumsum([len(own) for own in closes])])
        self._members = np.ones(len(closes), bool) if members is None else members
        self._kept: np.ndarray | None = None
        self.times = np.unique(np.concatenate([np.zeros(0, np.int64), *closes]))

    def at(self, times: np.ndarray) -> np.ndarray:
        """Returns the number of each symbol's bar at some moments, -1 where it has none.

        Args:
            times: nanoseconds since 1970, (moments,).

        Returns:
            int64 (moments, symbols).
        """
        numbers = np.full((len(times), len(self.closes)), -1)
        for symbol in np.flatnonzero(self._members).tolist():
            closes = self.closes[symbol]
            if len(closes):
                last = np.searchsorted(closes, times, side="right") - 1
                known = (last >= self._settled) & (times - closes[last] < self._lengths[symbol])
                numbers[known, symbol] = last[known] + self.starts[symbol]
        return numbers

    def at_places(self, part: slice) -> np.ndarray:
        """Returns the same for some of `times`, which are kept where they are not too many."""
        cells = len(self.times) * len(self.closes)
        if cells > _MOST_KEPT * self.starts[-1]:
            return self.at(self.times[part])
        if self._kept is None:
            kind = np.int32 if self.starts[-1] < 1 << 31 else np.int64
            self._kept = np.empty((len(self.times), len(self.closes)), kind)
            for part_of_all in self.chunks(len(self.times)):
                self._kept[part_of_all] = self.at(self.times[part_of_all])
        return self._kept[part]

    def chunks(self, count: int) -> Iterator[slice]:
        """Yields slices of so many moments, of which each is looked at at a time."""
        size = max(_CELLS // max(len(self.closes), 1), 1)
        for start in range(0, count, size):
            yield slice(start, start + size)


def trimmed(values: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the trimmed mean of each moment's values, and their deviation from it.

    Of n symbols the lowest and the highest tenth are left out, and at least one at either end: no
    single symbol can move the mean further than its neighbours are apart (Tukey 1962).

    Args:
        values: (moments, symbols), NaN where a symbol takes no part.
        least: symbols that must, at least 3.

    Returns:
        mean and root mean square deviation of the kept values, float64 (moments,); NaN where too
        few take part. The order of the symbols and absent ones change nothing, not even rounding.
    """
    ranked = np.sort(values, axis=1)  # NaN comes last
    counts = values.shape[1] - np.count_nonzero(np.isnan(ranked), axis=1)
    mean, spread = np.full((2, len(values)), np.nan)
    for count in np.unique(counts[counts >= least]).tolist():
        rows, cut = np.flatnonzero(counts == count), max(int(count * TRIMMED), 1)
        kept = ranked[rows, cut : count - cut].astype(np.float64)
        mean[rows] = kept.mean(axis=1)
        kept -= mean[rows, None]
        spread[rows] = np.sqrt(np.square(kept, out=kept).mean(axis=1))
    return mean, spread


def other_clocks(clocks: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Yields a sentence where bars of some symbols close at other times than those of most.

    Args:
        clocks: by symbol the length of a bar and when in it one closes, nanoseconds.
    """
    usual, phase = Counter(clocks.values()).most_common(1)[0][0]
    others = [
        symbol
        for symbol, (length, own) in clocks.items()
        if length != usual or abs((own - phase + usual // 2) % usual - usual // 2) > _LATE * usual
    ]
    if others:
        yield ngettext(
            "the bars of {n} symbol close at other times than those of most: {names}; beside the "
            "market its last closed bar counts",
            "the bars of {n} symbols close at other times than those of most: {names}; beside the "
            "market their last closed bars count",
            len(others),
            names=", ".join(others[:_MOST_NAMED]) + ", ..." * (len(others) > _MOST_NAMED),
        )


def fill_beside(
    features: np.ndarray, names: Sequence[str], universe: Universe, settings: FeatureSettings
) -> None:
    """Writes the columns beside the market, of all rows, from the columns of the symbols' own bars.

    Of each feature in `settings.market`: "mean", the market's trimmed mean; "difference", the
    symbol's own value less it; "spread", that difference in units of the deviation across the
    symbols, within +-10. Where fewer symbols than `settings.market_min_symbols` have a bar the
    market is the symbol itself.

    Args:
        features: (rows, features), symbol after symbol as in `universe`; changed in place.
        names: of its columns.
        universe: when the rows' bars close.
        settings: which features stand beside the market.
    """
    own = [names.index(name) for name in settings.market]
    first = names.index(f"market_{settings.market_forms[0]}_{settings.market[0]}")
    step = len(settings.market_forms)
    means = np.empty((len(own), len(universe.times)), np.float32)
    spreads = np.empty_like(means)
    for number, column in enumerate(own):
        values = np.ascontiguousarray(features[:, column])
        for part in universe.chunks(len(universe.times)):
            rows = universe.at_places(part)
            here = values[rows]
            here[rows < 0] = np.nan
            means[number, part], spreads[number, part] = trimmed(here, settings.market_min_symbols)
    for symbol, closes in enumerate(universe.closes):
        moments = np.searchsorted(universe.times, closes)
        part = features[universe.starts[symbol] : universe.starts[symbol + 1]]
        forms = _forms(part[:, own], means[:, moments].T, spreads[:, moments].T)
        for number, form in enumerate(settings.market_forms):
            part[:, first + number : first + step * len(own) : step] = forms[form]


def _forms(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> dict[str, np.ndarray]:
    """Returns how values (rows, features) stand beside the market, the same shape each."""
    mean = np.where(np.isnan(mean), values, mean)
    difference = values - mean
    # A spread that is a millionth of the mean, or of a ratio, is rounding.
    wide = spread > np.maximum(1e-6 * np.abs(mean), _ROUNDING)
    units = np.divide(difference, spread, out=np.zeros_like(difference), where=wide)
    return {
        "mean": mean,
        "difference": difference,
        "spread": np.clip(units, -MOST_SPREADS, MOST_SPREADS),
    }
