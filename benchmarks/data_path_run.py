"""The run that benchmarks/data_path.py measures: its file, its settings and its batches."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from data.batches.sampling import BatchPlan  # noqa: E402
from data.market.market import training_statistics  # noqa: E402
from data.market.settings import MarketSettings  # noqa: E402
from data.market.windows import first_window_ends  # noqa: E402

BARS = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
FILE = "crypto_5m_10sym_full.parquet"
RATIOS = (0.33, 0.40, 0.33)
LENGTH, NUM_FEATURES, BATCH = 60, 25, 256
ALL = {"noise_std": 0.02, "time_shift": 2, "mask_prob": 0.1, "mask_max_t": 4}


def settings(method: str = "volatility") -> MarketSettings:
    """Returns what the default flags of the project make a market by."""
    return MarketSettings(
        sequence_length=LENGTH,
        future_window=12,
        label_method=method,
        price_change_threshold=0.01,
        target_class_ratios=RATIOS,
        embargo_bars=12,
        max_gap_bars=5,
    )


def make_batches(market, features, augmentations, hard_share=lambda epoch: 0.4):
    """Returns the training batches of the market's fold, with all quotas."""
    from data.batches.datasets import WindowBatches

    fold = market.folds[0]
    labels, symbols = fold.labels[fold.train], market.symbols[fold.train]
    plan = BatchPlan(
        labels,
        symbols,
        batch_size=BATCH,
        seed=0,
        class_ratios=RATIOS,
        balance_classes=True,
        balance_symbols=True,
        hard_share=hard_share,
    )
    plan.set_hard_pool({c: np.flatnonzero(labels == c)[:45_000:50] for c in range(3)}, epoch=0)
    mean, variance = training_statistics(market, fold)
    return WindowBatches(
        features,
        fold.train,
        plan=plan,
        sequence_length=LENGTH,
        first_ends=first_window_ends(fold.train, market.bounds, LENGTH),
        augmentations=augmentations,
        feature_std=np.resize(np.sqrt(variance), features.shape[1]),
        fill=np.resize(mean, features.shape[1]),
    )
