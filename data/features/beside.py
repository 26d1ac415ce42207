"""Sets a symbol's features beside those of the market, the other symbols at the same moment."""

from collections.abc import Sequence

import numpy as np

from data.features.settings import FeatureSettings
from data.features.universe import Universe, trimmed

_ROUNDING = 1e-9
MOST_SPREADS = 10.0  # at which the distance from the market is cut


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


def _forms(own: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> dict[str, np.ndarray]:
    """Returns how values (rows, features) stand beside the market, the same shape each."""
    mean = np.where(np.isnan(mean), own, mean)
    difference = own - mean
    # A spread that is a millionth of the mean, or of a ratio, is rounding.
    wide = spread > np.maximum(1e-6 * np.abs(mean), _ROUNDING)
    units = np.divide(difference, spread, out=np.zeros_like(difference), where=wide)
    return {
        "mean": mean,
        "difference": difference,
        "spread": np.clip(units, -MOST_SPREADS, MOST_SPREADS),
    }
