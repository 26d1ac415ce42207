"""The flags, their rules, and how they are read.

Edit the defaults here. The eight improvements are marked [1] to [8], and each section names the
files that implement it. `load` returns the flags checked; a notebook changes one with
`load(NAME=value)`. A run writes the flags that it used to `config.json`, and such a file can be
replayed with `--config`.

All eight are on: together they lower the test NLL by 0.0062 (0.0024 to 0.0099) on 19 hourly pairs
relative to the market, by 0.0063 (0.0012 to 0.0114) on the 15-minute bars of eight pairs and by
0.012 (-0.003 to 0.028) on a made-up market with something to find; none was seen to harm in any
(benchmarks/ablation.md, measured without ROLLING_DEVIATIONS). On all 136 hourly pairs the NLL is
better without mining [5] (benchmarks/mining.md).
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from core.errors import InputError, nearest, printable
from core.foreign import read_json
from core.i18n import _


@dataclass(frozen=True)
class Flags:
    """All flags of a run; the comment behind each gives the unit and the off-value."""

    # --- bars and windows: data/bars/read.py, data/market/windows.py, data/market/store.py
    SEQUENCE_LENGTH: int = 60  # bars in one window
    FUTURE_WINDOW: int = 12  # bars from a window's last bar to the end of its label
    MAX_GAP_BARS: int = 5  # missing trading bars that a window may cross; 0: none
    FEATURE_STORE: str = ""  # folder for memory-mapped features; "": in memory

    # --- features beside the indicators of a symbol's own bars: data/features/extra.py,
    #     data/features/own.py, data/features/timeframes.py, data/features/universe.py
    EXTRA_COLUMNS: str = ""  # own columns, "funding_rate:level, open_interest:change"; "": none
    OWN_FEATURES: str = ""  # file of functions marked @feature, "my_features.py"; "": none
    TIMEFRAMES: tuple[int, ...] = ()  # lengths of coarser bars, in bars, such as 4,16; (): off
    MARKET_FEATURES: tuple[str, ...] = ()  # set beside the market; "standard": nine; (): off
    MARKET_FORMS: tuple[str, ...] = ("mean", "difference", "spread")  # of each of them
    MARKET_MIN_SYMBOLS: int = 4  # with fewer at a bar there is no market

    # --- labels: data/market/labels.py, data/market/relative.py
    LABEL_METHOD: str = "volatility"  # volatility | fixed | triple_barrier
    LABEL_REFERENCE: str = "none"  # none | market: the move less the market's over the same bars
    PRICE_CHANGE_THRESHOLD: float = 0.01  # relative price move; used by "fixed" alone
    TARGET_CLASS_RATIOS: tuple[float, ...] = (0.33, 0.40, 0.33)  # SELL, HOLD, BUY; any scale

    # --- split by calendar time: data/market/split.py
    VALIDATION_FRACTION: float = 0.15  # share of the time range
    TEST_FRACTION: float = 0.15  # share of the time range
    EMBARGO_BARS: int = 12  # bars kept free between the splits, beyond the purge; 0: off
    WALK_FORWARD_FOLDS: int = 1  # models trained one after another in time; 1: single split
    WALK_FORWARD_ROLLING: bool = False  # training span of constant length; false: expanding

    # --- [8] batches balanced over classes and symbols:
    #     data/batches/sampling.py, data/batches/sequence_plan.py
    CLASS_BALANCED_BATCHING: bool = True  # [8] quotas from TARGET_CLASS_RATIOS; false: off
    SYMBOL_STRATIFIED_BATCHING: bool = True  # [8] symbols spread inside each class; false: off
    LABELS_PER_SEQUENCE: int = 0  # labels of a training sequence; 0: SEQUENCE_LENGTH; 1: windows
    SUPERVISED_BATCH_SIZE: int = 16  # sequences per batch; windows if LABELS_PER_SEQUENCE = 1
    STEPS_PER_EPOCH: int = 0  # batches per epoch; 0: one pass over the windows, more if it is short
    USE_UNIQUENESS_WEIGHTS: bool = False  # weigh windows by average label uniqueness; false: off
    RECENCY_HALF_LIFE: int = 0  # bars after which a label weighs half; 0: off

    # --- [7] light augmentation of training batches: data/batches/augment.py
    USE_AUGMENTATIONS: bool = True  # [7] false: off
    AUG_NOISE_STD: float = 0.02  # [7] in standard deviations of each feature; 0: off
    AUG_TIME_SHIFT: int = 2  # [7] bars, only earlier; at most a sixth of FUTURE_WINDOW; 0: off
    AUG_MASK_PROB: float = 0.1  # [7] share of windows that get a time mask; 0: off
    AUG_MASK_MAX_T: int = 4  # [7] bars in the longest mask; 0: off

    # --- the network:
    #     models/xlstm_rl_model.py, models/layers/mlstm_block.py, models/layers/slstm_block.py
    XLSTM_BLOCKS: str = "ms"  # m: mLSTM block, s: sLSTM block, first to last
    XLSTM_UNITS: int = 32  # width of the residual stream
    XLSTM_HEADS: int = 4  # heads of every block; divides XLSTM_UNITS
    ROLLING_DEVIATIONS: bool = True  # each feature's, over a window, beside each bar; false: off
    GATE_SOFT_CAP: float = 0.0  # cap of the gate pre-activations; 0: off

    # --- [2] classifier bias from the class prior of the training stream: models/xlstm_rl_model.py
    USE_PRIOR_BIAS: bool = True  # [2] false: off

    # --- [6] regularisation inside the xLSTM:
    #     models/layers/residual_block.py, models/layers/head.py
    DROPOUT_RNN1: float = 0.1  # [6] after the first block; 0: off
    DROPOUT_RNN2: float = 0.1  # [6] after each later block; 0: off
    RECURRENT_DROPOUT: float = 0.1  # [6] one mask per sequence; 0: off
    WEIGHT_DECAY_L2: float = 1e-3  # [6] on kernels alone; 0: off
    LOGIT_CLIP: float = 5.0  # [6] soft cap of the logits in the early epochs; 0: off
    LOGIT_CLIP_RELEASE_EPOCH: int = 2  # [6] epoch in which the cap is gone

    # --- [1] warm-up + cosine learning rate, clipped gradients:
    #     models/training/schedules.py, models/training/optimizers.py
    SUPERVISED_EPOCHS: int = 10  # passes over the training stream
    LR_BASE: float = 2e-3  # [1] the peak
    LR_MIN: float = 1e-5  # [1] at the last step; equal to LR_BASE: constant rate after the warm-up
    LR_WARMUP_EPOCHS: float = 1.0  # [1] epochs of linear rise from 0; 0: off
    GRADIENT_CLIP_NORM: float = 1.0  # [1] global norm of the whole gradient; 0: off

    # --- a training that starts at weights (train --from RUN, retrain): recipe/run/warm.py
    #     It goes on where a whole training ends: loss and mining are those of the last epochs.
    WALK_FORWARD_WARM: bool = False  # folds start at the weights of the one before; false: off
    WARM_EPOCHS: int = 3  # passes over the training stream
    WARM_LR_BASE: float = 5e-4  # the peak
    WARM_LR_WARMUP_EPOCHS: float = 0.25  # epochs of linear rise from 0; 0: off

    # --- [3] from cross-entropy to asymmetric focal loss: models/training/losses.py
    AFL_WARMUP_EPOCHS: int = 2  # [3] epochs over which the weight of cross-entropy falls
    CE_WEIGHT_START: float = 1.0  # [3] share of cross-entropy in the first epoch
    CE_WEIGHT_END: float = 0.3  # [3] share after the warm-up; START = END = 1: off
    AFL_ALPHA: tuple[float, ...] = (1.0, 1.0, 1.0)  # [3] weight of SELL, HOLD, BUY
    AFL_GAMMA: tuple[float, ...] = (1.0, 2.0, 1.0)  # [3] a larger value down-weights a class
    CLASS_SMOOTHING: tuple[float, ...] = (0.05, 0.05, 0.05)  # [3] label smoothing in the focal part

    # --- [4] EMA weights for validation and for the saved model:
    #     models/training/callbacks/ema.py, models/training/optimizers.py
    USE_EMA_VALIDATION: bool = True  # [4] false: off
    EMA_DECAY: float = 0.99  # [4] per step, ramped from below; 0: off

    # --- [5] hard-negative mining on a schedule:
    #     models/training/callbacks/mining.py, data/batches/sampling.py
    USE_HARD_NEGATIVE_MINING: bool = True  # [5] false: off
    HNM_START_EPOCH: int = 5  # [5] first epoch with hard windows (counted from 0)
    HNM_END_EPOCH: int = 15  # [5] epoch in which the hard share reaches its end
    HNM_HARD_SAMPLE_START: float = 0.20  # [5] hard share of each class at the start
    HNM_HARD_SAMPLE_END: float = 0.50  # [5] hard share of each class at the end
    HNM_UPDATE_PERIOD: int = 2  # [5] epochs between two refreshes of the pool
    HNM_TOP_K_FRACTION: float = 0.30  # [5] share of a class that its pool is thinned from
    HNM_TRIM_FRACTION: float = 0.05  # [5] share of highest losses left out as wrong labels
    # Scoring all windows takes a third of a pass over them. Of few the pool is small, and its share
    # is cut: no hard window weighs more than four times what it would without mining.
    HNM_MAX_SCORED: int = 0  # [5] windows scored at a refresh, drawn anew each time; 0: all

    # --- choosing, calibrating and judging:
    #     models/training/callbacks/best_weights.py, models/calibration.py,
    #     evaluation/backtest.py, evaluation/verdict.py, recipe/run/ensemble.py
    CHECKPOINT_METRIC: str = "val_nll"  # val_nll | val_mcc | val_macro_f1: chooses the epoch
    EARLY_STOPPING_EPOCHS: int = 0  # epochs without a better CHECKPOINT_METRIC; 0: off
    VALIDATION_MAX_WINDOWS: int = 32768  # in an epoch; none beyond what a pass costs; 0: all
    RESTORE_LOSS: bool = True  # undo the focal part in the probabilities; false: off
    RESTORE_PRIOR: bool = True  # from batch quotas to natural class frequencies; false: off
    RESTORE_TEMPERATURE: bool = True  # one temperature fitted on validation; false: off
    REFIT: bool = False  # train the shipped model once more, on all bars up to the end; false: off
    COST_BPS: float = 5.0  # trading cost per side in basis points

    # --- one model of several: evaluation/blend/weights.py, recipe/run/ensemble.py
    BLEND: tuple[str, ...] = ("none",)  # joins the network: trees, regression; none: off

    # --- the machine and luck: recipe/run/training.py, recipe/run/ensemble.py
    JIT_COMPILE: bool = True  # XLA for training and prediction; false: off
    SEED: int = 0  # one seed for everything
    ENSEMBLE_SIZE: int = 1  # models of a fold, of seeds SEED, SEED + 1, ..., averaged; 1: off


# What other tools call them.
MEANT = {
    "EPOCHS": "SUPERVISED_EPOCHS",
    "NUM_EPOCHS": "SUPERVISED_EPOCHS",
    "LEARNING_RATE": "LR_BASE",
    "LR": "LR_BASE",
    "BATCH_SIZE": "SUPERVISED_BATCH_SIZE",
    "HORIZON": "FUTURE_WINDOW",
    "LOOKBACK": "SEQUENCE_LENGTH",
    "WINDOW": "SEQUENCE_LENGTH",
    "HIDDEN_SIZE": "XLSTM_UNITS",
    "NUM_HEADS": "XLSTM_HEADS",
    "NUM_LAYERS": "XLSTM_BLOCKS",
    "LAYERS": "XLSTM_BLOCKS",
    "DROPOUT": "DROPOUT_RNN1",
    "WEIGHT_DECAY": "WEIGHT_DECAY_L2",
    "PATIENCE": "EARLY_STOPPING_EPOCHS",
    "THRESHOLD": "PRICE_CHANGE_THRESHOLD",
    "FEES": "COST_BPS",
    "FOLDS": "WALK_FORWARD_FOLDS",
}

# What the flags stood for that an earlier version did not have, where that is not the default.
BEFORE: Mapping[str, Any] = {"ROLLING_DEVIATIONS": False}

# Each is the check and the message; all are evaluated over the flags' values.
RULES = (
    "SEQUENCE_LENGTH >= 2",
    "FUTURE_WINDOW >= 1",
    "MAX_GAP_BARS >= 0",
    "min((2, *TIMEFRAMES)) >= 2",
    "MARKET_FORMS and set(MARKET_FORMS) <= {'mean', 'difference', 'spread'}",
    "MARKET_MIN_SYMBOLS >= 4",
    "LABEL_METHOD in ('volatility', 'fixed', 'triple_barrier')",
    "LABEL_REFERENCE in ('none', 'market')",
    "LABEL_REFERENCE == 'none' or LABEL_METHOD != 'triple_barrier'",
    "PRICE_CHANGE_THRESHOLD > 0",
    "len(TARGET_CLASS_RATIOS) == 3 and min(TARGET_CLASS_RATIOS) > 0",
    "VALIDATION_FRACTION > 0",
    "TEST_FRACTION > 0",
    "VALIDATION_FRACTION + TEST_FRACTION < 1",
    "EMBARGO_BARS >= 0",
    "1 <= WALK_FORWARD_FOLDS <= 1000",
    "0 <= LABELS_PER_SEQUENCE < 2 * SEQUENCE_LENGTH",
    "SUPERVISED_BATCH_SIZE >= 3",
    "STEPS_PER_EPOCH >= 0",
    "RECENCY_HALF_LIFE >= 0",
    "AUG_NOISE_STD >= 0",
    "AUG_TIME_SHIFT >= 0",
    "0 <= AUG_MASK_PROB <= 1",
    "0 <= AUG_MASK_MAX_T < SEQUENCE_LENGTH",
    "XLSTM_BLOCKS and set(XLSTM_BLOCKS) <= {'m', 's'}",
    "XLSTM_UNITS >= 1",
    "XLSTM_HEADS >= 1 and XLSTM_UNITS % XLSTM_HEADS == 0",
    "GATE_SOFT_CAP >= 0",
    "0 <= DROPOUT_RNN1 < 1",
    "0 <= DROPOUT_RNN2 < 1",
    "0 <= RECURRENT_DROPOUT < 1",
    "WEIGHT_DECAY_L2 >= 0",
    "LOGIT_CLIP >= 0",
    "LOGIT_CLIP_RELEASE_EPOCH >= 0",
    "SUPERVISED_EPOCHS >= 1",
    "0 <= LR_MIN <= LR_BASE > 0",
    "0 <= LR_WARMUP_EPOCHS < SUPERVISED_EPOCHS",
    "WARM_EPOCHS >= 1",
    "WARM_LR_BASE > 0",
    "0 <= WARM_LR_WARMUP_EPOCHS < WARM_EPOCHS",
    "GRADIENT_CLIP_NORM >= 0",
    "AFL_WARMUP_EPOCHS >= 0",
    "0 <= CE_WEIGHT_END <= CE_WEIGHT_START <= 1",
    "len(AFL_ALPHA) == 3 and min(AFL_ALPHA) > 0",
    "len(AFL_GAMMA) == 3 and min(AFL_GAMMA) >= 0",
    "len(CLASS_SMOOTHING) == 3 and 0 <= min(CLASS_SMOOTHING) and max(CLASS_SMOOTHING) < 1",
    "0 <= EMA_DECAY < 1",
    "0 <= HNM_START_EPOCH <= HNM_END_EPOCH",
    "0 <= HNM_HARD_SAMPLE_START <= HNM_HARD_SAMPLE_END <= 1",
    "HNM_UPDATE_PERIOD >= 1",
    "HNM_TOP_K_FRACTION > 0",
    "HNM_TRIM_FRACTION >= 0",
    "HNM_TOP_K_FRACTION + HNM_TRIM_FRACTION <= 1",
    "HNM_MAX_SCORED >= 0",
    "CHECKPOINT_METRIC in ('val_nll', 'val_mcc', 'val_macro_f1')",
    "EARLY_STOPPING_EPOCHS >= 0",
    "VALIDATION_MAX_WINDOWS >= 0",
    "COST_BPS >= 0",
    "BLEND == ('none',) or BLEND and set(BLEND) <= {'trees', 'regression'}",
    "0 <= SEED < 2147483648",
    "1 <= ENSEMBLE_SIZE <= 1000",
)


def load(
    assignments: Sequence[str] = (), replay: str | Path | None = None, **overrides: Any
) -> Flags:
    """Returns the checked flags.

    Args:
        assignments: texts `NAME=VALUE`, applied last, as given to `--set`.
        replay: a `config.json` of an earlier run; its values replace the defaults. What that of an
            earlier version does not have is as it was before there was a flag for it.
        **overrides: values by flag name, applied before `assignments`.

    Raises:
        InputError: with a line for every unknown name, wrong type and broken rule.
    """
    types, faults = get_type_hints(Flags), []
    values = dataclasses.asdict(Flags())
    replayed = _read_replay(replay, faults) if replay is not None else {}
    for name, value in [*replayed.items(), *overrides.items(), *_split(assignments, faults)]:
        if name not in types:
            faults.append(_unknown(name))
        else:
            values[name] = value
    for name, value in values.items():
        try:
            values[name] = _coerce(value, types[name])
        except (TypeError, ValueError, OverflowError):
            faults.append(
                _(
                    "{name} must be {kind}, got {value}",
                    name=name,
                    kind=_type_name(types[name]),
                    value=printable(repr(value), 200),
                )
            )
    if faults:
        raise InputError(faults)
    changed = {text.partition("=")[0].strip() for text in assignments} or {*overrides}
    broken = [_complaint(rule, values, changed) for rule in RULES if not _holds(rule, values)]
    if broken:
        raise InputError(broken)
    return Flags(**values)


def as_dict(flags: Flags) -> dict[str, Any]:
    """Returns the flags as a dictionary that JSON can hold, in the order of this file."""
    return dataclasses.asdict(flags)


def _split(assignments: Sequence[str], faults: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in assignments:
        name, equals, value = text.partition("=")
        if equals:
            pairs.append((name.strip(), value.strip()))
        else:
            faults.append(_("--set needs NAME=VALUE, got {text}", text=printable(repr(text), 200)))
    return pairs


def _read_replay(path: str | Path, faults: list[str]) -> dict[str, Any]:
    try:
        content = read_json(Path(path))
    except OSError as error:
        faults.append(
            _("cannot read the flags in {path}: {strerror}", path=path, strerror=error.strerror)
        )
        return {}
    except ValueError as error:
        faults.append(
            _(
                "{path} must be a config.json of an earlier run: {error}",
                path=path,
                error=printable(str(error), 200),
            )
        )
        return {}
    if not isinstance(content, dict):
        faults.append(
            _(
                "{path} must hold one JSON object, got {name}",
                path=path,
                name=type(content).__name__,
            )
        )
        return {}
    # A run's has all flags of its version; one by hand a few.
    return {**BEFORE, **content} if len(content) > len(dataclasses.fields(Flags)) / 2 else content


def meant(name: str) -> str | None:
    """Returns the flag that other tools call so, or that is spelt alike; None for none."""
    name = name.strip("-").replace("-", "_").upper()
    known = [flag.name for flag in dataclasses.fields(Flags)]
    return MEANT.get(name) or nearest(name, known)


def _unknown(name: str) -> str:
    name, close = printable(name), meant(name)
    if close:
        return _("unknown flag {name}; did you mean {close}?", name=name, close=close)
    return _("unknown flag {name}", name=name)


def _coerce(value: Any, kind: Any) -> Any:
    """Returns `value` as `kind`; texts from the command line are parsed."""
    if get_origin(kind) is tuple:
        if isinstance(value, str):
            value = [part for part in value.strip("()[] ").split(",") if part.strip()]
        if not isinstance(value, (list, tuple)):
            raise TypeError
        return tuple(_coerce(item, get_args(kind)[0]) for item in value)
    if kind is bool:
        return _coerce_bool(value)
    if kind is str and isinstance(value, Path):
        value = str(value)
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):  # NumPy's, too
        raise TypeError
    if kind is str:
        if not isinstance(value, str) or not value.isprintable():
            raise TypeError
        return value
    number: Any = kind(value)
    if number != float(value) or not math.isfinite(number) or kind is int and abs(number) >> 63:
        raise ValueError
    return number


def _coerce_bool(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise TypeError


def _type_name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return _("a list of {kind}", kind=get_args(kind)[0].__name__)
    return kind.__name__


def _holds(rule: str, values: Mapping[str, Any]) -> bool:
    words = {"__builtins__": {"len": len, "min": min, "max": max, "set": set}}
    return bool(eval(rule, words, dict(values)))


def _complaint(rule: str, values: Mapping[str, Any], changed: Collection[str]) -> str:
    """Returns a broken rule with its values, and which flags to change along with the changed."""
    words = set(re.findall(r"\w+", rule))
    names = [name for name in values if name in words]
    shown = ", ".join(f"{name} = {printable(repr(values[name]), 200)}" for name in names)
    text = _("need {rule} ({named})", rule=rule, named=shown)
    others = [name for name in names if name not in changed]
    mended = (_holds(rule, {**values, **dict.fromkeys(others, trial)}) for trial in (0, 1, 1e9))
    if 0 < len(others) < len(names) and any(mended):
        text += _("; change {flags} as well", flags=_(" or ").join(others))
    return text
