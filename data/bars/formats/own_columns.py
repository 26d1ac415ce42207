"""Own columns of the bars, beside those that all have: found by the names that were asked for."""

from collections.abc import Mapping, Sequence

from core.errors import InputError, printable
from core.i18n import _
from data.bars.formats.faults import listed, several_columns

# What tools write beside every bar, as `data.bars.layouts.plain` returns it.
FAMILIAR = frozenset(
    """
    closetime quotevolume quoteassetvolume count trades tradecount tradescount numberoftrades
    numtrades transactions n takerbuyvolume takerbuyquotevolume takerbuybasevolume
    takerbuybaseassetvolume takerbuyquoteassetvolume ignore volccy volquote volumecurrency amount
    turnover value vwap vw weightedprice average wap confirm closed otc
    rtype publisherid instrumentid exchange per openint spread factor
    adjopen adjhigh adjlow adjclose adjvolume adjustedclose unadjustedvolume rawclose
    dividends stocksplits capitalgains divcash splitfactor preclose prevclose change changepercent
    pctchg changeovertime repaired
    """.split()
)


class NoSuchColumn(InputError):
    """A column that was asked for by name is not there.

    Attributes:
        what: the fault without the file in which it is.
    """

    def __init__(self, source: str, what: str):
        super().__init__([f"{source}: {what}"])
        self.what = what


def places_of(
    names: Sequence | None, extra: Sequence[str], source: str, taken: Mapping[str, int]
) -> dict[str, int]:
    """Returns where each column stands that was asked for.

    Args:
        names: of all columns, as they are written; None where there are none.
        extra: names that are asked for; where no column is written so, case does not count.
        source: the file's name.
        taken: where what all bars have stands.

    Raises:
        InputError: in one line, where there is no such column, several, or one that is taken.
    """
    if not extra:
        return {}
    if names is None:
        fault = _("there is no header, so no column can be called {name}", name=printable(extra[0]))
        raise NoSuchColumn(source, fault)
    written = [str(name).strip() for name in names]
    small = [name.lower() for name in written]
    places, lacking = {}, []
    for name in extra:
        exact = [i for i, other in enumerate(written) if other == name.strip()]
        matches = exact or [i for i, other in enumerate(small) if other == name.strip().lower()]
        if len(matches) > 1:
            written_so = [written[place] for place in matches]
            raise InputError(several_columns(printable(name), written_so, source))
        if matches:
            places[name] = matches[0]
        else:
            lacking.append(printable(name))
        role = next((r for r, place in taken.items() if r == name or place in matches), None)
        if role is not None:
            raise InputError(
                "{source}: the column {name} is read as the bars' {role}; EXTRA_COLUMNS must "
                "name another",
                source=source,
                name=printable(name),
                role=role,
            )
    if lacking:
        fault = _(
            "EXTRA_COLUMNS names {lacking}, but there is no such column (the columns are {has})",
            lacking=", ".join(lacking),
            has=listed([str(name) or _("a column without a name") for name in names]),
        )
        raise NoSuchColumn(source, fault)
    return places


def not_used(names: Sequence[str]) -> str:
    """Returns a note of the columns that nothing is made of."""
    return _(
        "columns not used: {names}; EXTRA_COLUMNS makes features of them",
        names=listed(names),
    )


def may_be_number(text: str) -> bool:
    """Says whether a column whose first value this is can be one of numbers."""
    try:
        float(text.strip().replace(",", "") or 0)
    except ValueError:
        return text.strip().lower() in ("null", "none", "na", "n/a", "-")
    return True
