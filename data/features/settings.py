"""Which features rows have: what training writes into a model's contract and serving reads."""

from dataclasses import dataclass, fields
from typing import Any

from core.contract import Contract
from core.errors import InputError, hint
from core.i18n import _
from data.features.extra import ExtraColumn, columns_of, extra_past_bars, parse_extra
from data.features.indicators import FEATURE_NAMES, INTRADAY_NAMES, WARM_UP_BARS
from data.features.own import OwnFeatures, known_features
from data.features.timeframes import PAST_COARSE_BARS, timeframe_names

STANDARD = (
    "log_return_1",
    "log_return_3",
    "log_return_12",
    "log_return_24",
    "roc",
    "rsi",
    "ema_distance_50",
    "realised_volatility",
    "relative_volume",
)
FORMS = ("mean", "difference", "spread")  # how a feature stands beside the market
LEAST_SYMBOLS = 4


@dataclass(frozen=True)
class FeatureSettings:
    """Which features rows have beside the indicators of a symbol's own bars.

    Attributes:
        timeframes: lengths of coarser bars, in bars, at least 2 each; see
            `data.features.timeframes`.
        extra: features of own columns of the bars; see `data.features.extra`.
        fill_bars: bars after its own for which a value of an own column counts.
        market: the symbol's own features that are also set beside the market: see
            `data.features.universe`. Any but those of the clock.
        market_forms: of "mean", "difference" and "spread".
        market_min_symbols: with fewer at a bar there is no market; at least 4, so that one symbol
            alone never moves the mean.
        own: features of one's own functions; see `data.features.own`.

    Examples:
        >>> settings = FeatureSettings(timeframes=(8,), market=("rsi",))
        >>> settings.names(intraday=False)[26:28], settings.warm_up_bars
        (('x8_log_return_1', 'x8_log_return_3'), 200)
        >>> settings.names(intraday=False)[-3:]
        ('market_mean_rsi', 'market_difference_rsi', 'market_spread_rsi')
    """

    timeframes: tuple[int, ...] = ()
    extra: tuple[ExtraColumn, ...] = ()
    fill_bars: int = 0
    market: tuple[str, ...] = ()
    market_forms: tuple[str, ...] = FORMS
    market_min_symbols: int = LEAST_SYMBOLS
    own: OwnFeatures | None = None

    def __post_init__(self):
        own = self.own_names(intraday=False)
        unknown = [name for name in self.market if name not in own]
        faults = []
        if unknown or len(set(self.market)) < len(self.market):
            faults.append(
                _(
                    "the features beside the market must be standard, or some of {known}, each "
                    "once; got {got}",
                    known=", ".join(own),
                    got=", ".join(unknown or self.market),
                )
                + "".join(hint(name, ["standard", *own]) for name in unknown[:1])
            )
        twice = len(set(self.market_forms)) < len(self.market_forms)
        if not self.market_forms or twice or not set(self.market_forms) <= set(FORMS):
            faults.append(
                _(
                    "the forms of features beside the market must be some of {known}, each once; "
                    "got {got}",
                    known=", ".join(FORMS),
                    got=", ".join(self.market_forms) or _("nothing"),
                )
            )
        if self.market_min_symbols < LEAST_SYMBOLS:
            faults.append(
                _(
                    "a market must have at least {least} symbols, got {got}",
                    least=LEAST_SYMBOLS,
                    got=self.market_min_symbols,
                )
            )
        if any(factor < 2 for factor in self.timeframes) or len(set(self.timeframes)) < len(
            self.timeframes
        ):
            faults.append(
                _(
                    "coarser bars must have at least 2 bars each, each length once; got {got}",
                    got=self.timeframes,
                )
            )
        names = self.names(intraday=True)
        if not faults and len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            faults.append(_("two features would be called {name}; rename the column", name=twice))
        if faults:
            raise InputError(faults)

    @property
    def columns(self) -> tuple[str, ...]:
        """Own columns that the bars must have."""
        return columns_of(self.extra)

    @property
    def warm_up_bars(self) -> int:
        """Bars of a symbol before its first row."""
        past = [PAST_COARSE_BARS * factor for factor in self.timeframes]
        past += [self.own.past_bars] if self.own else []
        return max(WARM_UP_BARS, *past, extra_past_bars(self.fill_bars) if self.extra else 0)

    def own_names(self, *, intraday: bool) -> tuple[str, ...]:
        """Returns the names of the columns that a symbol's own bars fill, in their order."""
        coarse = [name for factor in self.timeframes for name in timeframe_names(factor)]
        extra = [column.feature_name for column in self.extra]
        own = self.own.names if self.own else ()
        return (*FEATURE_NAMES, *(INTRADAY_NAMES if intraday else ()), *coarse, *extra, *own)

    def names(self, *, intraday: bool) -> tuple[str, ...]:
        """Returns the names of all columns, in their order."""
        beside = [f"market_{form}_{name}" for name in self.market for form in self.market_forms]
        return (*self.own_names(intraday=intraday), *beside)

    def as_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["extra"] = [str(column) for column in self.extra]
        functions = values.pop("own")
        values |= {"own": functions.as_dict()} if functions else {}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def settings_of(contract: Contract) -> FeatureSettings:
    """Returns the settings in a model's contract; those of before there were any, if none.

    Raises:
        InputError: where they are not those of this version, or the file of its own features was
            not loaded.
    """
    stored = contract.get("features", {})
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        values["extra"] = parse_extra(",".join(values.get("extra", ())))
        values |= {"own": known_features(values["own"])} if values.get("own") else {}
        return FeatureSettings(**values)
    except (TypeError, AttributeError) as error:
        raise InputError(
            "the model's features must be made by settings of this version, got {stored}",
            stored=stored,
        ) from error
