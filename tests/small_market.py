"""What small markets of tests are made with, by `data.market.market.build_market`."""

from data.market.settings import MarketSettings

SETTINGS = MarketSettings(
    sequence_length=10,
    future_window=4,
    label_method="volatility",
    price_change_threshold=0.01,
    target_class_ratios=(0.33, 0.40, 0.33),
    embargo_bars=3,
    max_gap_bars=2,
)
