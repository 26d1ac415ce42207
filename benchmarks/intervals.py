"""How often the verdict's 95 % interval misses the truth, and how often it finds a weak skill.

    python benchmarks/intervals.py [--cases 1000] [--power-cases 300] [--workers 2] [--skill NAME]

Each case is a market of eight symbols with overlapping labels. Its forecasters are smooth functions
of past bars: they keep their calls for as long as a model does. "fitted" is a linear classifier on
the last bar and on means over the window and its last quarter, by least squares on the bars before
the test; "random" is the same with random weights; "persistence" calls the move that has ended.
With no skill by construction a forecaster is judged on the labels of other walks than its own. On
its own walk it may have a little: past volatility is an estimate, and what it lacks says something
of HOLD. "equal" are five random ones, each in turn the model and the others its baselines. Prints
the tables of benchmarks/intervals.md, those of the MCC of three classes, of direction, or both.
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

from data.bars.synthetic import persistent_drift, random_walk  # noqa: E402
from data.features.indicators import WARM_UP_BARS  # noqa: E402
from data.market.labels import BUY, SELL  # noqa: E402
from data.market.market import build_market  # noqa: E402
from data.market.settings import MarketSettings  # noqa: E402
from evaluation.answers import Answers, tables  # noqa: E402
from evaluation.metrics import mcc  # noqa: E402
from evaluation.verdict import interval, left_out  # noqa: E402

LENGTH, HORIZON, SYMBOLS = 60, 12, 8
SPAN = LENGTH + HORIZON - 1  # bars between a window's first bar and its label's end
NUM_BLOCKS = (10, 20, 42)
TRAIN_BARS, VALIDATION_BARS, TEST_BARS = 1500, 160, max(NUM_BLOCKS) * SPAN
DRIFT = 0.17  # of a bar, in units of its volatility: a test MCC of about 0.058
OTHERS = 5  # walks whose labels a forecaster is judged on
RESAMPLES = 400
FORECASTERS = ("fitted", "random", "persistence")
EQUAL = 5  # random forecasters, of which one is the model and the others its baselines
SKILLS = ("classes", "direction")
JUDGED = ("fitted", "random", "fitted less random", "fitted less persistence")


Windows = tuple[np.ndarray, list[np.ndarray]]  # labels, and what each forecaster says


def simulate(seed: int, drift: float = 0.0) -> dict[str, Windows]:
    """Returns labels and answers of validation and test windows.

    Returns:
        for each split int8 labels (bars, symbols), and for each of `FORECASTERS`, then of the
        equal ones its calls and sides, int8 (2, bars, symbols); "random" is the first of these.
    """
    num_ends = TRAIN_BARS + VALIDATION_BARS + TEST_BARS
    num_bars = num_ends + WARM_UP_BARS + SPAN
    settings = MarketSettings(
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
    walk = (
        persistent_drift(SYMBOLS, num_bars, seed, strength=drift)
        if drift
        else random_walk(SYMBOLS, num_bars, seed)
    )
    market = build_market(walk, settings)
    fold, totals = market.folds[0], np.cumsum(market.features, axis=0, dtype=float)
    parts = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    x = {name: _summaries(market.features, totals, ends) for name, ends in parts.items()}
    mean, spread = x["train"].mean(axis=0), x["train"].std(axis=0) + 1e-9
    x = {name: np.insert((own - mean) / spread, 0, 1, axis=1) for name, own in x.items()}
    train, kinds = x["train"], np.eye(3)[fold.labels[fold.train]]
    ridge = 0.01 * len(train) * np.eye(train.shape[1])
    fitted = np.linalg.solve(train.T @ train + ridge, train.T @ kinds)
    rng = np.random.default_rng((seed, SYMBOLS))
    random = [rng.normal(size=fitted.shape) for _ in range(EQUAL)]
    for weights in random:
        weights[0] = 0
    prior = kinds.mean(axis=0)
    found = {}
    for name in ("validation", "test"):
        moved = fold.persistence[parts[name]]
        scores = [x[name] @ (fitted / prior), *(x[name] @ weights for weights in random)]
        first, *equal = [
            np.stack([s.argmax(axis=1), np.sign(s[:, BUY] - s[:, SELL])]) for s in scores
        ]
        said = [first, equal[0], np.stack([moved, moved - 1]), *equal]
        found[name] = _by_bar(fold.labels[parts[name]]), [_by_bar(own) for own in said]
    return found


def _by_bar(rows: np.ndarray) -> np.ndarray:
    """Returns (..., symbols * bars) as int8 (..., bars, symbols)."""
    apart = rows.reshape(*rows.shape[:-1], SYMBOLS, -1)[..., :TEST_BARS]
    return np.moveaxis(apart, -1, -2).astype(np.int8)


def _summaries(features: np.ndarray, totals: np.ndarray, ends: np.ndarray) -> np.ndarray:
    means = [(totals[ends] - totals[ends - bars]) / bars for bars in (LENGTH - 1, LENGTH // 4)]
    return np.concatenate([features[ends], *means], axis=1)


def block_tables(labels: np.ndarray, said: np.ndarray, skill: str) -> np.ndarray:
    """Returns the counts of all blocks, (blocks, kinds, kinds), of (bars, symbols)."""
    blocks = np.repeat(np.arange(len(labels)) // SPAN, labels.shape[1])
    own = Answers(*said.reshape(2, -1).astype(int))
    return tables(blocks, labels.ravel().astype(int), own)[skill]


def judged(labels, said, skill: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what is judged and its tables, (1 or 2, blocks, ...): itself and what it is less."""
    counted = {
        name: block_tables(labels, own, skill) for name, own in zip(FORECASTERS, said, strict=False)
    }
    for name in JUDGED:
        yield name, np.stack([counted[part] for part in name.split(" less ")])


