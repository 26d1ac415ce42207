"""Seconds from the bars of many symbols to the answers for the newest bar of each.

    python benchmarks/latest.py [--symbols 500] [--bars 5060] [--beside-market] [--profile]

Made-up bars and a small untrained model, whose features stand beside the market where that is
asked for. The first call traces the model; the median of the
next ones is what a live answer takes. `--bars` is the past of each symbol: 5060 is what
`predict --exchange` asks for with windows of 60 bars.
"""

import argparse
import cProfile
import os
import pstats
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np
import pandas as pd

from data.bars.synthetic import random_walk
from data.features.indicators import FORGOTTEN_AFTER_BARS
from data.features.settings import STANDARD, FeatureSettings
from data.market.labels import CLASS_NAMES
from models.calibration import RestoreProbabilities
from models.deployable import make_deployable
from models.xlstm_rl_model import build_xlstm_classifier
from recipe.serve.predict import classify_latest

LENGTH = 60


def small_model(symbols: list[str], features: FeatureSettings) -> keras.Model:
    names = list(features.names(intraday=True))
    classifier = build_xlstm_classifier(LENGTH, len(names), units=32)
    contract = {
        "class_names": list(CLASS_NAMES),
        "feature_names": names,
        "features": features.as_dict(),
        "symbols": symbols,
        "universe": symbols,
        "sequence_length": LENGTH,
        "max_gap_bars": 5,
        "intraday": True,
        "interval_seconds": 900.0,
        "training_ranges": [[-3.0] * len(names), [3.0] * len(names)],
    }
    return make_deployable(classifier, RestoreProbabilities(), contract)


def many_symbols(num_symbols: int, num_bars: int) -> pd.DataFrame:
    """Returns bars of symbols that are alike but for their name: making them takes no time."""
    one = random_walk(1, num_bars)
    numbers = one.drop(columns="symbol")
    bars = pd.concat([numbers] * num_symbols, ignore_index=True)
    names = [f"SYN{number:03d}" for number in range(num_symbols)]
    bars["symbol"] = pd.Categorical.from_codes(np.repeat(np.arange(num_symbols), num_bars), names)
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--bars", type=int, default=FORGOTTEN_AFTER_BARS + LENGTH)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside-market", action="store_true", help="MARKET_FEATURES=standard")
    parser.add_argument("--profile", action="store_true", help="where the time of a call goes")
    options = parser.parse_args()
    bars = many_symbols(options.symbols, options.bars)
    features = FeatureSettings(market=STANDARD if options.beside_market else ())
    model = small_model(list(bars["symbol"].cat.categories), features)
    seconds, processors = [], []
    for _ in range(1 + options.rounds):
        start, used = time.perf_counter(), time.process_time()
        classify_latest(model, bars)
        seconds.append(time.perf_counter() - start)
        processors.append(time.process_time() - used)
    print(
        f"{options.symbols} symbols of {options.bars} bars: first {seconds[0]:.2f} s, "
        f"then {np.median(seconds[1:]):.2f} s ({np.median(processors[1:]):.2f} s of processors)"
    )
    if options.profile:
        with cProfile.Profile() as profile:
            classify_latest(model, bars)
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
