"""A run as training hands it over to the report."""

from dataclasses import replace

import numpy as np
import pandas as pd

from evaluation.across.cross_section import Forecasts, cross_section, in_language
from evaluation.answers import answers
from evaluation.backtest import simulate_trades
from evaluation.baselines.simple import constant_prior
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.run import Metrics
from evaluation.figures.scores import Shares
from evaluation.metrics import evaluate
from evaluation.skill import skill_by_part
from evaluation.verdict import verdict, with_calls, with_trades
from evaluation.verdict_words import sentence
from models.training.collapse_forecast import forecast_collapse

NAMES = ("SELL", "HOLD", "BUY")


def training_run():
    """Returns metrics, history and predictions of a run, as training hands them over."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    timestamps = np.datetime64("2024-01-01", "ns") + np.arange(600) * np.timedelta64(900, "s")
    probabilities = rng.dirichlet([2, 2, 2], 600)
    probabilities[np.arange(600), labels] += 0.2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    prior = constant_prior(labels, 600)
    test = evaluate(labels, probabilities, prior[0])
    said, constant = answers(probabilities, prior[0]), answers(prior, prior[0])
    split = {
        "windows": 600,
        "class_counts": dict(zip(NAMES, test.support, strict=True)),
        "first_time": "2024-01-01T00:00:00",
        "last_time": "2024-01-07T05:45:00",
    }
    splits = {name: split for name in ("train", "validation", "test")}
    given = {"constant prior": evaluate(labels, prior, prior[0])}
    fold = {
        "splits": splits,
        "prior": prior[0].tolist(),
        "validation": test,
        "test": test,
        "baselines": {name: {"validation": f, "test": f} for name, f in given.items()},
        "chosen": {"metric": "val_mcc", "epoch": 2},
        "calibration": {"gamma": [1.0, 2.0, 1.0], "temperature": 1.2345},
        "collapse": {
            "forecast": forecast_collapse([0.33, 0.4, 0.33], 1.0, [1, 2, 1]).as_dict(NAMES),
            "alarms": [
                {
                    "epoch": e,
                    "kind": kind,
                    "favoured": "BUY",
                    **{"rate": 0.9, "share": 0.3, "kl": 0.5, "spread": 0.01, "mcc": 0.0},
                    "message": f"epoch {e}: {kind}: see <b>LR_BASE</b>",
                }
                for e, kind in enumerate(["no signal"] * 3 + ["prior shift"])
            ],
        },
        "label": {
            "method": "volatility",
            "reference": "market",
            "future_window_bars": 12,
            "threshold": 0.61,
        },
        "dropped": {"warm-up rows": 960},
        "importance": {
            "windows": 512,
            "nll": 1.0625,
            "features": [
                {"name": f"feature_{i}", "rise": 0.02 - 0.002 * i, "interval": [-0.01, 0.05]}
                for i in range(12)
            ],
            "lookback": [
                {"bars": bars, "nll": 1.1, "rise": 0.1 / bars, "interval": [0.0, 0.2 / bars]}
                for bars in (1, 2, 4, 8, 16, 20)
            ],
        },
        "drift": {f"feature_{i}": 0.5 / (i + 1) for i in range(7)},
        "mining": [
            {
                "epoch": 2,
                "scored": 3600,
                "classes": {
                    name: {
                        "scored": 1200,
                        "ranks": [0.0625, 0.125, 0.25],
                        "p_true": 0.2515,
                        "pool": 97,
                        "share_asked": 0.5,
                        "share_given": given,
                        "multiplier": 3.75,
                        "effective_size": 0.515,
                    }
                    for name, given in zip(NAMES, (0.375, 0.5, 0.5), strict=True)
                },
            }
        ],
        "repeats": {
            "epoch": 3,
            "batches": 6,
            "reached": 1.0,
            "largest": 2.5,
            "classes": {name: {"windows": 1200, "repeats": 1.125} for name in NAMES},
            "symbols": {"AAA": {"windows": 3600, "repeats": 0.875}},
        },
    }
    found = verdict(
        timestamps, labels, said, constant, baseline="constant prior", block_seconds=9000
    )
    costs = simulate_trades(
        timestamps,
        np.zeros(600, int),
        said.calls,
        rng.normal(0, 0.01, 600),
        holding_bars=12,
        cost_bps=5.0,
        baselines={"constant prior": constant.calls},
    )
    found = with_calls(with_trades(found, costs), test)
    found = replace(found, hardly_called={"SELL": Shares(called=0.0, true=0.25)})
    metrics = {
        "num_folds": 1,
        "verdict": replace(found, sentence=sentence(found)),
        "skill": skill_by_part(
            timestamps + np.timedelta64(28, "D"),  # from one month into the next
            np.arange(600) % 2,
            ("AAA", "BBB"),
            labels,
            said,
            block_seconds=36_000,
        ),
        "test": test,
        "baselines": {name: {"test": f} for name, f in given.items()},
        "costs": costs,
        "cross_section": ranked(),
        "timing": {
            "seconds_per_epoch": list(range(10, 20)),
            "training_seconds_per_epoch": [1.0],
            "labels_per_second": 12345.6,
            "share_outside_step": 0.1,
            "training_seconds": 1.0,
            "compilation_seconds": 1.0,
            "validation_seconds": 1.0,
            "mining_seconds": 1.0,
        },
        "seed": 7,
        "folds": [fold],
    }
    epochs = np.arange(4)
    history = pd.DataFrame(
        {
            "fold": 0,
            "epoch": epochs,
            "loss": 1.0 - 0.1 * epochs,
            "learning_rate": 1e-3,
            "ce_weight": 1.0 - 0.2 * epochs,
            "hard_share": 0.1 * epochs,
            "logit_cap": [5.0, 10.0, 0.0, 0.0],  # 0: none
            "val_mcc": [0.1, np.nan, 0.2, 0.15],
            "val_macro_f1": 0.4,
            "val_nll": 1.05,
            **{f"val_rate_{name.lower()}": 1 / 3 for name in NAMES},
        }
    )
    times = pd.to_datetime(timestamps, utc=True)
    predictions = pd.DataFrame({"timestamp": times, "symbol": "AAA", "label": labels})
    predictions["call"], predictions["side"] = said.calls, said.sides
    for code, name in enumerate(NAMES):
        predictions[f"p_{name.lower()}"] = probabilities[:, code]
    return from_plain(Metrics, to_plain(metrics)), history, predictions


def ranked():
    """Returns how 12 symbols of 100 bars are ranked, by `evaluation.across.cross_section`."""
    rng = np.random.default_rng(2)
    times = np.datetime64("2024-01-01", "ns") + np.arange(100) * np.timedelta64(3600, "s")
    times, symbols = np.tile(times, 12), np.repeat(np.arange(12), 100)
    model, trees = rng.dirichlet([20, 20, 20], (2, 1200))
    returns = 0.01 * (model[:, 2] - model[:, 0]) + 0.002 * rng.normal(size=1200)
    found = cross_section(
        Forecasts(times, symbols, model),
        returns,
        returns,
        horizon=4,
        cost_bps=5.0,
        block_seconds=36_000,
        baselines={"boosted trees": (trees, None)},
    )
    return in_language(found)


def recent_bars():
    """Returns the last test bars of two symbols, as `evaluation.judge.recent_bars` does."""
    _, _, predictions = training_run()
    recent = predictions.iloc[:100].assign(
        price=100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 100)))
    )
    return pd.concat([recent, recent.assign(symbol="B<b>")], ignore_index=True)
