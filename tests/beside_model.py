"""An untrained model whose features stand beside the market, and made-up bars of its symbols."""

import keras
import pandas as pd

from data.bars.synthetic import random_walk
from data.features.settings import FeatureSettings
from models.calibration import RestoreProbabilities
from models.deployable import make_deployable
from models.xlstm_rl_model import build_xlstm_classifier

LENGTH = 10
# As different files have them; an exchange calls them AAA/USDT to ETH/USDT.
UNIVERSE = ["AAA/USDT", "BBB_USDT", "BTCUSDT", "CCCUSDT", "DDDUSDT", "ETH-USDT"]


def random_bars(num_bars, start_ms=1_700_000_100_000, step_ms=300_000):
    """Returns bars of all symbols at the same times."""
    bars = random_walk(len(UNIVERSE), num_bars)
    numbers = bars.groupby("symbol", observed=True).cumcount()
    bars["timestamp"] = pd.to_datetime(start_ms + numbers * step_ms, unit="ms", utc=True)
    bars["symbol"] = bars["symbol"].cat.rename_categories(UNIVERSE)
    return bars


def make_model(*, to_save=False, **changes):
    """Returns the model; one to save has layers of the project alone, and is slower to make."""
    keras.utils.set_random_seed(0)
    features = changes.pop("features", FeatureSettings(market=("log_return_1", "rsi")))
    names = features.names(intraday=True)
    inputs = keras.Input((LENGTH, len(names)))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    if to_save:
        network = build_xlstm_classifier(LENGTH, len(names), units=4, num_heads=2, blocks="m")
    contract = {
        "class_names": ["SELL", "HOLD", "BUY"],
        "feature_names": list(names),
        "features": features.as_dict(),
        "sequence_length": LENGTH,
        "max_gap_bars": 2,
        "intraday": True,
        "interval_seconds": 300.0,
        "symbols": UNIVERSE,
        "universe": UNIVERSE,
        "call": {"rule": "largest lift", "prior": [0.3, 0.4, 0.3]},
    }
    return make_deployable(network, RestoreProbabilities(), contract | changes)
