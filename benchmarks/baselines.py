"""What the fitted baselines are worth: MCC of their calls and NLL on the test windows.

    python benchmarks/baselines.py

On the sample, on real bars of the folder XLSTM_DATA_DIR and on a synthetic drift, one after the
other. Prints the first table of benchmarks/baselines.md.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402
from sklearn.metrics import matthews_corrcoef  # noqa: E402

from config import Flags  # noqa: E402
from core.calls import calls  # noqa: E402
from data.market.market import build_market, training_prior  # noqa: E402
from evaluation.baselines.fitted import Fitted  # noqa: E402
from evaluation.baselines.fold import FITTED, fitting_windows  # noqa: E402
from recipe.run.market import bars_or_sample, market_settings  # noqa: E402

REAL = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
BARS = {
    "sample": None,
    "15-minute bars": str(REAL / "crypto_15m.csv.gz"),
    "hourly bars": str(REAL / "crypto_1h_136sym.parquet"),
    "persistent drift": "synthetic:persistent_drift?bars=5000&symbols=8&seed=0",
}
SYMBOLS = {"hourly bars": 20}  # the first by name


def read(source: str) -> pd.DataFrame:
    """Returns the bars of a source, of its first symbols where they are many."""
    bars = bars_or_sample(BARS[source])
    names = sorted(bars["symbol"].unique())[: SYMBOLS.get(source)]
    kept = bars[bars["symbol"].isin(names)].reset_index(drop=True)
    return kept.assign(symbol=kept["symbol"].cat.remove_unused_categories())


def described(fitted: Fitted, num_windows: int) -> str:
    """Returns what was chosen for a learner."""
    if fitted.rounds is not None:
        return f"{fitted.rounds} rounds"
    return f"penalty {1 / (fitted.estimator[-1].C * num_windows):.3g}"


def main() -> None:
    print("| bars | training windows | baseline | MCC | NLL | chosen | temperature | CPU, s |")
    print("|---|---:|---|---:|---:|---|---:|---:|")
    for source in BARS:
        market = build_market(read(source), market_settings(Flags()))
        (fold,) = market.folds
        windows = fitting_windows(market, fold)
        test, num_windows = windows["test"], len(windows["train"].labels)
        prior = training_prior(fold)
        for name, fit in FITTED.items():
            begun = time.process_time()
            fitted = fit(windows["train"], windows["validation"], prior=prior)
            seconds = time.process_time() - begun
            probabilities = fitted.predict_proba(test.x)
            mcc = matthews_corrcoef(test.labels, calls(probabilities, prior))
            scores = f"{mcc:.4f} | {fitted.losses(test).mean():.4f}"
            chosen = f"{described(fitted, num_windows)} | {fitted.temperature:.4g}"
            line = f"{source} | {num_windows:,} | {name} | {scores} | {chosen} | {seconds:.1f}"
            print(f"| {line} |", flush=True)


if __name__ == "__main__":
    main()
