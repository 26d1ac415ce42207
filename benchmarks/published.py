"""The protocol of published figures: MCC of the next day's side on the ACL18 stocks, ten seeds.

    python benchmarks/published.py BARS [--seeds 10] [--out runs/published] [--set NAME=VALUE ...]

Xu and Cohen 2018 (StockNet), whose split and labels Feng et al. 2019 (Adv-ALSTM) and others kept:
a day's move of at least +0.55 % is a rise, of at most -0.5 % a fall, the days between are left out;
training from 2014-01-02, validation from 2015-08-03, test from 2015-10-01 to 2015-12-31. BARS is a
file or folder of daily bars, such as us_daily_88sym.parquet; other bars go with other dates
(`--train`, `--validate`, `--test`, `--until`). Windows that share days with a later split are left
out, which is more than the papers do; days between the thresholds train as HOLD, and judge nothing.

Prints a table in Markdown: the MCC of each seed and of their mean, with an interval over days, and
the range of a coin that is thrown once a day for all stocks. Checkpoints lie under `--out`: the
same command goes on after an interruption.
"""

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from recipe.cli.backend import prepare_process, start_backend  # noqa: E402

prepare_process()  # as train_model.py does
start_backend()

import numpy as np  # noqa: E402

import config  # noqa: E402
from data.bars.read import read_bars  # noqa: E402
from data.market.labels import BUY, HOLD, SELL, UNLABELLED  # noqa: E402
from data.market.market import Fold, Market, build_market, training_prior  # noqa: E402
from data.market.parts import by_symbol  # noqa: E402
from data.market.settings import MarketSettings  # noqa: E402
from data.market.split import SplitTimes, split_windows  # noqa: E402
from data.market.windows import ends_within  # noqa: E402
from evaluation.answers import answers, directions  # noqa: E402
from evaluation.metrics import mcc  # noqa: E402
from evaluation.verdict import interval, left_out  # noqa: E402
from recipe.run.fold import train  # noqa: E402
from recipe.run.market import market_settings  # noqa: E402
from recipe.run.settings import RunSettings, run_settings  # noqa: E402
from recipe.run.training import assemble  # noqa: E402

RISE, FALL = 0.0055, -0.005
DATES = {
    "train": "2014-01-02",
    "validate": "2015-08-03",
    "test": "2015-10-01",
    "until": "2015-12-31",
}
FLAGS = {
    "SEQUENCE_LENGTH": 10,  # of 5 to 15 days in the papers
    "FUTURE_WINDOW": 1,
    "EMBARGO_BARS": 0,
    "LABEL_METHOD": "fixed",
    "PRICE_CHANGE_THRESHOLD": -FALL,
}
COINS = 10_000


def protocol_market(path: str, settings: MarketSettings, dates: dict[str, np.datetime64]) -> Market:
    """Returns the market with the one fold of the protocol.

    Args:
        path: of daily bars.
        settings: what it is made by.
        dates: of the first day that a move of each split ends on, and the last one of the test.
    """
    bars = read_bars(path, note=print)
    stop = str(dates["until"] + np.timedelta64(7, "D"))
    bars = bars[bars["timestamp"] < stop]
    market = build_market(by_symbol(bars), settings)
    ends = ends_within(market.bounds, market.sequence_length, 1)
    move = np.expm1(market.forward_return.astype(np.float64))
    labels = np.select([move >= RISE, move <= FALL], [BUY, SELL], HOLD).astype(np.int8)
    labels[np.isnan(move)] = UNLABELLED
    days = np.unique(market.timestamps)

    def ends_before(date: np.datetime64) -> np.datetime64:
        """Returns the day whose next trading day is the first one from a date on."""
        return days[max(np.searchsorted(days, date) - 1, 0)]

    split = split_windows(
        ends,
        market.symbols,
        market.timestamps,
        SplitTimes(
            ends_before(dates["train"]),
            ends_before(dates["validate"]),
            ends_before(dates["test"]),
            ends_before(dates["until"] + np.timedelta64(1, "D")),
        ),
        sequence_length=market.sequence_length,
        future_window=1,
        embargo_bars=0,
    )
    parts = split.train, split.validation, split.test
    fold = Fold(*parts, labels, RISE, np.full_like(labels, UNLABELLED), split.dropped)
    return dataclasses.replace(market, folds=(fold,))


