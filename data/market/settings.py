"""What a market is made by: windows, labels, features and splits."""

from dataclasses import dataclass, field

from core.errors import InputError
from data.features.settings import FeatureSettings
from data.market import labels as labelling
from data.market.relative import MARKET, REFERENCES

SCORES, PATH = ("scores",), ("close", "high", "low", "scale")  # what labels are made of


@dataclass(frozen=True)
class MarketSettings:
    """How rows, labels, windows and splits are made of bars.

    Attributes:
        sequence_length: bars of a window.
        future_window: bars from a window's last bar to the end of its label.
        label_method: "volatility", "fixed" or "triple_barrier".
        price_change_threshold: relative move of the "fixed" labels; unused by the others.
        target_class_ratios: SELL, HOLD, BUY, any scale; HOLD's share sets the threshold.
        embargo_bars: bars kept free between the splits.
        max_gap_bars: missed trading bars that a window may cross; see
            `data.bars.sessions.missed_bars`. After a larger hole a symbol begins anew.
        validation_fraction: share of the time range.
        test_fraction: share of the time range; unused with several folds.
        num_folds: 1 for the single split, more for a walk-forward.
        rolling: whether walk-forward training spans keep their length.
        label_reference: "none": a label is that of the symbol's move; "market": of the move less
            the market's over the same bars, see `data.market.relative`.
        features: which features the rows have.

    Raises:
        InputError: for values that cannot be.
    """

    sequence_length: int
    future_window: int
    label_method: str
    price_change_threshold: float
    target_class_ratios: tuple[float, ...]
    embargo_bars: int
    max_gap_bars: int
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    num_folds: int = 1
    rolling: bool = False
    label_reference: str = "none"
    features: FeatureSettings = field(default_factory=FeatureSettings)

    def __post_init__(self):
        labelling.hold_share(self.target_class_ratios)
        labelling.check_method(self.label_method, self.future_window)
        if self.label_method == "fixed" and not self.price_change_threshold > 0:
            raise InputError(
                "the price change must be above 0, got {price_change_threshold}",
                price_change_threshold=self.price_change_threshold,
            )
        if self.sequence_length < 1:
            raise InputError(
                "a window must have at least 1 bar, got {sequence_length}",
                sequence_length=self.sequence_length,
            )
        if self.label_reference not in REFERENCES:
            raise InputError(
                "the label reference must be one of {known}, got {got!r}",
                known=", ".join(REFERENCES),
                got=self.label_reference,
            )
        if self.relative and self.label_method == "triple_barrier":
            raise InputError(
                "labels relative to the market must be made by volatility or fixed, got "
                "triple_barrier: no bar tells when a move less the market's touched a barrier"
            )

    @property
    def relative(self) -> bool:
        """Whether labels are those of moves less the market's."""
        return self.label_reference == MARKET

    @property
    def warm_up_bars(self) -> int:
        """Bars of a symbol before its first row."""
        return self.features.warm_up_bars

    @property
    def num_bars_needed(self) -> int:
        """Bars that a symbol must have to give one window."""
        return self.warm_up_bars + self.sequence_length + self.future_window

    @property
    def num_bars_used(self) -> int:
        """Bars that a symbol must have to give a row: it may count in the market's means."""
        return self.warm_up_bars + 1 if self.features.market else self.num_bars_needed

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that the labels are made of, and nothing else needs."""
        return PATH if self.label_method == "triple_barrier" else SCORES
