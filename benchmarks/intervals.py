"""How often the verdict's 95 % interval misses the truth, and how often it finds a weak skill.

    python benchmarks/intervals.py [--cases 1000] [--power-cases 300] [--workers 2]

Each case is a market of eight symbols with overlapping labels. Its forecasters are smooth functions
of past bars: they keep their calls for as long as a model does. "fitted" is a linear classifier on
the last bar and on means over the window and its last quarter, by least squares on the bars before
the test; "random" is the same with random weights; "persistence" calls the move that has ended.
With no skill by construction a forecaster is judged on the labels of other walks than its own. On
its own walk it may have a little: past volatility is an estimate, and what it lacks says something
of HOLD. Prints the tables of benchmarks/intervals.md.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker for each core
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from scipy.stats import norm  # noqa: E402
from scipy.stats import t as student  # noqa: E402

from data.features import WARM_UP_BARS  # noqa: E402
from data.market import build_market  # noqa: E402
from data.synthetic import persistent_drift, random_walk  # noqa: E402
from evaluation.metrics import mcc  # noqa: E402
from evaluation.verdict import confusions, interval, left_out  # noqa: E402

LENGTH, HORIZON, SYMBOLS = 60, 12, 8
SPAN = LENGTH + HORIZON - 1  # bars between a window's first bar and its label's end
NUM_BLOCKS = (10, 20, 42)
TRAIN_BARS, VALIDATION_BARS, TEST_BARS = 1500, 160, max(NUM_BLOCKS) * SPAN
DRIFT = 0.17  # of a bar, in units of its volatility: a test MCC of about 0.058
OTHERS = 5  # walks whose labels a forecaster is judged on
RESAMPLES = 400
FORECASTERS = ("fitted", "random", "persistence")
JUDGED = ("fitted", "random", "fitted less random", "fitted less persistence")


def simulate(seed: int, drift: float = 0.0) -> np.ndarray:
    """Returns labels and the calls of each forecaster, int8 (1 + forecasters, bars, symbols)."""
    num_ends = TRAIN_BARS + VALIDATION_BARS + TEST_BARS
    num_bars = num_ends + WARM_UP_BARS + SPAN
    market = build_market(
        persistent_drift(SYMBOLS, num_bars, seed, strength=drift)
        if drift
        else random_walk(SYMBOLS, num_bars, seed),
        sequence_length=LENGTH,
        future_window=HORIZON,
        label_method="volatility",
        price_change_threshold=0.01,
        target_class_ratios=(0.33, 0.40, 0.33),
        embargo_bars=HORIZON,
        max_gap_bars=5,
        validation_fraction=VALIDATION_BARS / num_ends,
        test_fraction=(TEST_BARS + 0.5) / num_ends,
    )
    fold, totals = market.folds[0], np.cumsum(market.features, axis=0, dtype=float)
    train, test = (_summaries(market.features, totals, ends) for ends in (fold.train, fold.test))
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-9
    train, test = ((np.insert((x - mean) / spread, 0, 1, axis=1)) for x in (train, test))
    ridge = 0.01 * len(train) * np.eye(train.shape[1])
    weights = np.linalg.solve(train.T @ train + ridge, train.T @ np.eye(3)[fold.labels[fold.train]])
    random = np.random.default_rng((seed, SYMBOLS)).normal(size=weights.shape)
    random[0] = 0
    calls = (test @ weights).argmax(axis=1), (test @ random).argmax(axis=1)
    rows = np.stack([fold.labels[fold.test], *calls, fold.persistence[fold.test]])
    return rows.reshape(len(rows), SYMBOLS, -1)[:, :, :TEST_BARS].swapaxes(1, 2).astype(np.int8)


def _summaries(features: np.ndarray, totals: np.ndarray, ends: np.ndarray) -> np.ndarray:
    means = [(totals[ends] - totals[ends - bars]) / bars for bars in (LENGTH - 1, LENGTH // 4)]
    return np.concatenate([features[ends], *means], axis=1)


def block_tables(labels: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Returns the confusion matrices of all blocks, (blocks, 3, 3), of (bars, symbols)."""
    blocks = np.repeat(np.arange(len(labels)) // SPAN, labels.shape[1])
    return confusions(blocks, labels.ravel().astype(int), np.eye(3)[calls.ravel()])


def judged(labels: np.ndarray, calls: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what is judged and its tables, (1 or 2, blocks, 3, 3): itself and what it is less."""
    tables = dict(zip(FORECASTERS, (block_tables(labels, own) for own in calls), strict=True))
    for name in JUDGED:
        yield name, np.stack([tables[part] for part in name.split(" less ")])


def jackknife(tables: np.ndarray) -> list[float]:
    """Returns the verdict's interval."""
    return interval(_value(mcc(tables.sum(axis=1))), _value(left_out(tables)), widest=2.0)


def bootstrap(tables: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Returns the percentile interval of drawn blocks, expanded as in Hesterberg (2015)."""
    count = tables.shape[1]
    draws = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    values = _value(mcc(np.einsum("rb,mbij->mrij", draws, tables, optimize=True)))
    width = np.sqrt(count / (count - 1)) * student.ppf(0.025, count - 1)
    return list(np.quantile(values, [norm.cdf(width), norm.cdf(-width)]))


def _value(scores: np.ndarray) -> np.ndarray:
    return scores[0] - scores[1] if len(scores) > 1 else scores[0]


def both_intervals(pair: tuple[int, np.ndarray, np.ndarray]) -> dict[tuple, tuple]:
    """Returns MCC and both intervals by what is judged and by the number of blocks."""
    seed, labels, calls = pair
    rng, found = np.random.default_rng(seed), {}
    for name, tables in judged(labels, calls):
        for count in NUM_BLOCKS:
            first = tables[:, :count]
            value = _value(mcc(first.sum(axis=1)))
            found[name, count] = (value, *bootstrap(first, rng), *jackknife(first))
    return found


def measure(pool, pairs) -> dict[tuple, np.ndarray]:
    """Returns (cases, 5): MCC, low and high of the bootstrap, low and high of the jackknife."""
    cases = list(pool.imap(both_intervals, pairs, chunksize=16))
    return {key: np.array([case[key] for case in cases]) for key in cases[0]}


def misses(found: np.ndarray, first: int, truth: float = 0.0) -> str:
    return f"{100 * np.mean((found[:, first] > truth) | (found[:, first + 1] < truth)):.1f} %"


def misses_mean(found: np.ndarray, first: int) -> str:
    """Returns how often the mean MCC of all cases is missed, where the truth need not be 0."""
    return misses(found, first, truth=found[:, 0].mean())


def finds(found: np.ndarray, first: int) -> str:
    return f"{100 * np.mean(found[:, first] > 0):.0f} %"


def show(title: str, found: dict[tuple, np.ndarray], share, names=JUDGED) -> None:
    """Prints a table: for each number of blocks the share and the width, before and now."""
    print(f"\n## {title}\n")
    columns = " | ".join(f"{n} blocks: bootstrap | jackknife | width" for n in NUM_BLOCKS)
    print(f"| judged | mean MCC | {columns} |")
    print("|---|---:|" + "---:|" * 3 * len(NUM_BLOCKS))
    for name in names:
        cells = [f"{found[name, max(NUM_BLOCKS)][:, 0].mean():+.4f}"]
        for count in NUM_BLOCKS:
            own = found[name, count]
            widths = [np.mean(own[:, i + 1] - own[:, i]) for i in (1, 3)]
            cells += [share(own, 1), share(own, 3), f"{widths[0]:.3f}, {widths[1]:.3f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--power-cases", type=int, default=300)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with Pool(options.workers) as pool:
        walks = list(pool.imap(simulate, range(options.cases), chunksize=4))
        apart = (
            (i * OTHERS + shift, walk[0], walks[(i + shift + 1) % len(walks)][1:])
            for i, walk in enumerate(walks)
            for shift in range(OTHERS)
        )
        title = f"No skill by construction: misses 0 in {OTHERS * len(walks):,} cases"
        show(f"{title} of {len(walks):,} walks", measure(pool, apart), misses)
        own = measure(pool, ((i, walk[0], walk[1:]) for i, walk in enumerate(walks)))
        show(f"On its own walk: misses 0 in {len(walks):,} cases", own, misses)
        show("On its own walk: misses the mean MCC of all cases", own, misses_mean)
        drifts = pool.imap(partial(simulate, drift=DRIFT), range(options.power_cases), chunksize=4)
        weak = ((i, market[0], market[1:]) for i, market in enumerate(drifts))
        title = f"A weak drift: interval above 0 in {options.power_cases:,} cases"
        show(title, measure(pool, weak), finds, names=("fitted",))


if __name__ == "__main__":
    main()
