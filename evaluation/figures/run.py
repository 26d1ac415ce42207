"""metrics.json as a whole: what each fold gave, and what all folds gave together."""

from dataclasses import dataclass
from typing import Any

from evaluation.figures.scores import (
    CrossSection,
    FewSymbols,
    Interval,
    KnownOptimum,
    Scores,
    SkillByPart,
    Trades,
    Verdict,
)


@dataclass(frozen=True)
class Split:
    """The windows of a split, and how many of them are of each class by name."""

    windows: int
    class_counts: dict[str, int]
    first_time: str
    last_time: str


@dataclass(frozen=True)
class SplitScores:
    """The scores of a forecaster on the windows of a fold."""

    validation: Scores
    test: Scores


@dataclass(frozen=True)
class PooledScores:
    """The scores of a forecaster on the test windows of all folds."""

    test: Scores


@dataclass(frozen=True)
class Chosen:
    """The epoch with the best value of a metric; an ensemble has no single epoch."""

    metric: str
    epoch: int | None = None


@dataclass(frozen=True)
class CollapseForecast:
    """The constant answer without signal, by class; see `models.training.collapse_forecast`."""

    probabilities: dict[str, float]
    favoured: str
    margin: float


@dataclass(frozen=True)
class Alarm:
    """An alarm of `models.training.callbacks.collapse_alarm`, of a member of an ensemble."""

    epoch: int
    kind: str
    favoured: str
    rate: float
    share: float
    kl: float
    spread: float
    mcc: float
    member: int | None = None
    message: str | None = None


@dataclass(frozen=True)
class Collapse:
    """What was to be expected without signal, and what was seen."""

    forecast: CollapseForecast
    alarms: list[Alarm]


@dataclass(frozen=True)
class Label:
    """How the windows of a fold were labelled."""

    method: str
    reference: str
    future_window_bars: int
    threshold: float


@dataclass(frozen=True)
class Drawn:
    """The windows of a class or symbol, and how often each was drawn on average."""

    windows: int
    repeats: float


@dataclass(frozen=True)
class Repeats:
    """How often an epoch drew a window; see `data.batches.sampling.BatchPlan`."""

    epoch: int
    batches: int
    reached: float
    largest: float
    classes: dict[str, Drawn]
    symbols: dict[str, Drawn]


@dataclass(frozen=True)
class HardPool:
    """The hard windows of a class; see `models.training.callbacks.mining`."""

    scored: int
    ranks: list[float]
    p_true: float
    pool: int
    share_asked: float
    share_given: float
    multiplier: float
    effective_size: float


@dataclass(frozen=True)
class Refresh:
    """The pools of hard windows, by class name, that hold from an epoch on."""

    epoch: int
    scored: int
    classes: dict[str, HardPool]


@dataclass(frozen=True)
class FeatureRise:
    """How much the NLL rises without a feature, in nats."""

    name: str
    rise: float
    interval: Interval | None


@dataclass(frozen=True)
class LookbackRise:
    """How much the NLL rises with the newest bars alone, in nats."""

    bars: int
    nll: float
    rise: float
    interval: Interval | None


@dataclass(frozen=True)
class Importance:
    """What `evaluation.importance.explain` returns."""

    windows: int
    nll: float
    features: list[FeatureRise]
    lookback: list[LookbackRise]


@dataclass(frozen=True)
class BlendNLL:
    """The NLL of a blend, in nats."""

    nll: float
    interval: Interval | None


@dataclass(frozen=True)
class MemberNLL(BlendNLL):
    """The NLL of a member of a blend, and what the blend's is above it."""

    difference: float
    difference_interval: Interval | None


BlendNLLs = dict[str, MemberNLL | BlendNLL]  # "blend", then its members by name


@dataclass(frozen=True)
class BlendedNetwork:
    """The network of a blend, as it would be alone."""

    calibration: dict[str, Any]
    validation: Scores
    test: Scores


@dataclass(frozen=True)
class Blend:
    """The blend of a fold: its weights and figures by the names of its members."""

    weights: dict[str, float]
    network: BlendedNetwork
    validation: BlendNLLs
    test: BlendNLLs


@dataclass(frozen=True)
class PooledBlend:
    """The blends of all folds together."""

    network: PooledScores
    test: BlendNLLs


@dataclass(frozen=True)
class Member:
    """A member of an ensemble, as it would be alone."""

    seed: int
    chosen: Chosen
    calibration: dict[str, Any]
    mining: list[Refresh]
    validation: Scores
    test: Scores


@dataclass(frozen=True)
class FoldMetrics:
    """What is known of one fold alone."""

    splits: dict[str, Split]
    prior: list[float]
    validation: Scores
    test: Scores
    baselines: dict[str, SplitScores]
    chosen: Chosen
    calibration: dict[str, Any]
    collapse: Collapse
    label: Label
    dropped: dict[str, int]
    repeats: Repeats
    mining: list[Refresh]
    drift: dict[str, float]
    blend: Blend | None = None
    members: list[Member] | None = None
    importance: Importance | None = None


@dataclass(frozen=True)
class Timing:
    """Where the seconds of the training went; see `recipe.run.metrics.training_time`."""

    seconds_per_epoch: list[float]
    training_seconds_per_epoch: list[float]
    labels_per_second: float | None
    share_outside_step: float | None
    training_seconds: float
    compilation_seconds: float
    validation_seconds: float
    mining_seconds: float
    blend_seconds: float | None = None
    refit_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Refit:
    """The training of the shipped model on all bars; the losses are of each member's epochs.

    `blend` has the weights of what the model is blended from, by name.
    """

    windows: int
    training_period: list[str]
    prior: list[float]
    epochs: list[int]
    temperature: float | None
    blend: dict[str, float] | None = None
    loss: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The content of metrics.json; what stands beside the folds is pooled over their test windows.

    A run without importance is brief: it has no verdict beside its figures.
    """

    num_folds: int
    verdict: Verdict
    skill: SkillByPart
    test: Scores
    baselines: dict[str, PooledScores]
    costs: Trades
    cross_section: CrossSection | FewSymbols
    blend: PooledBlend | None = None
    timing: Timing
    seed: int
    folds: list[FoldMetrics]
    known_optimum: KnownOptimum | None = None
    refit: Refit | None = None
