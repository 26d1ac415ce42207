"""Retrains a run's model on the bars that came since, and adopts it unless it is worse.

Each new model has a run folder of its own, in `retrained` of the original run. `current.json` names
the one that answers and is replaced atomically: whenever a process is killed, the file names a
complete model.
"""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from config import load
from core.contract import Contract
from core.errors import InputError
from core.i18n import _, date, ngettext
from data.market.labels import CLASS_NAMES
from data.market.market import Market
from data.market.settings import MarketSettings
from evaluation.judge import blocks_of
from evaluation.paired import Paired, paired
from models.deployable import contract_of, load_classifier
from models.prediction import predict_windows
from recipe.run import folder as files
from recipe.run.deploy import window_sequence
from recipe.run.market import bars_or_sample, market_settings, read_market
from recipe.run.origin import ORIGINS, START, origin, read_run, started
from recipe.run.reporter import SILENT, Reporter
from recipe.run.run import run

DECISION = "decision.json"
# Shares of the bars that came since: the newest half is tested on, half of the rest validates.
_TEST, _VALIDATION = 1 / 2, 1 / 4
_LEAST_SPANS = 6  # new bars, in spans of a window, its label and the embargo: some for each part


def retrain(
    folder: Path,
    data: str | None = None,
    *,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> bool:
    """Trains a new model from the current one; returns whether it replaces it.

    Training starts at the weights of the current model, with the flags of the run, on all bars in
    `data`. Both models are tested on the newest half of the bars that came since the training of
    the current one; the new one replaces it unless its NLL there is higher by more than a standard
    error over blocks of time. Both are kept.

        >>> retrain(Path("runs/first"), "bars")
        True

    Args:
        folder: of the original run.
        data: path of the bars, old and new; None for where the run had its bars from.
        command: to record in run.json.
        reporter: gets the progress and, last, the decision in a line.

    Raises:
        InputError: if there is no finished run, too few bars came since, the bars do not fit the
            model, or another process is retraining the same run.
    """
    before = read_run(folder)
    flags = load(replay=folder / files.CONFIG)
    with files.lock(folder):
        clear(folder)
        current = files.current_model(folder)
        data, adjust = data or before.get("data"), before.get("adjust_splits", False)
        shares = shares_since(data, market_settings(flags), contract_of(load_classifier(current)))
        flags = replace(flags, WALK_FORWARD_FOLDS=1, **shares)
        market, bars_info = read_market(data, flags, reporter, adjust=adjust)
        bars_info |= {START: started(current)}
        info = {"command": [*command], "data": data, **bars_info, "brief": True}
        info |= {ORIGINS: [origin(flags, bars_info)]}
        new = folder / files.RETRAINED / files.default_folder().name
        files.check_absent(new)
        run(flags, market, new, run_info=info, resume=False, start=current, reporter=reporter)
        shutil.rmtree(new / files.CHECKPOINTS)
        comparison = compared(market, new, current)
        taken = not comparison.is_worse
        decision = asdict(comparison) | {"difference": comparison.difference, "taken": taken}
        files.write_json(new / DECISION, decision | {"against": str(current.relative_to(folder))})
        if taken:
            name = (new / files.MODEL).relative_to(folder).as_posix()
            files.write_json(folder / files.CURRENT, {"model": name})
    reporter.log(_("retrained"), in_words(comparison, new if taken else current))
    return taken


def clear(folder: Path) -> None:
    """Removes the leftovers of killed retrainings; none may be under way."""
    with contextlib.suppress(FileNotFoundError):
        for new in (folder / files.RETRAINED).iterdir():
            if not (new / DECISION).exists():
                shutil.rmtree(new, ignore_errors=True)


def shares_since(
    data: str | None, settings: MarketSettings, contract: Contract
) -> dict[str, float]:
    """Returns the flags that put validation and test into the bars that came since.

    Args:
        data: path of the bars, old and new; None for the sample.
        settings: of the run's market.
        contract: of the current model.

    Raises:
        InputError: if too few bars came.
    """
    ended = np.datetime64(contract["training_period"][1], "ns")
    times = bars_or_sample(data, extra=settings.features.columns)["timestamp"].to_numpy(
        "datetime64[ns]"
    )
    known = np.unique(times)
    num_new = int((known > ended).sum())
    span = settings.sequence_length + settings.future_window + settings.embargo_bars
    if num_new < _LEAST_SPANS * span:
        raise InputError(
            "a new model needs at least {least:,} bars after {ended}, the end of the training "
            "of the one that answers now; there are {num_new:,}",
            least=_LEAST_SPANS * span,
            ended=date(str(ended)[:19]),
            num_new=num_new,
        )
    share = float((known[-1] - ended) / (known[-1] - known[0]))
    return {
        "VALIDATION_FRACTION": min(settings.validation_fraction, _VALIDATION * share),
        "TEST_FRACTION": min(settings.test_fraction, _TEST * share),
    }


def compared(market: Market, new: Path, current: Path) -> Paired:
    """Compares a new run's model with the current one on the test windows.

    Args:
        market: of the new run.
        new: its run folder.
        current: file of the current model.
    """
    (fold,) = market.folds
    columns = [f"p_{name.lower()}" for name in CLASS_NAMES]
    new_answers = pd.read_parquet(new / files.PREDICTIONS, columns=columns).to_numpy(np.float64)
    current_answers = predict_windows(load_classifier(current), window_sequence(market, fold.test))
    return paired(
        fold.labels[fold.test], new_answers, current_answers, blocks_of(market, fold.test)
    )


def in_words(comparison: Paired, answers: Path) -> str:
    """Returns one line on which model answers from now on, and why."""
    blocks = ngettext("{n} time block", "{n} time blocks", comparison.num_blocks)
    text = (
        _("The old model goes on: on the newest {blocks} the new one is worse.", blocks=blocks)
        if comparison.is_worse
        else _("The new model answers: on the newest {blocks} it is not worse.", blocks=blocks)
    )
    return (
        text
        + " "
        + _(
            "NLL {new:.4f} against {old:.4f}, difference {difference:+.4f} ({low:+.4f} to "
            "{high:+.4f}, worse from {error:+.4f} on); {path}",
            new=comparison.nll,
            old=comparison.other,
            difference=comparison.difference,
            low=comparison.interval[0],
            high=comparison.interval[1],
            error=comparison.error,
            path=answers,
        )
    )
