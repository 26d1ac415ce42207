"""What is read of the metrics.json of finished runs: no more than is used, so they may be old."""

from dataclasses import dataclass, field

from evaluation.figures.run import PooledScores, Split
from evaluation.figures.scores import Estimate, Interval, Scores, Verdict


@dataclass(frozen=True)
class ValidationSummary:
    """Scores on the validation windows of a fold."""

    direction: float
    nll: float


@dataclass(frozen=True)
class FoldSummary:
    """A fold."""

    validation: ValidationSummary


@dataclass(frozen=True)
class ScoresSummary:
    """Scores on the test windows."""

    direction: float
    movement: float
    mcc: float
    nll: float


@dataclass(frozen=True)
class TradedSummary:
    """The result of trading on the calls; the curve is of the periods of `TradesSummary`."""

    net_return: float
    trades: int
    equity: list[float] | None = None


@dataclass(frozen=True)
class TradesSummary:
    """The result of trading, and the days on which its periods begin."""

    model: TradedSummary
    periods: list[str] | None = None


@dataclass(frozen=True)
class RankingSummary:
    """How well the model ranks symbols."""

    rank_correlation: Estimate | None = None
    timing: Estimate | None = None


@dataclass(frozen=True)
class CrossSectionSummary:
    """The symbols ranked within bars; without a model there are too few of them."""

    model: RankingSummary | None = None


@dataclass(frozen=True)
class SkillSummary:
    """The interval of a skill."""

    interval: Interval | None = None


@dataclass(frozen=True)
class VerdictSummary:
    """What the verdict says of the labels and of time."""

    block_seconds: float
    relative: bool | None = None
    direction: SkillSummary | None = None


@dataclass(frozen=True)
class RunSummary:
    """What runs are compared by."""

    folds: list[FoldSummary]
    test: ScoresSummary
    costs: TradesSummary
    verdict: VerdictSummary
    cross_section: CrossSectionSummary | None = None


@dataclass(frozen=True)
class NetReturn:
    """What a way to trade brought after costs, share of the capital."""

    net_return: float


@dataclass(frozen=True)
class NetReturns:
    """What trading on the calls of the model and of each baseline brought."""

    model: NetReturn
    baselines: dict[str, NetReturn] = field(default_factory=dict)


@dataclass(frozen=True)
class FoldSplits:
    """The windows of a fold."""

    splits: dict[str, Split]


@dataclass(frozen=True)
class CardSummary:
    """What a card of a run shows."""

    verdict: Verdict
    test: Scores
    baselines: dict[str, PooledScores]
    costs: NetReturns
    folds: list[FoldSplits]
