"""What the validation windows give to the fitted baselines: test MCC and NLL without and with them.

    python benchmarks/baselines.py

On the sample, the 15-minute bars of the folder XLSTM_DATA_DIR and a synthetic drift. Prints the
table of benchmarks/intervals.md.
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from sklearn.base import clone  # noqa: E402

from config import Flags  # noqa: E402
from data.market.market import build_market  # noqa: E402
from evaluation import baselines  # noqa: E402
from evaluation import judge as evaluate  # noqa: E402
from evaluation.metrics import evaluate as metrics_of  # noqa: E402
from recipe.run.market import bars_or_sample, market_settings  # noqa: E402

REAL = Path(os.environ.get("XLSTM_DATA_DIR", ROOT.parent / "shared" / "data"))
BARS = {
    "sample": None,
    "15-minute bars": str(REAL / "crypto_15m.csv.gz"),
    "persistent drift": "synthetic:persistent_drift",
}


def without_validation(fitted: baselines.Fitted, x: np.ndarray, y: np.ndarray) -> baselines.Fitted:
    """Returns the baseline as it would be had it not seen the validation windows."""
    plain = clone(fitted.estimator)
    if "max_iter" in plain.get_params():
        plain.set_params(max_iter=max(baselines.ROUNDS))
    return baselines.Fitted(plain.fit(x, y), fitted.classes)


def timed(function, *arguments):
    """Returns what the function returns, and the seconds that it took."""
    begun = time.perf_counter()
    return function(*arguments), time.perf_counter() - begun


def main() -> None:
    print("| bars | baseline | MCC without, with | NLL without, with | chosen | fit, s |")
    print("|---|---|---:|---:|---|---:|")
    for source, path in BARS.items():
        market = build_market(bars_or_sample(path), **market_settings(Flags()))
        windows = evaluate.fitting_windows(market, market.folds[0])
        x, labels = windows["test"]
        for name, fit in evaluate.FITTED.items():
            after, now = timed(fit, *windows["train"], *windows["validation"])
            before, then = timed(without_validation, after, *windows["train"])
            old, new = (metrics_of(labels, one.predict_proba(x)) for one in (before, after))
            chosen = (
                f"temperature {after.temperature:.2f}"
                if name == "logistic regression"
                else f"{after.estimator.n_iter_} rounds"
            )
            scores = [f"{old[key]:.4f}, {new[key]:.4f}" for key in ("mcc", "nll")]
            fits = f"{then:.1f}, {now:.1f}"
            print(f"| {source} | {name} | {' | '.join(scores)} | {chosen} | {fits} |", flush=True)


if __name__ == "__main__":
    main()
