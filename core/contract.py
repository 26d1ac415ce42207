"""The contract of a model file, checked: somebody else may have written it.

Needs no Keras: what serves a model on another runtime reads the same contract.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from core.errors import InputError, printable
from core.i18n import N_, _

Rule = tuple[Callable[[Any], bool], str]
MOST_NAMES, MOST_LETTERS = 100_000, 200
LONGEST_BAR_S = 1e9  # 31 years
_SHARES = 1e-12, 1e12  # of a class, any positive scale
_TEMPERATURES = 1e-9, 1e9


class Label(TypedDict):
    """How the labels of a model's training windows were made."""

    method: str
    reference: str
    future_window_bars: int
    threshold: float


class Call(TypedDict):
    """How a class is called: by which rule, beside which class frequencies (classes,)."""

    rule: str
    prior: list[float]


class Contract(TypedDict):
    """What a model says of its training to whoever serves it; see `models.deployable`.

    A file that was written before a key came, or by hand, may lack all but those that
    `check_contract` needs; whoever reads another one looks first.
    """

    class_names: list[str]
    feature_names: list[str]
    features: dict[str, Any]
    warm_up_bars: int
    sequence_length: int
    max_gap_bars: int
    gaps: str
    intraday: bool
    interval_seconds: float
    label: Label
    priors: dict[str, list[float]]
    call: Call
    restoration: dict[str, Any]
    temperature: float
    training_ranges: list[list[float]]
    training_period: list[str]
    symbols: list[str]
    universe: list[str]
    versions: NotRequired[dict[str, str]]
    refit: NotRequired[dict[str, str]]
    blend: NotRequired[dict[str, float]]


def check_contract(contract: Any, source: str) -> None:
    """Raises InputError, a line for each fault, where a contract is none that this project writes.

    Args:
        contract: see `models.deployable.ModelContract`; the values are of JSON.
        source: what the faults name.
    """
    if not isinstance(contract, Mapping):
        raise InputError(_told(source, "", contract, N_("an object")))
    faults = []
    for name, (holds, what) in _RULES.items():
        if name not in contract:
            if name in _NEEDED:
                faults.append(_("{source}: its contract lacks {name}", source=source, name=name))
        elif not holds(contract[name]):
            faults.append(_told(source, name, contract[name], what))
    if not faults:
        faults = [_told(source, *fault) for fault in _across(contract)]
    if faults:
        raise InputError(faults)


def is_number(value: Any, least: float = -1e300, largest: float = 1e300) -> bool:
    """Says whether a value of JSON is a number within bounds; NaN is not, nor true or false."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and least <= value <= largest
    )


def is_count(value: Any, least: int = 0, largest: int = 1 << 31) -> bool:
    """Says whether a value of JSON is a whole number within bounds."""
    return isinstance(value, int) and is_number(value, least, largest)


def is_text(value: Any) -> bool:
    """Says whether a value of JSON is a short text that a terminal may show."""
    return isinstance(value, str) and 0 < len(value) <= MOST_LETTERS and value.isprintable()


def _told(source: str, name: str, value: Any, what: str) -> str:
    return _(
        "{source}: {name} of its contract must be {what}, got {value}",
        source=source,
        name=name or _("all"),
        what=_(what),
        value=printable(repr(value)),
    )


def _across(contract: Mapping[str, Any]):
    """Yields name, value and rule of what does not fit the rest of the contract."""
    classes, features = len(contract["class_names"]), len(contract["feature_names"])
    priors = dict(contract.get("priors", {}))
    priors |= {"call.prior": contract["call"]["prior"]} if "call" in contract else {}
    for name, prior in priors.items():
        if not _are_shares(prior) or len(prior) != classes:
            yield name, prior, N_("a positive number for each class")
    if contract.get("features", {}).get("market") and not {"symbols", "universe"} <= set(contract):
        yield "universe", contract.get("universe"), _NAMES
    ranges = contract.get("training_ranges")
    if ranges is not None and not all(len(ends) == features for ends in ranges):
        yield "training_ranges", ranges, N_("the low ends and the high ends of each feature")


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MOST_NAMES and all(map(is_text, value))


def _are_shares(value: Any) -> bool:
    return isinstance(value, list) and all(is_number(part, *_SHARES) for part in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_call(value: Any) -> bool:
    return isinstance(value, Mapping) and is_text(value.get("rule")) and "prior" in value


def _are_ranges(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(ends, list) and all(map(is_number, ends)) for ends in value)
    )


def _is_period(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and all(map(is_text, value))):
        return False
    try:
        first, last = (datetime.datetime.fromisoformat(text) for text in value)
        return first <= last and 1800 < first.year and last.year < 2262
    except (ValueError, TypeError):  # TypeError: one has a time zone
        return False


_TEXT = N_("a text of at most 200 letters")
_OBJECT = N_("an object")
_NAMES = N_("a list of names")
_RULES: dict[str, Rule] = {
    "class_names": (_are_names, _NAMES),
    "feature_names": (_are_names, _NAMES),
    "sequence_length": (lambda value: is_count(value, 1), N_("a whole number above 0")),
    "max_gap_bars": (is_count, N_("a whole number, 0 or more")),
    "warm_up_bars": (is_count, N_("a whole number, 0 or more")),
    "intraday": (lambda value: isinstance(value, bool), N_("true or false")),
    "interval_seconds": (
        lambda value: is_number(value, 1e-3, LONGEST_BAR_S),
        N_("the seconds of a bar"),
    ),
    "features": (_is_object, _OBJECT),
    "universe": (_are_names, _NAMES),
    "gaps": (is_text, _TEXT),
    "label": (_is_object, _OBJECT),
    "priors": (_is_object, _OBJECT),
    "call": (_is_call, N_("an object with rule and prior")),
    "restoration": (_is_object, _OBJECT),
    "temperature": (
        lambda value: is_number(value, *_TEMPERATURES),
        N_("a finite number above 0"),
    ),
    "training_ranges": (_are_ranges, N_("the low ends and the high ends of each feature")),
    "training_period": (_is_period, N_("the first and the last time")),
    "symbols": (_are_names, _NAMES),
    "versions": (_is_object, _OBJECT),
}
_NEEDED = (
    "class_names",
    "feature_names",
    "sequence_length",
    "max_gap_bars",
    "intraday",
    "interval_seconds",
)
