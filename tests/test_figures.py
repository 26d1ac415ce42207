"""What metrics.json holds is written from dataclasses and read back as them."""

from dataclasses import dataclass, field

import pytest

from evaluation.figures.plain import Mismatch, from_plain, to_plain


@dataclass(frozen=True)
class Part:
    name: str
    rates: list[float]


@dataclass(frozen=True)
class Rare(Part):
    why: str


@dataclass(frozen=True)
class Whole:
    count: int
    parts: dict[str, Rare | Part]
    unknown: float | None
    later: str | None = None
    notes: dict[str, int] = field(default_factory=dict)


WHOLE = Whole(2, {"a": Part("a", [0.5, 1]), "b": Rare("b", [], "few")}, None)
PLAIN = {
    "count": 2,
    "parts": {"a": {"name": "a", "rates": [0.5, 1]}, "b": {"name": "b", "rates": [], "why": "few"}},
    "unknown": None,
    "notes": {},
}


def test_only_what_may_be_missing_is_left_out_and_all_is_read_back():
    assert to_plain(WHOLE) == PLAIN
    assert from_plain(Whole, PLAIN) == WHOLE
    assert from_plain(Whole, PLAIN | {"later": "x"}) == from_plain(
        Whole, PLAIN | {"later": "x", "of_another_version": {"y": 1}}
    )


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"count": True}, "count", True),
        ({"count": 1.5}, "count", 1.5),
        ({"count": 10**400}, "count", 10**400),
        ({"unknown": float("nan")}, "unknown", None),
        ({"unknown": "1"}, "unknown", "1"),
        ({"later": 3}, "later", 3),
        ({"notes": []}, "notes", []),
        ({"parts": {"a": {"name": "a", "rates": [0.5, "1"]}}}, "parts.a.rates.1", "1"),
        ({"parts": {"a": {"name": "a"}}}, "parts.a.rates", None),
        ({"parts": {"a": None}}, "parts.a", None),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(change, name, value):
    with pytest.raises(Mismatch) as refused:
        from_plain(Whole, PLAIN | change)
    assert refused.value.name == name
    assert value is None or refused.value.value == value


def test_what_must_be_there_is_missed():
    for name in ("count", "parts", "unknown"):
        content = {key: value for key, value in PLAIN.items() if key != name}
        if name == "unknown":  # None says the same
            assert from_plain(Whole, content) == WHOLE
            continue
        with pytest.raises(Mismatch, match=name):
            from_plain(Whole, content)