def jackknife(counted: np.ndarray) -> list[float]:
    """Returns the verdict's interval."""
    return interval(_value(mcc(counted.sum(axis=1))), _value(left_out(counted)), widest=2.0)


def bootstrap(counted: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Returns the percentile interval of drawn blocks, expanded as in Hesterberg (2015)."""
    count = counted.shape[1]
    draws = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    values = _value(mcc(np.einsum("rb,mbij->mrij", draws, counted, optimize=True)))
    width = np.sqrt(count / (count - 1)) * student.ppf(0.025, count - 1)
    return list(np.quantile(values, [norm.cdf(width), norm.cdf(-width)]))


def _value(scores: np.ndarray) -> np.ndarray:
    return scores[0] - scores[1] if len(scores) > 1 else scores[0]


def both_intervals(case: tuple[int, np.ndarray, list], skill: str) -> dict[tuple, tuple]:
    """Returns MCC and both intervals by what is judged and by the number of blocks."""
    seed, labels, said = case
    rng, found = np.random.default_rng(seed), {}
    for name, counted in judged(labels, said, skill):
        for count in NUM_BLOCKS:
            first = counted[:, :count]
            value = _value(mcc(first.sum(axis=1)))
            found[name, count] = (value, *bootstrap(first, rng), *jackknife(first))
    return found


def equal_ones(case: tuple[dict, dict]) -> dict[tuple, list[str]]:
    """Returns what is said of each equal forecaster, by number of blocks and by the pick.

    Args:
        case: the windows of one walk, whose labels count, and those of another, whose answers do.
    """
    labels, said = case
    validation, test = (
        np.stack(
            [block_tables(labels[split][0], own, "direction") for own in said[split][1][-EQUAL:]]
        )
        for split in ("validation", "test")
    )
    found = {}
    for count in NUM_BLOCKS:
        seen = test[:, :count]
        picks = {
            "one": None,
            "test": mcc(seen.sum(axis=1)),
            "validation": mcc(validation.sum(axis=1)),
        }
        for name, scores in picks.items():
            words = []
            for model in range(EQUAL):
                others = [n for n in range(EQUAL) if n != model]
                best = others[0] if scores is None else max(others, key=lambda n: scores[n])
                low, high = jackknife(seen[[model, best]])
                own = jackknife(seen[[model]])
                beats = low > 0 and own[0] > 0
                words.append("worse" if high < 0 else "beats" if beats else "neither")
            found[count, name] = words
    return found


def show_equal(cases: list[dict[tuple, list[str]]]) -> None:
    """Prints how often one of five equal forecasters is called worse or better than the best."""
    print(f"\n## Five equal forecasters: what is said of each in {EQUAL * len(cases):,} cases\n")
    print("| blocks | baseline | worse than | beats |\n|---:|---|---:|---:|")
    for count, name in cases[0]:
        said = np.concatenate([case[count, name] for case in cases])
        shares = [f"{100 * np.mean(said == word):.1f} %" for word in ("worse", "beats")]
        picked = "one, not picked" if name == "one" else f"of four, picked on {name} windows"
        print(f"| {count} | {picked} | {' | '.join(shares)} |")


def measure(pool, cases, skill: str) -> dict[tuple, np.ndarray]:
    """Returns (cases, 5): MCC, low and high of the bootstrap, low and high of the jackknife."""
    cases = list(pool.imap(partial(both_intervals, skill=skill), cases, chunksize=16))
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
    parser.add_argument("--skill", choices=SKILLS, action="append", help="default: both")
    options = parser.parse_args()
    with Pool(options.workers) as pool:
        walks = list(pool.imap(simulate, range(options.cases), chunksize=4))
        drifts = list(
            pool.imap(partial(simulate, drift=DRIFT), range(options.power_cases), chunksize=4)
        )
        for skill in options.skill or SKILLS:
            show_skill(pool, walks, drifts, skill)
        if "direction" in (options.skill or SKILLS):
            pairs = [(walk, walks[i - 1]) for i, walk in enumerate(walks)]
            show_equal(list(pool.imap(equal_ones, pairs, chunksize=4)))


def show_skill(pool, walks: list[dict], drifts: list[dict], skill: str) -> None:
    """Prints the tables of one skill."""
    tests = [walk["test"] for walk in walks]
    apart = (
        (i * OTHERS + shift, labels, tests[(i + shift + 1) % len(tests)][1])
        for i, (labels, _) in enumerate(tests)
        for shift in range(OTHERS)
    )
    title = f"{skill}, no skill by construction: misses 0 in {OTHERS * len(walks):,} cases"
    show(f"{title} of {len(walks):,} walks", measure(pool, apart, skill), misses)
    own = measure(pool, ((i, *test) for i, test in enumerate(tests)), skill)
    show(f"{skill}, on its own walk: misses 0 in {len(walks):,} cases", own, misses)
    show(f"{skill}, on its own walk: misses the mean MCC of all cases", own, misses_mean)
    weak = measure(pool, ((i, *drift["test"]) for i, drift in enumerate(drifts)), skill)
    title = f"{skill}, a weak drift: interval above 0 in {len(drifts):,} cases"
    show(title, weak, finds, names=("fitted",))


if __name__ == "__main__":
    main()