def tables_of(market: Market, probabilities: np.ndarray) -> np.ndarray:
    """Returns for each test day the table of true side against said side, (days, 2, 2)."""
    fold = market.folds[0]
    days = np.unique(market.timestamps[fold.test], return_inverse=True)[1]
    said = answers(probabilities, training_prior(fold))
    return directions(days, fold.labels[fold.test], said.sides)


def coin_range(market: Market, seed: int = 0) -> tuple[float, float]:
    """Returns the central 95 % of the MCC of a coin thrown once a day for all stocks."""
    fold = market.folds[0]
    days = np.unique(market.timestamps[fold.test], return_inverse=True)[1]
    labels = fold.labels[fold.test]
    counts = np.stack([np.bincount(days, labels == side) for side in (SELL, BUY)], axis=1)
    heads = np.random.default_rng(seed).integers(0, 2, (COINS, len(counts)))
    bought = heads @ counts  # (coins, 2), of falls and of rises
    found = mcc(np.stack([counts.sum(axis=0) - bought, bought], axis=-1))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def common_share(market: Market) -> float:
    """Returns which share of the variance of the test labels is common to a day."""
    fold = market.folds[0]
    labels = fold.labels[fold.test]
    moved = labels != HOLD
    days = np.unique(market.timestamps[fold.test[moved]], return_inverse=True)[1]
    rises = (labels[moved] == BUY).astype(np.float64)
    means = np.bincount(days, rises) / np.bincount(days)
    return float(means[days].var() / rises.var())


def trained_tables(market: Market, settings: RunSettings, folder: Path) -> np.ndarray:
    """Returns `tables_of` what a training says."""
    trained = train(
        assemble(settings, market, 0),
        folder,
        resume=True,
        note=print,
        on_rows=lambda rows: None,
    )
    return tables_of(market, trained.alone.probabilities["test"])


def main() -> None:
    """Trains the seeds in turn and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bars")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    for name, date in DATES.items():
        parser.add_argument(f"--{name}", metavar="DATE", default=date)
    options = parser.parse_args()
    dates = {name: np.datetime64(getattr(options, name), "D") for name in DATES}
    flags = config.load(options.set, **FLAGS)
    market = protocol_market(options.bars, market_settings(flags), dates)
    fold, begun = market.folds[0], time.perf_counter()
    for name in ("train", "validation", "test"):
        labels = fold.labels[getattr(fold, name)]
        moved = labels[labels != HOLD]
        print(
            f"{name}: {len(labels):,} windows, {len(moved):,} moved, {(moved == BUY).mean():.1%} up"
        )
    coin = "{:+.3f} to {:+.3f}".format(*coin_range(market))
    print(f"a coin for each day: {coin}; common to a day: {common_share(market):.0%}", flush=True)
    seeds = range(flags.SEED, flags.SEED + options.seeds)
    tables = []
    for seed in seeds:
        own = run_settings(dataclasses.replace(flags, SEED=seed))
        tables.append(trained_tables(market, own, options.out / f"seed-{seed}"))
        print(f"seed {seed}: {mcc(tables[-1].sum(axis=0)):+.3f}", flush=True)
    each = mcc(np.sum(tables, axis=1))  # (seeds,)
    mean, without = float(each.mean()), np.mean([left_out(table) for table in tables], axis=0)
    low, high = interval(mean, without, widest=1.0)
    hits = np.trace(np.sum(tables, axis=1), axis1=1, axis2=2) / np.sum(tables, axis=(1, 2, 3))
    print(f"\n| what | MCC |\n|---|---|\n| mean of {len(each)} seeds | {mean:+.3f} |")
    print(f"| its 95 % interval over {len(without)} days | {low:+.3f} to {high:+.3f} |")
    print(f"| lowest and highest seed | {each.min():+.3f} to {each.max():+.3f} |")
    print(f"| a coin for each day, 95 % of {COINS:,} | {coin} |")
    print(f"\naccuracy {hits.mean():.1%}; {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
