"""What is read of the metrics.json of finished runs: no more than is used, so they may be old."""

from dataclasses import dataclass, field

from evaluation.figures.plain import Mismatch
from evaluation.figures.run import PooledScores, Split
from evaluation.figures.scores import Estimate, Interval, Scores, Verdict

_LONGEST = 1e15  # seconds


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

    def __post_init__(self):
        if not 1 <= self.block_seconds <= _LONGEST:
            raise Mismatch("block_seconds", self.block_seconds)


@dataclass(frozen=True)
class RunSummary:
    """What runs are compared by."""

    folds: list[FoldSummary]
    test: ScoresSummary
    costs: TradesSummary
    verdict: VerdictSummary
    cross_section: CrossSectionSummary | None = None

    def __post_init__(self):
        _check_folds(self.folds)


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

    def __post_init__(self):
        _check_folds(self.folds)


@dataclass(frozen=True)
class ValidationNLL:
    """The NLL on the validation windows of a fold."""

    nll: float


@dataclass(frozen=True)
class FoldNLL:
    """A fold."""

    validation: ValidationNLL


@dataclass(frozen=True)
class NLLSummary:
    """What the cells of a study are ranked by."""

    folds: list[FoldNLL]

    def __post_init__(self):
        _check_folds(self.folds)


@dataclass(frozen=True)
class BlockSummary:
    """What the windows of a cell are grouped by."""

    verdict: VerdictSummary


@dataclass(frozen=True)
class EpochSeconds:
    """The seconds of the epochs that were timed."""

    seconds_per_epoch: list[float]

    def __post_init__(self):
        if not all(0 <= seconds <= _LONGEST for seconds in self.seconds_per_epoch):
            raise Mismatch("seconds_per_epoch", self.seconds_per_epoch)


@dataclass(frozen=True)
class EpochSummary:
    """What the cost of a cell is computed from."""

    num_folds: int
    timing: EpochSeconds

    def __post_init__(self):
        if self.num_folds < 1:
            raise Mismatch("num_folds", self.num_folds)


def _check_folds(folds: list) -> None:
    if not folds:
        raise Mismatch("folds", folds)
