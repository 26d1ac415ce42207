"""How good the best possible answer is on the test windows of a made-up market."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.features import WARM_UP_BARS
from data.i18n import LANGUAGES, _, speaking
from data.known_optimum import best_probabilities
from data.market import Market
from data.synthetic import PREFIX
from evaluation.metrics import evaluate


def known_optimum(data: str | None, market: Market, folds: Sequence) -> dict[str, Any] | None:
    """Returns MCC and NLL of the best answers to the test windows of all folds, and a sentence.

    Args:
        data: what the run was given as bars.
        market: made of them.
        folds: of the market.

    Returns:
        None where the bars are not made up; no numbers for labels by three barriers.
    """
    if data is None or not data.startswith(PREFIX):
        return None
    told = {"market": data, "mcc": None, "nll": None}
    if market.label_method == "triple_barrier":
        return _with_sentence(told)
    labels, probabilities = [], []
    starts = np.searchsorted(market.symbols, np.arange(len(market.symbol_names)))
    for fold in folds:
        best = best_probabilities(
            data,
            label_method=market.label_method,
            threshold=fold.threshold,
            horizon=market.future_window,
        )
        for code, name in enumerate(market.symbol_names):
            own = fold.test[market.symbols[fold.test] == code]
            probabilities.append(best[name][own - starts[code] + WARM_UP_BARS])
            labels.append(fold.labels[own])
    found = evaluate(np.concatenate(labels), np.concatenate(probabilities))
    return _with_sentence(told | {"mcc": found["mcc"], "nll": found["nll"]})


def sentence(found: Mapping[str, Any]) -> str:
    """Returns in words of the language of now what `known_optimum` found."""
    if found["mcc"] is None:
        return _(
            "The market is made up; the best possible answer to labels by three barriers is not "
            "known."
        )
    return _(
        "The market is made up: who knows its rule, but not the future, reaches an MCC of "
        "{mcc:+.3f} and an NLL of {nll:.4f} on these windows.",
        mcc=found["mcc"],
        nll=found["nll"],
    )


def _with_sentence(found: dict[str, Any]) -> dict[str, Any]:
    with speaking(LANGUAGES[0]):  # what is written is the same everywhere
        return found | {"sentence": sentence(found)}
