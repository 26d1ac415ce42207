"""What is known of a model's answers to some windows: scores, verdict, trades, ranks.

The fields are the keys of metrics.json. An interval is the lower and upper end of 95 %; shares and
probabilities are in the order SELL, HOLD, BUY.
"""

from dataclasses import dataclass, field

Interval = list[float]


@dataclass(frozen=True)
class ClassRates:
    """Shares of the classes among the calls, and among the labels."""

    predicted: list[float]
    true: list[float]


@dataclass(frozen=True)
class Scores:
    """What `evaluation.metrics.evaluate` returns, where each figure is described."""

    direction: float
    movement: float
    mcc: float
    balanced_accuracy: float
    macro_f1: float
    accuracy: float
    nll: float
    ece: float
    classwise_ece: float
    class_rates: ClassRates
    confusion: list[list[int]]
    support: list[int]


@dataclass(frozen=True)
class Skill:
    """A skill of the model beside that of the baseline, as MCC."""

    mcc: float
    interval: Interval
    baseline: float
    difference: float
    difference_interval: Interval


@dataclass(frozen=True)
class Shares:
    """How often a class is called, and how often it is true."""

    called: float
    true: float


@dataclass(frozen=True)
class Verdict:
    """What `evaluation.verdict.verdict` returns, and what is added to it.

    The result of trades (`with_trades`) and hardly called classes by name (`with_calls`) are of the
    same module. `relative` is true where labels are relative to the market, `refit_until` the end
    of the bars that the shipped model was trained on once more.
    """

    skill_in_direction: str
    skill_in_movement: str
    better_than_baseline: str | None
    baseline: str
    direction: Skill
    movement: Skill
    mcc: float
    mcc_interval: Interval
    num_blocks: int
    block_seconds: float
    trials: int
    num_folds: int
    net_return: float | None = None
    trades: int | None = None
    baseline_net_return: float | None = None
    buy_and_hold_net_return: float | None = None
    cost_bps: float | None = None
    hardly_called: dict[str, Shares] = field(default_factory=dict)
    relative: bool | None = None
    refit_until: str | None = None
    sentence: str | None = None


@dataclass(frozen=True)
class PartSkill:
    """The skills on a part of the windows: a month, a year or a symbol."""

    name: str
    windows: int
    direction: float
    direction_interval: Interval | None
    movement: float
    movement_interval: Interval | None
    num_blocks: int


@dataclass(frozen=True)
class SkillByPart:
    """What `evaluation.skill.skill_by_part` returns."""

    by_month: list[PartSkill]
    by_year: list[PartSkill]
    by_symbol: list[PartSkill]


@dataclass(frozen=True)
class ByCost:
    """The result of the same trades at each of `Trades.costs`."""

    net_return: list[float]
    sharpe: list[float | None]


@dataclass(frozen=True)
class Traded:
    """What one way to trade brought; see `evaluation.backtest.simulate_trades`."""

    net_return: float
    gross_return: float
    sharpe: float | None
    turnover: float
    drawdown: float
    trades: int
    hit_rate: float | None
    gross_bps_per_trade: float | None
    equity: list[float]
    by_cost: ByCost


@dataclass(frozen=True)
class Trades:
    """What `evaluation.backtest.simulate_trades` returns."""

    model: Traded
    buy_and_hold: Traded
    baselines: dict[str, Traded]
    cost_bps: float
    holding_bars: int
    symbols: int
    period_days: int
    years: float
    periods: list[str]
    costs: list[float]


@dataclass(frozen=True)
class Estimate:
    """A mean over bars; None where no bar has a value, or there is no interval."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class AgedEstimate:
    """The rank correlation of answers that are some bars old."""

    bars: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Book:
    """What `evaluation.across.book.best_against_worst` returns."""

    gross: Estimate
    net: Estimate
    turnover: float
    gross_return: float
    net_return: float
    sharpe: float | None
    drawdown: float
    gross_curve: list[float]
    net_curve: list[float]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well a forecaster ranks the symbols of a bar; `lead` is the model's over a baseline."""

    lead: Estimate | None = None
    rank_correlation: Estimate
    timing: Estimate
    tilt: Estimate
    ages: list[AgedEstimate]
    fifths: list[Estimate]
    book: Book


@dataclass(frozen=True)
class FewSymbols:
    """Why nothing is ranked: no bar has more than `most_symbols` symbols."""

    most_symbols: int
    left_out: str | None = None


@dataclass(frozen=True)
class CrossSection:
    """What `evaluation.across.cross_section.cross_section` returns where symbols are enough."""

    label_reference: str
    bars: int
    symbols: int
    symbols_a_bar: float
    horizon_bars: int
    recent_days: float
    cost_bps: float
    num_blocks: int
    block_seconds: float
    curve_times: list[str]
    model: Ranking
    baselines: dict[str, Ranking]
    sentence: str | None = None


@dataclass(frozen=True)
class KnownOptimum:
    """What the best answers to a made-up market reach; None where that is not known."""

    market: str
    mcc: float | None
    nll: float | None
    direction: float | None
    movement: float | None
    sentence: str | None = None
