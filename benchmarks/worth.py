"""The network, trees, regression and their blend on the test windows of one market, several seeds.

    python benchmarks/worth.py BARS --out worth/NAME [--seeds 5] [--set NAME=VALUE ...]

Each seed trains one model with BLEND=trees,regression, which holds the network alone, too. What is
known of its windows is kept in the folder, so a seed that is there is not trained again. Prints a
table in Markdown: means over the seeds, and 95 % intervals over blocks of time of those means, the
jackknife of the verdict. "Below the prior" is the NLL of the training period's class frequencies
less the model's, so more is better.
"""

import argparse
import gc
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import config  # noqa: E402
from data.market.market import Market, training_prior  # noqa: E402
from evaluation.across.cross_section import Forecasts, correlations  # noqa: E402
from evaluation.answers import answers, tables  # noqa: E402
from evaluation.baselines.fold import fit_learners  # noqa: E402
from evaluation.judge import blocks_of, longest_span  # noqa: E402
from evaluation.metrics import losses, mcc  # noqa: E402
from evaluation.verdict import interval, left_out  # noqa: E402
from recipe.run.ensemble import FoldResult, train_fold  # noqa: E402
from recipe.run.market import read_market  # noqa: E402
from recipe.run.settings import run_settings  # noqa: E402
from recipe.run.training import assemble  # noqa: E402

NAMES = {
    "network": "network",
    "boosted trees": "trees",
    "logistic regression": "regression",
    "blend": "blend",
}
BLEND = "BLEND=trees,regression"


def train(market: Market, changes: list[str], seed: int) -> FoldResult:
    """Returns the blended model of a seed and its members."""
    settings = run_settings(config.load([*changes, BLEND, f"SEED={seed}"]))
    training = assemble(settings, market, 0)

    def fit():
        names = settings.blend
        return fit_learners(market, training.fold, seed=seed, names=names, sums=np.float64)

    with tempfile.TemporaryDirectory() as folder:
        return train_fold(
            training,
            Path(folder),
            resume=False,
            note=print,
            on_member=lambda training: None,
            on_rows=lambda rows: None,
            fit=fit,
        )


def known(market: Market, result: FoldResult) -> dict[str, np.ndarray]:
    """Returns what the table is made of, by names like "trees.test.loss"."""
    fold, blend = result.fold, result.blend
    assert blend is not None
    prior, span = training_prior(fold), longest_span(market, fold.test)
    saved: dict[str, np.ndarray] = {"weights": np.array(list(blend.weights.values()))}
    answered = {**blend.probabilities, "blend": result.deployed.probabilities}
    for split in ("validation", "test"):
        ends = getattr(fold, split)
        labels, blocks = fold.labels[ends], blocks_of(market, ends)
        saved[f"{split}.blocks"] = blocks
        constant = np.broadcast_to(prior, (len(ends), len(prior)))
        saved[f"prior.{split}.loss"] = losses(labels, constant)
        for name, probabilities in answered.items():
            own = NAMES[name]
            saved[f"{own}.{split}.loss"] = losses(labels, np.asarray(probabilities[split], float))
            counted = tables(blocks, labels, answers(probabilities[split], prior))
            saved[f"{own}.{split}.direction"] = counted["direction"]
    ends = fold.test
    for name, probabilities in answered.items():
        windows = Forecasts(market.timestamps[ends], market.symbols[ends], probabilities["test"])
        parts, bars = correlations(windows, market.forward_return[ends], block_seconds=span)
        saved[f"{NAMES[name]}.ranks"], saved["bars"] = parts["rank_correlation"], bars
    return saved


def table(seeds: list[dict[str, np.ndarray]]) -> str:
    """Returns the table of the seeds' figures."""
    lines = [
        "| | validation below the prior | test NLL | test below the prior | less trees | "
        "direction | rank correlation |",
        f"|---|{'---:|' * 6}",
    ]
    trees = _mean(seeds, "trees.test.loss")
    for name in NAMES.values():
        lower = {
            split: _mean(seeds, f"prior.{split}.loss") - _mean(seeds, f"{name}.{split}.loss")
            for split in ("validation", "test")
        }
        test = _mean(seeds, f"{name}.test.loss")
        cells = [
            *(
                _over_blocks(lower["validation"], seeds[0]["validation.blocks"]),
                f"{test.mean():.4f}",
                _over_blocks(lower["test"], seeds[0]["test.blocks"]),
                "" if name == "trees" else _over_blocks(test - trees, seeds[0]["test.blocks"]),
            ),
            _direction([seed[f"{name}.test.direction"] for seed in seeds]),
            _ranks(_mean(seeds, f"{name}.ranks"), seeds[0]["bars"]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    weights = "; ".join(" ".join(f"{w:.2f}" for w in seed["weights"]) for seed in seeds)
    blocks = {s: int(seeds[0][f"{s}.blocks"].max()) + 1 for s in ("validation", "test")}
    by_seed = {
        name: " ".join(f"{seed[f'{name}.test.loss'].mean():.4f}" for seed in seeds)
        for name in ("prior", *NAMES.values())
    }
    lines += ["", f"{len(seeds)} seeds; blocks {blocks}; weights {weights}"]
    lines += [f"test NLL by seed, {name}: {nlls}" for name, nlls in by_seed.items()]
    return "\n".join(lines)


def _mean(seeds: list[dict[str, np.ndarray]], key: str) -> np.ndarray:
    return np.mean([seed[key] for seed in seeds], axis=0)


def _over_blocks(values: np.ndarray, blocks: np.ndarray) -> str:
    sums, counts = np.bincount(blocks, values), np.bincount(blocks)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    low, high = interval(values.mean(), without, widest=np.inf)
    return f"{values.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def _direction(counted: list[np.ndarray]) -> str:
    value = float(np.mean([mcc(seed.sum(axis=0)) for seed in counted]))
    low, high = interval(value, np.mean([left_out(seed) for seed in counted], axis=0), widest=1.0)
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _ranks(values: np.ndarray, blocks: np.ndarray) -> str:
    seen = np.isfinite(values)
    if not seen.any():
        return ""
    return _over_blocks(values[seen], np.unique(blocks[seen], return_inverse=True)[1])


def main() -> None:
    """Trains the seeds that are not there, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bars")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    files = [arguments.out / f"seed{seed}.npz" for seed in range(arguments.seeds)]
    if not all(file.exists() for file in files):
        market, _ = read_market(arguments.bars, config.load(arguments.set))
        for seed, file in enumerate(files):
            if not file.exists():
                saved = known(market, train(market, arguments.set, seed))
                with tempfile.NamedTemporaryFile(dir=arguments.out, delete=False) as partial:
                    np.savez_compressed(partial, **saved)  # pyright: ignore[reportArgumentType]
                Path(partial.name).replace(file)
                gc.collect()
    print(table([dict(np.load(file)) for file in files]))


if __name__ == "__main__":
    main()
