"""Makes the market that a run trains on from a path and the flags."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from config import Flags
from core.errors import InputError
from core.i18n import _
from data.audit.own_features import check_own_features
from data.bars.checks import digest
from data.bars.read import read_bars
from data.bars.sample import load_sample
from data.features.extra import parse_extra
from data.features.own import load_features
from data.features.settings import STANDARD, FeatureSettings
from data.market.market import Market, build_market
from data.market.moves import adjust_splits, move_notes
from data.market.parts import by_symbol
from data.market.settings import MarketSettings
from data.market.store import folder_of
from data.market.store_folder import read_index
from recipe.devices import processes
from recipe.run.reporter import SILENT, Reporter

IN_MEMORY = "DataFrame"  # what run.json says of bars that no file holds
_STORE_MADE = "feature store"


def read_market(
    path: Any, flags: Flags, reporter: Reporter = SILENT, *, adjust: bool = False
) -> tuple[Market, dict[str, Any]]:
    """Returns the market, and what run.json records of its bars.

    Process 0 makes a feature store; the others map it and read no bars.

        >>> market, bars_info = read_market("bars.parquet", config.load(["SEQUENCE_LENGTH=48"]))

    Args:
        path: a file or folder of bars, or a frame of them; None for the sample.
        flags: checked.
        reporter: gets what was read.
        adjust: whether to scale the bars before a split.

    Raises:
        InputError: if the bars are faulty or too few for the flags, or a feature of OWN_FEATURES
            looks ahead.
    """
    what = source_of(path) or _("the sample: daily bars of five US stocks, 2000 to 2013")
    with reporter.working(_("reading"), what) as done:
        if flags.FEATURE_STORE and not processes.is_first():
            bars_info = json.loads(processes.barrier(_STORE_MADE))
            folder, num_bars = Path(flags.FEATURE_STORE) / bars_info.pop(_STORE_MADE), 0
            market = build_market(None, market_settings(flags), feature_store=folder)
        else:
            extra = market_settings(flags).features.columns
            bars = bars_or_sample(path, reporter, done, extra=extra)
            bars_info, num_bars = {"bars_sha256": digest(bars)}, len(bars)
            if adjust:
                bars_info |= {"adjust_splits": True}
                bars = without_splits(bars, reporter.note)
            own_features = market_settings(flags).features.own
            if own_features is not None:
                check_own_features(bars, own_features)
                bars_info |= {"features_sha256": own_features.sha256}
            # Frees a symbol's bars once its features are made.
            parts = by_symbol(bars, lambda passed: done(passed / num_bars))
            del bars
            store = flags.FEATURE_STORE or None
            market = build_market(
                parts, market_settings(flags), feature_store=store, note=reporter.note
            )
            # The folder of this run: another one may have replaced the store by now.
            made = {_STORE_MADE: folder_of(market.features).name} if flags.FEATURE_STORE else {}
            processes.barrier(_STORE_MADE, json.dumps(bars_info | made))
    if flags.FEATURE_STORE:
        index = read_index(folder_of(market.features))
        processes.agree(_("FEATURE_STORE, on a disk that all share"), index["made"])
        bars_info["store_sha256"] = index["sha256"]
    reporter.announce_market(market, num_bars)
    return market, bars_info


def source_of(bars: Any) -> str | None:
    """Returns how run.json names bars: by their path, or None for the sample."""
    return str(bars) if isinstance(bars, (str, Path)) else None if bars is None else IN_MEMORY


def bars_or_sample(
    path: Any,
    reporter: Reporter = SILENT,
    progress: Callable[[float], None] | None = None,
    *,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """Returns the checked bars at a path, or the sample for None; splits are not adjusted.

    Args:
        path: of the bars, or a frame of them; None for the sample.
        reporter: gets notes on oddities.
        progress: called with the share read so far.
        extra: own columns to keep.
    """
    if path is None:
        return load_sample(extra)
    if isinstance(path, str) and path == IN_MEMORY:
        raise InputError("the bars of the run were a DataFrame in memory: give them again")
    return read_bars(path, note=reporter.note, progress=progress, extra=extra)


def without_splits(bars: pd.DataFrame, note: Callable[[str], None]) -> pd.DataFrame:
    """Returns bars scaled before apparent splits, and notes where."""
    bars, splits = adjust_splits(bars)
    for text in move_notes(splits, _("the bars before it are scaled, as are those of all splits")):
        note(text)
    return bars


def market_settings(flags: Flags) -> MarketSettings:
    """Returns the settings of the market."""
    standard = flags.MARKET_FEATURES == ("standard",)
    return MarketSettings(
        sequence_length=flags.SEQUENCE_LENGTH,
        future_window=flags.FUTURE_WINDOW,
        label_method=flags.LABEL_METHOD,
        label_reference=flags.LABEL_REFERENCE,
        price_change_threshold=flags.PRICE_CHANGE_THRESHOLD,
        target_class_ratios=flags.TARGET_CLASS_RATIOS,
        embargo_bars=flags.EMBARGO_BARS,
        max_gap_bars=flags.MAX_GAP_BARS,
        validation_fraction=flags.VALIDATION_FRACTION,
        test_fraction=flags.TEST_FRACTION,
        num_folds=flags.WALK_FORWARD_FOLDS,
        rolling=flags.WALK_FORWARD_ROLLING,
        features=FeatureSettings(
            timeframes=flags.TIMEFRAMES,
            extra=parse_extra(flags.EXTRA_COLUMNS),
            fill_bars=flags.MAX_GAP_BARS if flags.EXTRA_COLUMNS else 0,
            own=load_features(flags.OWN_FEATURES) if flags.OWN_FEATURES else None,
            market=STANDARD if standard else flags.MARKET_FEATURES,
            market_forms=flags.MARKET_FORMS,
            market_min_symbols=flags.MARKET_MIN_SYMBOLS,
        ),
    )
